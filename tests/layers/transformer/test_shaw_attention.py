"""Relative keys and values against NumPy loops in float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.layers.random import seed_scope
from vatt_tf.layers.transformer.attention import SelfAttention

HEADS, WIDTH, LENGTH, DISTANCE = 2, 3, 6, 2


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def loops(inputs, weights, bias, scaled):
    """Equations 3 and 4 of Shaw et al., a number at a time; ``weights`` are those of the layer."""
    qkv, qkv_bias, keys, values, output, output_bias = weights
    batch, length, _ = inputs.shape
    inner = HEADS * WIDTH
    mixed = np.zeros((batch, length, inner))
    for clip in range(batch):
        projected = inputs[clip] @ qkv + qkv_bias
        for head in range(HEADS):
            q, k, v = (projected[:, part * inner + head * WIDTH :][:, :WIDTH] for part in range(3))
            for i in range(length):
                scores = np.zeros(length)
                rows = [min(max(j - i, -DISTANCE), DISTANCE) + DISTANCE for j in range(length)]
                for j in range(length):
                    for e in range(WIDTH):
                        scores[j] += q[i, e] * (k[j, e] + keys[rows[j], e])
                    scores[j] /= np.sqrt(WIDTH) if scaled else 1.0
                    scores[j] += bias[clip, 0, 0, j]
                shares = np.exp(scores - scores.max())
                shares /= shares.sum()
                for j in range(length):
                    z = shares[j] * (v[j] + values[rows[j]])
                    mixed[clip, i, head * WIDTH : (head + 1) * WIDTH] += z
    return mixed @ output + output_bias


class TestShawAttention(LayerTestCase):
    layer_class = SelfAttention
    config = {"num_heads": HEADS, "d_kv": WIDTH, "dropout_rate": 0.2, "relative_distance": DISTANCE}

    def inputs(self):
        return random(2, LENGTH, 4).astype("float32")

    def known(self, scaled=True):
        """A layer with large weights, the same in float64, and a bias that hides two tokens."""
        layer = SelfAttention(HEADS, WIDTH, scale_scores=scaled, relative_distance=DISTANCE)
        layer.build((None, LENGTH, 4))
        for number, weight in enumerate(layer.weights):
            weight.assign(random(*weight.shape, seed=number + 1) * 0.7)
        weights = {
            weight.path.split("/", 1)[1]: np.asarray(weight, np.float64) for weight in layer.weights
        }
        names = ("qkv/kernel", "qkv/bias", "relative_keys", "relative_values", "output/kernel",
                 "output/bias")  # fmt: skip
        bias = np.zeros((2, 1, 1, LENGTH), "float32")
        bias[1, ..., -2:] = -1e9
        return layer, [weights[name] for name in names], bias

    @pytest.mark.parametrize("scaled", [True, False])
    def test_against_loops(self, scaled):
        layer, weights, bias = self.known(scaled)
        expected = loops(self.inputs().astype(np.float64), weights, bias, scaled)
        for training in (False, True):
            found = np.asarray(layer(self.inputs(), bias=bias, training=training))
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    def test_gradients_against_differences(self):
        """Of the tables and of the inputs, by central differences of the loops."""
        layer, weights, bias = self.known()
        inputs = self.inputs()
        coefficients = random(2, LENGTH, 4, seed=9)
        with tf.GradientTape() as tape:
            values = tf.constant(inputs)
            tape.watch(values)
            outputs = layer(values, bias=bias, training=True)
            target = tf.reduce_sum(outputs * coefficients.astype("float32"))
        sources = (layer.relative_keys.value, layer.relative_values.value, values)
        found = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(target, sources)]
        operands = [weights[2], weights[3], inputs.astype(np.float64)]

        def value():
            changed = [*weights[:2], *operands[:2], *weights[4:]]
            return np.sum(coefficients * loops(operands[2], changed, bias, True))

        for operand, gradient in zip(operands, found, strict=True):
            for place in np.ndindex(operand.shape):
                kept = operand[place]
                sides = []
                for step in (1e-5, -1e-5):
                    operand[place] = kept + step
                    sides.append(value())
                operand[place] = kept
                expected = (sides[0] - sides[1]) / 2e-5
                assert gradient[place] == pytest.approx(expected, rel=1e-4, abs=1e-4)

    def test_without_relative_vectors_it_is_plain_attention(self):
        layer, _, bias = self.known()
        plain = SelfAttention(HEADS, WIDTH)
        plain.build((None, LENGTH, 4))
        for name in ("qkv", "output_projection"):
            getattr(plain, name).set_weights(getattr(layer, name).get_weights())
        for table in (layer.relative_keys, layer.relative_values):
            table.assign(np.zeros(table.shape))
        inputs = self.inputs()
        np.testing.assert_allclose(
            layer(inputs, bias=bias), plain(inputs, bias=bias), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            layer.attention_weights(inputs, bias=bias),
            plain.attention_weights(inputs, bias=bias),
            rtol=1e-5,
            atol=1e-6,
        )

    def test_dropout_falls_on_values_and_relative_values_alike(self):
        layer = SelfAttention(1, 2, 0.5, relative_distance=1)
        layer.build((None, LENGTH, 4))
        for weight in (layer.qkv.kernel, layer.relative_keys):
            weight.assign(np.zeros(weight.shape))
        layer.qkv.bias.assign([0, 0, 0, 0, 1, 0])  # Values (1, 0), equal weights.
        layer.relative_values.assign([[0, 1]] * 3)
        layer.output_projection.kernel.assign(np.eye(2, 4))
        with seed_scope(np.array([3, 4], "int32")):
            outputs = np.asarray(layer(self.inputs(), training=True))
        np.testing.assert_allclose(outputs[..., 0], outputs[..., 1], rtol=1e-6)
        assert len(np.unique(outputs[..., 0].round(4))) > 1

    def test_softmax_is_float32(self):
        layer = SelfAttention(1, 4, dtype="mixed_float16")
        inputs = random(1, 3, 4).astype("float32")
        layer.build(inputs.shape)
        masked = np.array([0.0, -1e9, -1e9], "float32").reshape(1, 1, 1, 3)
        weights = layer.attention_weights(keras.ops.cast(inputs, "float16"), bias=masked)
        np.testing.assert_array_equal(np.asarray(weights)[..., 0], 1)
