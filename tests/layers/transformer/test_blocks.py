"""The Transformer stack in its ViT and T5 styles, and the AGG token."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from tests.layers import finite_differences
from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.layers.random import seed_scope
from vatt_tf.layers.transformer.agg_token import AggToken
from vatt_tf.layers.transformer.attention import relative_buckets
from vatt_tf.layers.transformer.blocks import Transformer, TransformerBlock

T5 = {"use_bias": False, "norm": "rms_norm", "scale_scores": False}
SIZE = {"num_heads": 2, "d_kv": 4, "d_ff": 12, "dropout_rate": 0.1}


def tokens():
    return np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")


class TestAggToken(LayerTestCase):
    layer_class = AggToken

    def inputs(self):
        return tokens()

    def test_is_first(self):
        layer = self.make()
        outputs = np.asarray(layer(tokens()))
        np.testing.assert_array_equal(outputs[:, 1:], tokens())
        np.testing.assert_array_equal(outputs[0, 0], np.asarray(layer.embedding))
        np.testing.assert_array_equal(outputs[0, 0], outputs[1, 0])


class TestTransformerBlock(LayerTestCase):
    layer_class = TransformerBlock
    config = SIZE

    def inputs(self):
        return tokens()


class TestTransformer(LayerTestCase):
    layer_class = Transformer
    config = {"num_layers": 2, **SIZE}

    def inputs(self):
        return tokens()

    def test_masked_tokens_are_not_seen(self):
        layer, values = self.make(), tokens()
        mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
        outputs = np.asarray(layer(values, attention_mask=mask))
        changed = values.copy()
        changed[0, 3:] += 9.0
        again = np.asarray(layer(changed, attention_mask=mask))
        np.testing.assert_allclose(outputs[0, :3], again[0, :3], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(outputs[0, :3], layer(values[:1, :3])[0], rtol=1e-4, atol=1e-5)

    def test_dropout_obeys_the_seed_scope(self):
        layer, values = self.make(), tokens()
        outputs = []
        for key in ([1, 0], [1, 0], [2, 0]):
            with seed_scope(np.array(key, "int32")):
                outputs.append(np.asarray(layer(values, training=True)))
        np.testing.assert_array_equal(outputs[0], outputs[1])
        assert not np.allclose(outputs[0], outputs[2])
        assert not np.allclose(outputs[0], layer(values))

    @pytest.mark.parametrize("in_scope", [True, False])
    def test_remat_gives_the_same_gradients(self, in_scope):
        """Also outside of a seed scope, as in Keras's own fit."""
        layer, values = self.make(), tf.constant(tokens())
        states = [value for value in layer.variables if "seed" in value.path]

        def gradients(remat):
            layer.remat = remat
            for state in states:
                state.assign(np.zeros(2))
            scope = seed_scope(np.array([1, 2], "int32")) if in_scope else contextlib.nullcontext()
            with tf.GradientTape() as tape, scope:
                outputs = layer(values, training=True)
            weights = [weight.value for weight in layer.trainable_weights]
            return [tf.convert_to_tensor(one) for one in tape.gradient(outputs, weights)]

        for expected, found in zip(gradients(False), gradients(True), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("agg_only", [False, True])
    def test_gradients_with_padding(self, agg_only):
        mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
        arguments = {"attention_mask": mask, "training": True, "agg_only": agg_only}
        with finite_differences.all_in_float64():
            finite_differences.check(self.make("float64"), tokens(), arguments)

    def test_unknown_norm(self):
        with pytest.raises(ValueError, match="norm must be one of"):
            Transformer(num_layers=1, **{**SIZE, "norm": "batch_norm"})


class TestT5Transformer(TestTransformer):
    config = {"num_layers": 2, "relative_bias": True, **SIZE, **T5}

    def test_one_bias_table_and_no_biases(self):
        paths = [variable.path for variable in self.make().weights]
        assert sum("position_bias" in path for path in paths) == 1
        assert not any(path.endswith("/bias") for path in paths)
        # The released code's mix: RMS norms, but a full layer norm before each MLP.
        assert sum(path.endswith("norm/scale") for path in paths) == 3
        assert sum(path.endswith("mlp_norm/beta") for path in paths) == 2

    def test_bias_is_that_of_the_buckets(self):
        layer = self.make("mixed_bfloat16")
        table = np.random.default_rng(1).normal(size=(32, 2)).astype("float32")
        layer.position_bias.embeddings.assign(table)
        expected = table[relative_buckets(5)].transpose(2, 0, 1)[None]
        np.testing.assert_array_equal(layer.attention_bias(tokens()), expected)

    def test_order_matters(self):
        """Attention alone does not know the order; the bias tells it."""
        layer, values = self.make(), tokens()
        backwards = np.asarray(layer(values[:, ::-1]))[:, ::-1]
        assert not np.allclose(layer(values), backwards, atol=1e-3)
        plain = TestTransformer().make()
        np.testing.assert_allclose(
            plain(values), np.asarray(plain(values[:, ::-1]))[:, ::-1], rtol=1e-4, atol=1e-5
        )
