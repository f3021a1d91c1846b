"""Losses of fine-tuning against float64 formulas."""

import numpy as np
import pytest

from vatt_tf.losses import classification as losses


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(6, 5)).astype("float32") * 4


@pytest.fixture
def labels():
    return (np.random.default_rng(1).random((6, 5)) < 0.4).astype("float32")


def test_smoothing_keeps_the_sum():
    one_hot = np.eye(4, dtype="float32")
    smooth = np.asarray(losses.smooth_labels(one_hot, 0.1))
    np.testing.assert_allclose(smooth.sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(smooth[0], [0.925, 0.025, 0.025, 0.025], rtol=1e-6)


def test_softmax_cross_entropy(logits):
    labels = np.asarray(losses.smooth_labels(np.eye(5, dtype="float32")[[0, 1, 2, 3, 4, 0]], 0.1))
    wide = logits.astype("float64")
    log_p = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    np.testing.assert_allclose(
        losses.softmax_cross_entropy(logits, labels), -(labels * log_p).sum(-1), rtol=1e-6
    )


def test_sigmoid_cross_entropy_is_summed_and_does_not_overflow(logits, labels):
    p = 1 / (1 + np.exp(-logits.astype("float64")))
    expected = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).sum(-1)
    np.testing.assert_allclose(losses.sigmoid_cross_entropy(logits, labels), expected, rtol=1e-5)
    far = np.array([[1000.0, -1000.0]], "float32")
    found = losses.sigmoid_cross_entropy(far, np.array([[0.0, 1.0]], "float32"))
    np.testing.assert_allclose(found, [2000.0])


def test_balance_weights(labels):
    labels[2] = 0
    counts = labels.sum(0)
    found = np.asarray(losses.balance_weights(labels, counts))
    for row, weight in zip(labels, found, strict=True):
        named = row > 0
        expected = (row[named] / counts[named]).sum() / row.sum() if row.any() else 1 / counts.max()
        assert weight == pytest.approx(expected, rel=1e-6)
    # A batch in which no clip has a label.
    np.testing.assert_array_equal(losses.balance_weights(0 * labels, 0 * counts), np.ones(6))
