"""The text towers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.encoders.text import AbsoluteTextEncoder, LinearTextEncoder, TextEncoder, word_mask

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
        frozen = self.layer_class(**{**self.config, "trainable_words": False})
        frozen.build(ids().shape)
        missing = {v.path.split("/", 1)[1] for v in encoder.trainable_weights} - {
            v.path.split("/", 1)[1] for v in frozen.trainable_weights
        }
        assert missing == {"word_embedding/embeddings"}
        assert len(frozen.weights) == len(encoder.weights)


class TestTextEncoder(_TextTests):
    layer_class = TextEncoder
    config = {**WORDS, **SIZE}

    def test_length_does_not_matter(self):
        """Relative positions: a caption without its padding gives the same embedding."""
        encoder = self.make()
        pooled = encoder(ids())["features_pooled"][0]
        shorter = encoder(ids()[:1, :3])["features_pooled"][0]
        np.testing.assert_allclose(shorter, pooled, rtol=1e-4, atol=1e-5)

    def test_agg_is_as_wide_as_a_word(self):
        assert self.make().agg_token.embedding.shape == (6,)


class TestAbsoluteTextEncoder(_TextTests):
    layer_class = AbsoluteTextEncoder
    config = {"max_tokens": 5, "post_projection": 10, **WORDS, **SIZE}

    def test_agg_is_as_wide_as_a_token(self):
        assert self.make().agg_token.embedding.shape == (8,)

    def test_needs_the_pre_projection(self):
        with pytest.raises(ValueError, match="pre-projection"):
            AbsoluteTextEncoder(**self.config, pre_projection=False)


class TestLinearTextEncoder(_TextTests):
    layer_class = LinearTextEncoder
    config = {"d_model": 8, **WORDS}

    def test_padding_is_not_seen(self):
        """It is seen here, as in the released code: the maximum runs over all words."""
        encoder = self.make()
        features = np.asarray(encoder(ids())["features"])
        np.testing.assert_array_equal(encoder(ids())["features_pooled"], features.max(1))
        assert np.all(features >= 0)


def test_word_mask():
    expected = [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(word_mask(ids()), expected)
