"""Dropout and DropToken."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.layers.dropout import Dropout, DropToken, kept_tokens
from vatt_tf.layers.random import seed_scope

KEY = np.array([1, 2], "int32")


class TestDropout(LayerTestCase):
    layer_class = Dropout
    config = {"rate": 0.3}

    def inputs(self):
        return np.ones((2, 5, 4), "float32")

    def test_rate_and_scale(self):
        layer = self.make()
        with seed_scope(KEY):
            outputs = np.asarray(layer(np.ones((400, 500), "float32"), training=True))
        assert abs(np.mean(outputs == 0) - 0.3) < 0.005  # Standard error 0.001.
        np.testing.assert_allclose(outputs[outputs != 0], 1 / 0.7, rtol=1e-6)

    def test_rate_under_mixed_bfloat16(self):
        layer = Dropout(0.1, dtype="mixed_bfloat16")
        layer.build((1000, 1000))
        with seed_scope(KEY):
            outputs = layer(np.ones((1000, 1000), "float32"), training=True)
        # A bfloat16 uniform number would give 0.1016.
        assert abs(np.mean(np.asarray(outputs, "float32") == 0) - 0.1) < 0.0012

    def test_gradient_is_the_mask(self):
        layer, inputs = Dropout(0.3), np.random.default_rng(0).normal(size=(3, 7)).astype("float32")
        layer.build(inputs.shape)
        with tf.GradientTape() as tape, seed_scope(KEY):
            values = tf.constant(inputs)
            tape.watch(values)
            outputs = layer(values, training=True)
        gradient = tape.gradient(outputs, values, output_gradients=tf.constant(2 * inputs))
        np.testing.assert_allclose(gradient, 2 * outputs, rtol=1e-6)

    def test_a_mask_drawn_beforehand(self):
        layer, inputs = self.make(), np.random.default_rng(0).normal(size=(2, 5, 4))
        with seed_scope(KEY):
            expected = layer(inputs.astype("float32"), training=True)
        with seed_scope(KEY):
            kept = layer.draw((2, 5, 4), training=True)
        np.testing.assert_array_equal(layer.apply(inputs.astype("float32"), kept), expected)
        assert layer.draw((2, 5, 4), training=False) is None
        assert layer.apply(inputs, None) is inputs

    def test_same_key_same_mask(self):
        layer, inputs = self.make(), self.inputs()
        with seed_scope(KEY):
            first = np.asarray(layer(inputs, training=True))
        with seed_scope(KEY):
            second = np.asarray(layer(inputs, training=True))
        np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize("training", [True, False])
    def test_rate_zero_and_inference_draw_nothing(self, training):
        layer = Dropout(0.0 if training else 0.5)
        inputs = self.inputs()
        np.testing.assert_array_equal(layer(inputs, training=training), inputs)

    @pytest.mark.parametrize("rate", [-0.1, 1.0])
    def test_bad_rate(self, rate):
        with pytest.raises(ValueError, match=r"rate must be in \[0, 1\)"):
            Dropout(rate)


class TestDropToken(LayerTestCase):
    layer_class = DropToken
    config = {"tokens": 8, "rate": 0.5}

    def inputs(self):
        return np.arange(2 * 8 * 3, dtype="float32").reshape(2, 8, 3)

    def test_keeps_a_random_half_shared_by_the_batch(self):
        layer, inputs = self.make(), self.inputs()
        with seed_scope(KEY):
            outputs = np.asarray(layer(inputs, training=True))
        with seed_scope(KEY):
            indices = np.asarray(layer.indices(8, training=True))
        assert outputs.shape == (2, 4, 3)
        assert len(set(indices)) == 4 and indices.min() >= 0 and indices.max() < 8
        np.testing.assert_array_equal(outputs, inputs[:, indices])

    def test_every_token_is_kept_equally_often(self):
        layer = DropToken(8, 0.5)
        layer.build((None, 8, 1))
        counts = np.zeros(8)
        firsts = set()
        for step in range(300):
            with seed_scope(np.array([step, 0], "int32")):
                indices = np.asarray(layer.indices(8, training=True))
            counts[indices] += 1
            firsts.add(int(indices[0]))
        assert np.all(np.abs(counts - 150) < 45)  # Five standard deviations.
        assert firsts == set(range(8)), "the kept tokens are in shuffled order"

    def test_number_kept_comes_from_the_configured_tokens(self):
        layer = self.make()
        assert layer.indices(30, training=True).shape == (4,)
        with pytest.raises(ValueError, match="keeps 4 tokens, but the clip has only 4"):
            layer.indices(4, training=True)

    def test_inference_and_rate_zero(self):
        assert self.make().indices(8, training=False) is None
        assert DropToken(8, 0.0).indices(8, training=True) is None

    @pytest.mark.parametrize("rate", [0.99, 1.0, -0.5])
    def test_bad_rate(self, rate):
        with pytest.raises(ValueError, match="rate"):
            DropToken(8, rate)


@pytest.mark.parametrize(
    ("tokens", "rate", "kept"),
    [(1568, 0.5, 784), (1200, 0.5, 600), (1568, 0.75, 392), (1200, 0.9, 120), (7, 0.5, 3)],
)
def test_kept_tokens(tokens, rate, kept):
    assert kept_tokens(tokens, rate) == kept
