"""Self-attention against NumPy, and the relative position bias."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.layers.fusion import fusion
from vatt_tf.layers.masks import MaskKey
from vatt_tf.layers.transformer import attention
from vatt_tf.layers.transformer.attention import (
    RelativePositionBias,
    SelfAttention,
    attend,
    relative_buckets,
)
from vatt_tf.training.gradients.compilation import compiler_of


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


class TestAttend:
    """The backward pass that computes the weights again, against TensorFlow's own."""

    def operands(self, bias_shape, with_mask):
        rng = np.random.default_rng(1)
        draws = [rng.normal(size=(3, 3, 2, 5, 4))]
        if bias_shape is not None:
            draws.append(rng.normal(size=bias_shape))
        kept = tf.constant(rng.uniform(size=(3, 2, 5, 5)) > 0.3) if with_mask else None
        return [tf.constant(draw, tf.float32) for draw in draws], kept

    @pytest.mark.parametrize("bias_shape", [None, (1, 3, 5, 5), (2, 1, 1, 5), (2, 3, 5, 5)])
    @pytest.mark.parametrize("with_mask", [True, False])
    @pytest.mark.parametrize("most_weights", [50, 10_000])  # 50 is one head.
    def test_outputs_and_gradients(self, bias_shape, with_mask, most_weights):
        operands, kept = self.operands(bias_shape, with_mask)

        def plain(heads, bias=0.0):
            query, key, value = tf.unstack(heads)
            weights = tf.nn.softmax(0.5 * tf.einsum("hbnd,hbmd->bhnm", query, key) + bias)
            if kept is not None:
                weights *= tf.cast(tf.transpose(kept, (1, 0, 2, 3)), tf.float32)
            return 1.25 * tf.einsum("bhnm,hbmd->bnhd", weights, value)

        def ours(heads, bias=None):
            return attend(heads, bias, kept, 0.5, 1.25, most_weights)

        results = []
        for function in (plain, ours):
            with tf.GradientTape() as tape:
                tape.watch(operands)
                outputs = function(*operands)
                target = tf.reduce_sum(outputs**2) + tf.reduce_sum(tf.sin(outputs))
            results.append([outputs, *tape.gradient(target, operands)])
        for expected, found in zip(*results, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6)

    def test_bfloat16(self):
        operands, kept = self.operands((1, 3, 5, 5), True)
        half = [tf.cast(operand, tf.bfloat16) for operand in operands]
        outputs = attend(*half, kept)
        assert outputs.dtype == tf.bfloat16
        expected = attend(*operands, kept)
        np.testing.assert_allclose(tf.cast(outputs, tf.float32), expected, atol=0.03)

    def test_as_many_heads_together_as_fit(self):
        most = 5 * 2 * 100
        parts = attention._parts((3, 12, 2, 10, 4), most)  # 200 a head: five fit, four divide.
        assert parts == [slice(0, 4), slice(4, 8), slice(8, 12)]
        assert attention._parts((3, 5, 2, 10, 4), most) == [slice(None)]
        assert attention._parts((3, 12, None, 10, 4), most) == [slice(None)]

    def test_mask_of_a_key_does_not_depend_on_the_parts(self):
        """Compiled, each part has other mask positions, the same in both passes."""
        heads = tf.constant(np.random.default_rng(0).normal(size=(3, 3, 2, 5, 4)), tf.float32)
        key = MaskKey(tf.constant([3, 4]), 0.5)
        mask = key.mask((3, 2, 5, 5))
        assert 30 < np.sum(mask) < 120
        assert not np.array_equal(mask[0], mask[1])

        @tf.function
        def gradients(kept):
            with fusion(compiler_of(False)), tf.GradientTape() as tape:
                tape.watch(heads)
                outputs = attend(heads, None, kept, most_weights=50)
                target = tf.reduce_sum(outputs**2)
            return outputs, tape.gradient(target, heads)

        for found, expected in zip(gradients(key), gradients(mask), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


class TestRelativePositionBias(LayerTestCase):
    layer_class = RelativePositionBias
    config = {"num_heads": 3, "buckets": 8, "max_distance": 16}
    output_dtype = "float32"

    def inputs(self):
        return random(2, 6, 4)

    def test_values(self):
        layer = self.make()
        table, buckets = np.asarray(layer.embeddings), relative_buckets(6, 8, 16)
        expected = table[buckets].transpose(2, 0, 1)[None]
        np.testing.assert_array_equal(layer(self.inputs()), expected)


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
