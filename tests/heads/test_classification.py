"""The classification head."""

from __future__ import annotations

import numpy as np
from scipy import special

from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.heads.classification import ClassificationHead


class TestSingleLabel(LayerTestCase):
    layer_class = ClassificationHead
    config = {"num_classes": 4, "dropout_rate": 0.2}

    def inputs(self):
        return np.random.default_rng(0).normal(size=(3, 6)).astype("float32")

    def test_values(self):
        layer, inputs = self.make(), self.inputs()
        outputs = layer(inputs)
        logits = inputs @ np.asarray(layer.dense.kernel) + np.asarray(layer.dense.bias)
        np.testing.assert_allclose(outputs["logits"], logits, atol=1e-6)
        np.testing.assert_allclose(outputs["probabilities"], self.probabilities(logits), atol=1e-6)

    def probabilities(self, logits):
        return special.softmax(logits, axis=-1)


class TestMultiLabel(TestSingleLabel):
    config = {**TestSingleLabel.config, "multi_label": True}

    def probabilities(self, logits):
        return special.expit(logits)

    def test_every_class_starts_at_one_in_all(self):
        probabilities = self.make()(np.zeros((1, 6), "float32"))["probabilities"]
        np.testing.assert_allclose(probabilities, 1 / 4, rtol=1e-6)
