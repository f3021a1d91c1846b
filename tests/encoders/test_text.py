"""The text towers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tests.encoders.pooled_only import PooledOnlyTests
from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.encoders.agnostic import AbsoluteTextEncoder, AgnosticTextConfig
from vatt_tf.encoders.text import LinearTextEncoder, TextEncoder, TextTowerConfig, word_mask

SIZE = {"d_model": 8, "num_layers": 2, "num_heads": 2, "d_ff": 12, "d_kv": 4}
WORDS = {"vocab_size": 11, "embedding_dim": 6, "trainable_words": True}


def ids():
    return np.array([[3, 4, 5, 0, 0], [1, 2, 3, 4, 10], [0, 0, 0, 0, 0]], "int32")


class _TextTests(LayerTestCase):
    def inputs(self):
        return ids()

    def test_padding_is_not_seen(self):
        encoder = self.make()
        pooled = np.asarray(encoder(ids())["features_pooled"])
        assert np.all(np.isfinite(pooled)), "an empty caption is legal"
        table = encoder.word_embedding.embeddings
        changed = np.asarray(table)
        changed[0] = 7.0  # The vector of <pad>.
        table.assign(changed)
        again = np.asarray(encoder(ids())["features_pooled"])
        np.testing.assert_allclose(again, pooled, rtol=1e-5, atol=1e-6)

    def test_float_ids_and_frozen_words(self):
        encoder = self.make()
        floats = encoder(ids().astype("float32"))["features_pooled"]
        np.testing.assert_array_equal(floats, encoder(ids())["features_pooled"])
        frozen = self.layer_class(dataclasses.replace(self.config["config"], trainable_words=False))
        frozen.build(ids().shape)
        missing = {v.path.split("/", 1)[1] for v in encoder.trainable_weights} - {
            v.path.split("/", 1)[1] for v in frozen.trainable_weights
        }
        assert missing == {"word_embedding/embeddings"}
        assert len(frozen.weights) == len(encoder.weights)


class TestTextEncoder(PooledOnlyTests, _TextTests):
    layer_class = TextEncoder
    config = {"config": TextTowerConfig(**WORDS, **SIZE)}

    def test_paths_of_checkpoints(self):
        """Published weights are read by these names."""
        encoder = TextEncoder(TextTowerConfig(**WORDS, **SIZE), name="text")
        encoder.build(ids().shape)
        tables = [weight.path for weight in encoder.weights if "position" in weight.path]
        assert tables == ["text/transformer/position_bias/embeddings"]
        assert not any("relative" in weight.path for weight in encoder.weights)

    def test_length_does_not_matter(self):
        """Relative positions: a caption without its padding gives the same embedding."""
        encoder = self.make()
        pooled = encoder(ids())["features_pooled"][0]
        shorter = encoder(ids()[:1, :3])["features_pooled"][0]
        np.testing.assert_allclose(shorter, pooled, rtol=1e-4, atol=1e-5)

    def test_agg_is_as_wide_as_a_word(self):
        assert self.make().agg_token.embedding.shape == (6,)


class TestShawTextEncoder(TestTextEncoder):
    tower = TextTowerConfig(**WORDS, **SIZE, positions="shaw", max_distance=3)
    config = {"config": tower}

    def test_against_loops(self):
        """The whole tower in float64, written from its description and nothing else."""
        encoder = TextEncoder(dataclasses.replace(self.tower, dropout_rate=0.0))
        encoder.build(ids().shape)
        rng = np.random.default_rng(5)
        for weight in encoder.trainable_weights:
            weight.assign(rng.normal(size=weight.shape) * 0.5)
        values = {
            weight.path.split("/", 1)[1]: np.asarray(weight, np.float64)
            for weight in encoder.weights
        }
        expected = np.stack([shaw_tower(values, caption) for caption in ids()])
        for training in (False, True):
            encoder.transformer.remat = training
            found = encoder(ids(), training=training)
            np.testing.assert_allclose(found["features"], expected[:, 1:], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(found["features_pooled"], expected[:, 0], rtol=1e-5)

    def test_tables_of_each_block_stand_in_for_the_bias(self):
        names = {v.path.split("/", 1)[1] for v in self.make().weights}
        t5 = {v.path.split("/", 1)[1] for v in TestTextEncoder().make().weights}
        assert t5 - names == {"transformer/position_bias/embeddings"}
        assert names - t5 == {
            f"transformer/block_{block}/attention/relative_{kind}"
            for block in range(2)
            for kind in ("keys", "values")
        }

    def test_order_matters(self):
        encoder = self.make()
        pooled = np.asarray(encoder(np.array([[1, 2, 3], [3, 2, 1]]))["features_pooled"])
        assert not np.allclose(pooled[0], pooled[1], atol=1e-3)


def shaw_tower(values, caption):
    """Word ids [L] -> outputs [1 + L, d_model]."""
    heads, width, distance = SIZE["num_heads"], SIZE["d_kv"], 3
    gelu = np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))))

    def rms_norm(x, path):
        scale = values[f"{path}/scale"]
        return np.stack([row / math.sqrt(np.mean(row**2) + 1e-6) * scale for row in x])

    def layer_norm(x, path):
        rows = [(row - row.mean()) / math.sqrt(row.var() + 1e-6) for row in x]
        return np.stack(rows) * values[f"{path}/gamma"] + values[f"{path}/beta"]

    def attention(x, path):
        inner, count = heads * width, len(x)
        projected = x @ values[f"{path}/qkv/kernel"]
        mixed = np.zeros((count, inner))
        for head in range(heads):
            q, k, v = (projected[:, part * inner + head * width :][:, :width] for part in range(3))
            for i in range(count):
                scores, vectors = [], []
                for j in range(count):
                    if j > 0 and caption[j - 1] == 0:
                        continue  # padding
                    row = min(max(j - i, -distance), distance) + distance
                    scores.append(q[i] @ (k[j] + values[f"{path}/relative_keys"][row]))
                    vectors.append(v[j] + values[f"{path}/relative_values"][row])
                shares = np.exp(np.array(scores) - max(scores))
                mixed[i, head * width : (head + 1) * width] = shares / shares.sum() @ vectors
        return mixed @ values[f"{path}/output/kernel"]

    words = [values["agg_token/embedding"], *values["word_embedding/embeddings"][caption]]
    x = gelu(np.stack(words) @ values["pre_projection/kernel"])
    for number in range(SIZE["num_layers"]):
        block = f"transformer/block_{number}"
        x = x + attention(rms_norm(x, f"{block}/attention_norm"), f"{block}/attention")
        hidden = layer_norm(x, f"{block}/mlp_norm") @ values[f"{block}/mlp_hidden/kernel"]
        x = x + gelu(hidden) @ values[f"{block}/mlp_output/kernel"]
    return rms_norm(x, "transformer/final_norm")


class TestAbsoluteTextEncoder(PooledOnlyTests, _TextTests):
    layer_class = AbsoluteTextEncoder
    config = {"config": AgnosticTextConfig(max_tokens=5, post_projection=10, **WORDS, **SIZE)}

    def test_agg_is_as_wide_as_a_token(self):
        assert self.make().agg_token.embedding.shape == (8,)


class TestLinearTextEncoder(_TextTests):
    layer_class = LinearTextEncoder
    config = {"config": TextTowerConfig(kind="linear", d_model=8, **WORDS)}

    def test_padding_is_not_seen(self):
        """It is seen here, as in the released code: the maximum runs over all words."""
        encoder = self.make()
        features = np.asarray(encoder(ids())["features"])
        np.testing.assert_array_equal(encoder(ids())["features_pooled"], features.max(1))
        assert np.all(features >= 0)


def test_word_mask():
    expected = [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(word_mask(ids()), expected)
