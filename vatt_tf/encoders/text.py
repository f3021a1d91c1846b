"""The text towers: a T5-style encoder, a linear one, and the text side of the agnostic model."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from vatt_tf.encoders.base import TransformerEncoder
from vatt_tf.layers.dropout import Dropout
from vatt_tf.layers.transformer.agg_token import AggToken
from vatt_tf.layers.transformer.blocks import Transformer

# Where TextEncoder's Transformer learns the order of the words.
POSITIONS = ("t5", "shaw")


def _word_embedding(
    vocab_size: int, embedding_dim: int, trainable: bool, policy: keras.DTypePolicy
) -> keras.layers.Embedding:
    """The word table, which the paper takes from word2vec and freezes."""
    return keras.layers.Embedding(
        vocab_size, embedding_dim, trainable=trainable, dtype=policy, name="word_embedding"
    )


@keras.saving.register_keras_serializable("vatt_tf")
class TextEncoder(keras.layers.Layer):
    """Word ids to features with a T5-style Transformer (docs/reference.md, Text tower).

    AGG is put in front *before* the projection to the token width, so it is as wide as a word
    vector. There are no absolute positions: either one relative bias of the scores serves all
    blocks (T5), or each block has relative keys and values (Shaw et al., 2018). All else is the
    same in both, the scores that are not scaled included. AGG is token 0 like any other.

    Args:
        vocab_size: Number of words; id 0 is padding.
        embedding_dim: Width of a word vector.
        d_model: Width of a token.
        num_layers: Number of Transformer blocks.
        num_heads: Number of attention heads.
        d_ff: Width of the MLPs.
        d_kv: Width of a head.
        dropout_rate: Rate of every dropout.
        trainable_words: Whether the word table is trained (the paper's is frozen word2vec).
        positions: One of ``POSITIONS``, see above.
        max_distance: Distance from which on all words of a side count alike (positions shaw).

    Call arguments:
        inputs: Integer [B, L], L static.
        training: Switches dropout on.
        pooled_only: Leaves ``features`` out, and computes nothing that only they need.

    Returns:
        ``features_pooled`` [B, d_model], the output of AGG; ``features`` [B, L, d_model].

    Raises:
        ValueError: When the kind of positions is unknown.
    """

    def __init__(
        self,
        vocab_size: int = 65_536,
        embedding_dim: int = 300,
        d_model: int = 512,
        num_layers: int = 6,
        num_heads: int = 8,
        d_ff: int = 2048,
        d_kv: int = 64,
        dropout_rate: float = 0.1,
        trainable_words: bool = False,
        positions: str = "t5",
        max_distance: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if positions not in POSITIONS:
            raise ValueError(f"positions must be one of {POSITIONS}, got {positions!r}")

        # === Config ===
        self.vocab_size = vocab_size
        self.embedding_dim = embedding_dim
        self.d_model = d_model
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.d_ff = d_ff
        self.d_kv = d_kv
        self.dropout_rate = dropout_rate
        self.trainable_words = trainable_words
        self.positions = positions
        self.max_distance = max_distance

        # === Layers ===
        policy = self.dtype_policy
        self.word_embedding = _word_embedding(vocab_size, embedding_dim, trainable_words, policy)
        self.agg_token = AggToken(dtype=policy, name="agg_token")
        self.pre_projection = keras.layers.Dense(
            d_model, use_bias=False, dtype=policy, name="pre_projection"
        )
        self.input_dropout = Dropout(dropout_rate, dtype=policy, name="input_dropout")
        self.transformer = Transformer(
            num_layers,
            num_heads,
            d_kv,
            d_ff,
            dropout_rate,
            use_bias=False,
            norm="rms_norm",
            scale_scores=False,
            relative_bias=positions == "t5",
            relative_distance=max_distance if positions == "shaw" else None,
            dtype=policy,
            name="transformer",
        )

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return self.d_model

    def build(self, input_shape: Any) -> None:
        batch, length = input_shape
        words = (batch, length, self.embedding_dim)
        words_and_agg = (batch, length + 1, self.embedding_dim)
        tokens = (batch, length + 1, self.d_model)
        self.word_embedding.build(input_shape)
        self.agg_token.build(words)
        self.pre_projection.build(words_and_agg)
        self.input_dropout.build(tokens)
        self.transformer.build(tokens)

    def call(
        self, inputs: Any, training: bool = False, pooled_only: bool = False
    ) -> dict[str, Any]:
        ids = ops.cast(inputs, "int32")
        tokens = self.agg_token(self.word_embedding(ids))
        tokens = ops.gelu(self.pre_projection(tokens), approximate=False)
        tokens = self.input_dropout(tokens, training=training)
        tokens = self.transformer(
            tokens, attention_mask=word_mask(ids), training=training, agg_only=pooled_only
        )
        return _text_features(tokens, pooled_only)

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        return _text_shapes(input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        config = {
            "vocab_size": self.vocab_size,
            "embedding_dim": self.embedding_dim,
            "d_model": self.d_model,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "d_ff": self.d_ff,
            "d_kv": self.d_kv,
            "dropout_rate": self.dropout_rate,
            "trainable_words": self.trainable_words,
            "positions": self.positions,
            "max_distance": self.max_distance,
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("vatt_tf")
class LinearTextEncoder(keras.layers.Layer):
    """Word ids to features by one layer per word and the maximum over words.

    Source: docs/reference.md, Text tower.

    Padding takes part in the maximum, as in the released code.

    Args:
        vocab_size: Number of words; id 0 is padding.
        embedding_dim: Width of a word vector.
        d_model: Width of the features.
        trainable_words: Whether the word table is trained.

    Call arguments:
        inputs: Integer [B, L].

    Returns:
        ``features_pooled`` [B, d_model]; ``features`` [B, L, d_model].
    """

    def __init__(
        self,
        vocab_size: int = 65_536,
        embedding_dim: int = 300,
        d_model: int = 2048,
        trainable_words: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.vocab_size = vocab_size
        self.embedding_dim = embedding_dim
        self.d_model = d_model
        self.trainable_words = trainable_words

        # === Layers ===
        policy = self.dtype_policy
        self.word_embedding = _word_embedding(vocab_size, embedding_dim, trainable_words, policy)
        self.projection = keras.layers.Dense(
            d_model, activation="relu", dtype=policy, name="projection"
        )

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return self.d_model

    def build(self, input_shape: Any) -> None:
        self.word_embedding.build(input_shape)
        self.projection.build((*input_shape, self.embedding_dim))

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        features = self.projection(self.word_embedding(ops.cast(inputs, "int32")))
        return {"features": features, "features_pooled": ops.max(features, axis=1)}

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        return _text_shapes(input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        config = {
            "vocab_size": self.vocab_size,
            "embedding_dim": self.embedding_dim,
            "d_model": self.d_model,
            "trainable_words": self.trainable_words,
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("vatt_tf")
class AbsoluteTextEncoder(TransformerEncoder):
    """Text side of the agnostic model: learned absolute positions, no T5 parts.

    Source: docs/reference.md, Agnostic model.

    Args:
        vocab_size: Number of words; id 0 is padding.
        embedding_dim: Width of a word vector.
        max_tokens: Size of the position table.
        d_model: Width of a token.
        trainable_words: Whether the word table is trained.
        pre_projection: Always true: word vectors become tokens by it.
        **kwargs: See :class:`vatt_tf.encoders.base.TransformerEncoder`.

    Call arguments:
        inputs: Integer [B, L], L static.
        training: Switches dropout on.
        pooled_only: Leaves ``features`` out, and computes nothing that only they need.

    Returns:
        ``features_pooled`` [B, d], the output of AGG; ``features`` [B, L, d].
    """

    def __init__(
        self,
        vocab_size: int = 65_536,
        embedding_dim: int = 300,
        max_tokens: int = 16,
        d_model: int = 1024,
        trainable_words: bool = False,
        pre_projection: bool = True,
        **kwargs: Any,
    ) -> None:
        if not pre_projection:
            raise ValueError("word vectors need the pre-projection to become tokens")
        super().__init__(d_model=d_model, pre_projection=True, **kwargs)

        # === Config ===
        self.vocab_size = vocab_size
        self.embedding_dim = embedding_dim
        self.max_tokens = max_tokens
        self.trainable_words = trainable_words

        # === Layers ===
        self.word_embedding = _word_embedding(
            vocab_size, embedding_dim, trainable_words, self.dtype_policy
        )
        self._set_positions(("temporal",), (max_tokens,))

    def build(self, input_shape: Any) -> None:
        self.word_embedding.build(input_shape)
        self._build_from_tokens(input_shape[0], input_shape[1], self.embedding_dim)

    def call(
        self, inputs: Any, training: bool = False, pooled_only: bool = False
    ) -> dict[str, Any]:
        ids = ops.cast(inputs, "int32")
        tokens = self._encode(
            self.word_embedding(ids),
            (ids.shape[1],),
            attention_mask=word_mask(ids),
            training=training,
            pooled_only=pooled_only,
        )
        return _text_features(tokens, pooled_only)

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        return _text_shapes(input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        config = {
            "vocab_size": self.vocab_size,
            "embedding_dim": self.embedding_dim,
            "max_tokens": self.max_tokens,
            "trainable_words": self.trainable_words,
        }
        return {**super().get_config(), **config}


def word_mask(ids: Any) -> Any:
    """Attention mask of [AGG] + words: 1 for AGG and words, 0 for padding; int32 [B, 1 + L]."""
    words = ops.cast(ops.not_equal(ids, 0), "int32")
    return ops.concatenate([ops.ones_like(words[:, :1]), words], axis=1)


def _text_features(tokens: Any, pooled_only: bool) -> dict[str, Any]:
    """The outputs of AGG and words, or of AGG only."""
    pooled = {"features_pooled": tokens[:, 0]}
    return pooled if pooled_only else {"features": tokens[:, 1:], **pooled}


def _text_shapes(input_shape: Any, width: int) -> dict[str, Any]:
    return {
        "features": (*input_shape, width),
        "features_pooled": (input_shape[0], width),
    }
