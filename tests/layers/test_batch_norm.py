"""Batch normalisation against NumPy in float64."""

from __future__ import annotations

import numpy as np

from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.layers.batch_norm import BatchNormalization


class TestBatchNormalization(LayerTestCase):
    layer_class = BatchNormalization
    config = {"synchronized": True, "momentum": 0.9, "epsilon": 1e-5}

    def inputs(self):
        return np.random.default_rng(0).normal(2.0, 3.0, (6, 5)).astype("float32")

    def test_rows_that_are_alike(self):
        # The mean of the squares has four digits too few for this variance.
        rows = 30.0 + 0.01 * np.random.default_rng(1).normal(size=(8, 5))
        rows = rows.astype("float32").astype("float64")
        layer = BatchNormalization(synchronized=True, momentum=0.0, epsilon=1e-5)
        outputs = layer(rows.astype("float32"), training=True)
        deviations = rows - rows.mean(0)
        variance = np.square(deviations).mean(0)
        np.testing.assert_allclose(layer.moving_mean, rows.mean(0), rtol=1e-6)
        np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-2)
        np.testing.assert_allclose(outputs, deviations / np.sqrt(variance + 1e-5), atol=2e-2)
