"""Dropout's masks, drawn or computed of a key: independent coins, as far as statistics can tell."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from vatt_tf.layers.dropout import Dropout
from vatt_tf.layers.fusion import computed_mask, fusion, mask_key, masked, random_bits
from vatt_tf.layers.random import seed_scope

KEY = np.array([1, 2], "int32")


def drawn(shape, rate, key=KEY):
    with seed_scope(key):
        layer = Dropout(rate)
        layer.build(shape)
        return np.asarray(layer.draw(shape, training=True))


def computed(shape, rate, key=KEY):
    return np.asarray(computed_mask(ops.convert_to_tensor(key), shape, rate))


both = pytest.mark.parametrize("mask", [drawn, computed])


@both
@pytest.mark.parametrize("rate", [0.001, 0.1, 0.25, 0.5, 0.9, 0.999])
def test_rate_in_every_quarter_of_a_row(mask, rate):
    dropped = 1.0 - mask((2000, 2000), rate)
    error = (rate * (1 - rate)) ** 0.5 / 1000  # standard error of a quarter
    assert np.abs(dropped.reshape(2000, 4, 500).mean(axis=(0, 2)) - rate).max() < 4 * error


@both
def test_counts_of_rows_and_columns_are_binomial(mask):
    dropped = ~mask((2000, 1600), 0.1)
    for axis, size in ((0, 2000), (1, 1600)):
        variance = dropped.sum(axis=axis).var() / (size * 0.1 * 0.9)
        assert abs(variance - 1) < 0.15  # Standard error 0.03.


@both
def test_the_four_quarters_of_a_row_are_independent(mask):
    quarters = mask((2000, 2000), 0.1).reshape(2000, 4, 500).swapaxes(0, 1).reshape(4, -1)
    correlation = np.corrcoef(quarters) - np.eye(4)
    assert np.abs(correlation).max() < 0.005  # Standard error 0.001.


@both
def test_neighbours_and_keys_are_independent(mask):
    """Elements next to each other, in one column, and at the same place under similar keys."""
    kept = mask((1000, 1024), 0.3)
    pairs = [(kept[:, :-1], kept[:, 1:]), (kept[:-1], kept[1:]), (kept[:-1, :-1], kept[1:, 1:])]
    pairs += [(kept[:, :-size], kept[:, size:]) for size in (2, 16, 256)]
    for key in ((1, 3), (2, 2), (2, 1), (1, 2 + 2**16), (1 + 2**16, 2), (-1, -2)):
        pairs.append((kept, mask((1000, 1024), 0.3, np.array(key, "int32"))))
    for left, right in pairs:
        # Standard error 0.001.
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.005


@both
@pytest.mark.parametrize("shape", [(1,), (3,), (5, 6), (2, 3, 4, 7)])
def test_any_shape(mask, shape):
    assert mask(shape, 0.3).shape == shape


def test_a_key_takes_the_place_of_a_mask_while_chains_are_compiled():
    with seed_scope(KEY):
        assert mask_key((4, 6), 0.3, keras.random.SeedGenerator()) is None
    with seed_scope(KEY), fusion(lambda function: function):
        np.testing.assert_array_equal(mask_key((4, 6), 0.3, keras.random.SeedGenerator()).key, KEY)
        # A size that only the graph knows, or that no int32 counts: drawn all the same.
        assert mask_key((None, 6), 0.3, keras.random.SeedGenerator()) is None
        assert mask_key((2**16, 2**15), 0.3, keras.random.SeedGenerator()) is None


def test_the_hash_is_pcg3d():
    """Against the published code in NumPy, whose unsigned numbers overflow as those of C do."""
    position = np.arange(4096, dtype="uint32")
    x, y, z = (
        v * np.uint32(1664525) + np.uint32(1013904223)
        for v in (position, np.full(4096, 7, "uint32"), np.full(4096, 2**32 - 5, "uint32"))
    )
    x = x + y * z
    y = y + z * x
    z = z + x * y
    x, y, z = (v ^ (v >> np.uint32(16)) for v in (x, y, z))
    expected = x + y * z
    key = np.array([7, -5], "int32")
    np.testing.assert_array_equal(random_bits(key, (64, 64)), expected.reshape(64, 64))


def test_bytes_of_the_hash_are_uniform():
    bits = np.asarray(random_bits(KEY, (2**20,)))
    for shift in (0, 8, 16, 24):
        counts = np.bincount((bits >> np.uint32(shift)) & np.uint32(255), minlength=256)
        chi_squared = np.sum((counts - 4096.0) ** 2) / 4096.0
        assert 150 < chi_squared < 380  # 255 expected, standard deviation 23.


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_masked(dtype):
    values = ops.cast(np.random.default_rng(0).normal(size=(5, 8)), dtype)
    kept = drawn((5, 8), 0.3)
    found = masked(values, ops.convert_to_tensor(kept))
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    expected = np.where(kept, ops.cast(values, "float32"), 0.0)
    np.testing.assert_array_equal(ops.cast(found, "float32"), expected)
    assert masked(values, None) is values


def test_masks_of_heads_first():
    """The order of positions is [heads, B, ...], whatever that of the weights is."""
    key = ops.convert_to_tensor(KEY)
    found = computed_mask(key, (2, 3, 5, 7), 0.3, heads_first=True)
    np.testing.assert_array_equal(found, np.swapaxes(computed((3, 2, 5, 7), 0.3), 0, 1))
