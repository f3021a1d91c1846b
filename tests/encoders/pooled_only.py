"""What ``pooled_only`` owes: the numbers of AGG, and nothing beside them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.layer_test_case import randomise
from vatt_tf.layers.random import seed_scope

KEY = np.array([3, 1], "int32")


class PooledOnlyTests:
    """Mix-in of the tests of a tower whose pooled features are the output of AGG."""

    @pytest.mark.parametrize("training", [False, True])
    def test_pooled_only_gives_the_same_features_and_gradients(self, training):
        tower = self.config["config"]
        rates = {"dropout_rate", "position_dropout_rate"} & set(tower.to_dict())
        tower = dataclasses.replace(tower, **dict.fromkeys(rates, 0.0))
        encoder = self.layer_class(tower, dtype="float64")
        encoder.build(self.inputs().shape)
        randomise(encoder.trainable_weights)
        values = [weight.value for weight in encoder.trainable_weights]
        found = []
        for pooled_only in (False, True):
            with seed_scope(KEY), tf.GradientTape() as tape:
                outputs = encoder(self.inputs(), training=training, pooled_only=pooled_only)
                target = tf.reduce_sum(tf.sin(outputs["features_pooled"]))
            gradients = tape.gradient(target, values, unconnected_gradients="zero")
            found.append([outputs["features_pooled"], *map(tf.convert_to_tensor, gradients)])
        assert set(outputs) == {"features_pooled"}
        for expected, ours in zip(*found, strict=True):
            np.testing.assert_allclose(
                ours, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max() + 1e-7
            )

    @pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
    def test_pooled_only_keeps_the_compute_dtype(self, dtype):
        encoder = self.make(dtype)
        expected = encoder(self.inputs())["features_pooled"]
        found = encoder(self.inputs(), pooled_only=True)["features_pooled"]
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(
            tf.cast(found, "float32"), tf.cast(expected, "float32"), rtol=0.1, atol=0.1
        )
