"""Vectors of length 1."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from vatt_tf.losses import contrastive
from vatt_tf.unit_length import l2_normalize


def test_l2_normalize_keeps_zero_and_dtype():
    x = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    out = l2_normalize(x)
    np.testing.assert_allclose(out, [[0.6, 0.8], [0, 0]])
    assert out.dtype == np.float32


def test_vectors_of_an_index_keep_their_bits():
    """A video that is added later stands beside those that an earlier version has written."""
    rng = np.random.default_rng(0)
    for size in (1, 6, 255, 512):
        vector = rng.normal(size=size).astype(np.float32)
        written = vector / max(float(np.linalg.norm(vector)), 1e-12)
        found = l2_normalize(vector, axis=None, dtype=None)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, written)


@pytest.mark.parametrize("epsilon", [1e-12, 1e-24])
def test_tensors_are_scaled_alike(epsilon):
    rows = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    rows[2] = 0.0
    found = contrastive.l2_normalize(tf.constant(rows), epsilon)
    np.testing.assert_allclose(found, l2_normalize(rows), rtol=1e-6)
