"""Self-attention against NumPy, and the buckets of relative positions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.layers.transformer.attention import SelfAttention, relative_buckets


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


class TestSelfAttention(LayerTestCase):
    layer_class = SelfAttention
    config = {"num_heads": 2, "d_kv": 3, "dropout_rate": 0.2}

    def inputs(self):
        return random(2, 5, 4)

    @pytest.mark.parametrize("scale_scores", [True, False])
    def test_against_numpy(self, scale_scores):
        layer = SelfAttention(2, 3, use_bias=True, scale_scores=scale_scores)
        inputs, bias = self.inputs(), random(1, 2, 5, 5)
        layer.build(inputs.shape)
        layer.qkv.bias.assign(random(18))
        query, key, value = np.split(
            inputs @ np.asarray(layer.qkv.kernel) + np.asarray(layer.qkv.bias), 3, axis=-1
        )
        outputs = []
        for head in range(2):
            part = slice(3 * head, 3 * head + 3)
            scores = query[..., part] @ key[..., part].transpose(0, 2, 1)
            scores = scores / (np.sqrt(3) if scale_scores else 1) + bias[:, head]
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            shown = layer.attention_weights(inputs, bias=bias)[:, head]
            np.testing.assert_allclose(shown, weights, rtol=1e-4, atol=1e-6)
            outputs.append(weights @ value[..., part])
        dense = layer.output_projection
        expected = np.concatenate(outputs, -1) @ np.asarray(dense.kernel) + np.asarray(dense.bias)
        np.testing.assert_allclose(layer(inputs, bias=bias), expected, rtol=1e-4, atol=1e-5)

    def test_fused_kernel_starts_like_three_kernels(self):
        layer = SelfAttention(8, 16)
        layer.build((None, 4, 64))
        kernel = np.abs(np.asarray(layer.qkv.kernel))
        limit = np.sqrt(6 / (64 + 128))  # Glorot's for [64, 128].
        assert 0.99 * limit < kernel.max() <= limit

    def test_softmax_is_float32(self):
        layer = SelfAttention(1, 4, dtype="mixed_float16")
        inputs = random(1, 3, 4)
        layer.build(inputs.shape)
        masked = np.array([0.0, -1e9, -1e9], "float32").reshape(1, 1, 1, 3)
        weights = layer.attention_weights(keras.ops.cast(inputs, "float16"), bias=masked)
        np.testing.assert_array_equal(np.asarray(weights)[..., 0], 1)
        assert np.all(np.isfinite(np.asarray(layer(inputs, bias=masked))))


class TestMix:
    """Against einsums in NumPy's order of axes, with TensorFlow's own gradient."""

    @pytest.mark.parametrize("bias_shape", [None, (1, 3, 5, 5), (2, 1, 1, 5), (2, 3, 5, 5)])
    @pytest.mark.parametrize("with_mask", [True, False])
    @pytest.mark.parametrize("agg_only", [True, False])
    def test_outputs_and_gradients(self, bias_shape, with_mask, agg_only):
        layer = SelfAttention(3, 4, dropout_rate=0.2)
        layer.build((2, 5, 6))
        queries = 1 if agg_only else 5
        operands = [tf.constant(random(2, 5, 36))]
        if bias_shape is not None:
            operands.append(tf.constant(random(*bias_shape)))
        kept = None
        if with_mask:
            kept = tf.constant(np.random.default_rng(2).uniform(size=(2, 3, queries, 5)) > 0.3)

        def plain(projected, bias=0.0):
            query, key, value = tf.unstack(tf.reshape(projected, (2, 5, 3, 3, 4)), axis=2)
            weights = tf.nn.softmax(0.5 * tf.einsum("bnhd,bmhd->bhnm", query, key) + bias)
            weights = weights[:, :, :queries]
            if kept is not None:
                weights *= 1.25 * tf.cast(kept, tf.float32)
            return tf.reshape(tf.einsum("bhnm,bmhd->bnhd", weights, value), (2, queries, 12))

        def ours(projected, bias=None):
            return layer.mix(projected, bias, kept, agg_only)

        results = []
        for function in (plain, ours):
            with tf.GradientTape() as tape:
                tape.watch(operands)
                outputs = function(*operands)
                target = tf.reduce_sum(outputs**2) + tf.reduce_sum(tf.sin(outputs))
            results.append([outputs, *tape.gradient(target, operands)])
        for expected, found in zip(*results, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6)


def test_buckets_of_the_paper_sizes():
    """Facts section 3: exact below 8, then growing ranges, keys behind the query 16 higher."""
    buckets = relative_buckets(101)
    backwards = buckets[100, ::-1]  # Distance 0, 1, 2 ... to keys in front of the query.
    np.testing.assert_array_equal(backwards[:8], range(8))
    ranges = {8: (8, 10), 9: (11, 13), 10: (14, 17), 11: (18, 22), 12: (23, 29), 13: (30, 38),
              14: (39, 49), 15: (50, 100)}  # fmt: skip
    for bucket, (first, last) in ranges.items():
        assert set(backwards[first : last + 1]) == {bucket}
    np.testing.assert_array_equal(buckets[0, 1:], backwards[1:] + 16)
    assert set(relative_buckets(17).ravel()) == {*range(11), *range(17, 27)}
