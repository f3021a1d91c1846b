"""The text towers: a T5-style Transformer over words, and a linear one."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from vatt_tf.encoders.sizes import TokenSequence, TransformerTowerConfig, check_transformer
from vatt_tf.encoders.tower import Tower, register
from vatt_tf.fields import added_later, check_choice, check_flag, check_positive, fail
from vatt_tf.layers.dropout import Dropout
from vatt_tf.layers.transformer.agg_token import AggToken
from vatt_tf.layers.transformer.blocks import Transformer

# Where the Transformer learns the order of the words.
POSITIONS = ("t5", "shaw")
_LINEAR_WIDTH = 2048


def check_words(instance: Any, name: str) -> None:
    """Checks the fields of the word table and the captions under their gin names."""
    for field in ("vocab_size", "embedding_dim", "max_tokens"):
        check_positive(f"{name}.{field}", getattr(instance, field))
    check_flag(f"{name}.trainable_words", instance.trainable_words)


@register("text_tower", "text", kinds=("t5", "linear"))
@dataclasses.dataclass(frozen=True)
class TextTowerConfig(TransformerTowerConfig):
    """Configuration of the text towers.

    Attributes:
        size: Named size: tiny, small, base, medium, large or xlarge (kind t5).
        kind: ``"t5"`` (the paper's) or ``"linear"`` (one layer and the maximum over words).
        vocab_size: Words of the vocabulary; id 0 is padding.
        embedding_dim: Width of a word vector.
        max_tokens: Tokens of a caption.
        trainable_words: Whether the word table is trained; False freezes it, as in the paper, where
            it is word2vec.
        dropout_rate: Rate of every dropout (kind t5).
        positions: ``"t5"``: a learned bias of the attention scores by distance (the paper's);
            ``"shaw"``: learned relative keys and values in each block (kind t5).
        max_distance: Distance in words from which on relative keys and values are the same
            (positions shaw).
        num_layers: Overrides the size's number of blocks.
        d_model: Overrides the size's token width; for kind linear the width of the features
            (default 2048).
        num_heads: Overrides the size's number of heads.
        d_ff: Overrides the size's MLP width.
        d_kv: Overrides the size's head width.
    """

    size: str = "small"
    kind: str = "t5"
    vocab_size: int = 65_536
    embedding_dim: int = 300
    max_tokens: int = 16
    trainable_words: bool = False
    dropout_rate: float = 0.1
    positions: str = added_later("t5")
    max_distance: int = added_later(16)
    num_layers: int | None = None
    d_model: int | None = None
    num_heads: int | None = None
    d_ff: int | None = None
    d_kv: int | None = None

    def __post_init__(self) -> None:
        name = "text_tower"
        check_choice(f"{name}.kind", self.kind, ("t5", "linear"))
        check_words(self, name)
        check_transformer(self, name)
        check_choice(f"{name}.positions", self.positions, POSITIONS)
        check_positive(f"{name}.max_distance", self.max_distance)
        if self.kind == "linear" and self.positions != "t5":
            fail(f"{name}.positions", self.positions, f"'t5': {name}.kind = 'linear' has none")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one caption."""
        return (self.max_tokens,)

    @property
    def clip_fields(self) -> dict[str, Any]:
        """The fields of a ``ClipSpec`` that the tower decides."""
        return {"tokens": self.max_tokens}

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return super().output_dim if self.has_transformer else self.d_model or _LINEAR_WIDTH

    @property
    def has_transformer(self) -> bool:
        """Whether words meet in a Transformer."""
        return self.kind == "t5"

    @property
    def sequence(self) -> TokenSequence:
        """Words of a caption."""
        return TokenSequence(
            tokens=self.max_tokens,
            kept=self.max_tokens,
            width=self.embedding_dim,
            embeds_agg=True,
            relative=self.positions == "shaw",
        )

    def flops(self, *, training: bool = False, convention: str = "needed") -> int | None:
        """See :mod:`vatt_tf.models.flops`."""
        if self.has_transformer:
            return super().flops(training=training, convention=convention)
        return 2 * self.max_tokens * self.embedding_dim * self.output_dim

    def build(self, **kwargs: Any) -> TextEncoder | LinearTextEncoder:
        """The encoder of the configured kind, without variables yet."""
        return (TextEncoder if self.has_transformer else LinearTextEncoder)(self, **kwargs)


def word_table(config: Any, policy: keras.DTypePolicy) -> keras.layers.Embedding:
    """The word table, which the paper takes from word2vec and freezes."""
    return keras.layers.Embedding(
        config.vocab_size,
        config.embedding_dim,
        trainable=config.trainable_words,
        dtype=policy,
        name="word_embedding",
    )


@keras.saving.register_keras_serializable("vatt_tf")
class TextEncoder(Tower):
    """Word ids to features with a T5-style Transformer (docs/reference.md, Text tower).

    AGG is put in front *before* the projection to the token width, so it is as wide as a word
    vector. There are no absolute positions: either one relative bias of the scores serves all
    blocks (T5), or each block has relative keys and values (Shaw et al., 2018). All else is the
    same in both, the scores that are not scaled included. AGG is token 0 like any other.

    Args:
        config: The tower's configuration.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: Integer [B, L], L static.
        training: Switches dropout on.
        pooled_only: Leaves ``features`` out, and computes nothing that only they need.

    Returns:
        ``features_pooled`` [B, d_model], the output of AGG; ``features`` [B, L, d_model].
    """

    config_class = TextTowerConfig
    has_agg = True

    def __init__(self, config: TextTowerConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        size, policy = config.transformer_size(), self.dtype_policy
        self.word_embedding = word_table(config, policy)
        self.agg_token = AggToken(dtype=policy, name="agg_token")
        self.pre_projection = keras.layers.Dense(
            size.d_model, use_bias=False, dtype=policy, name="pre_projection"
        )
        self.input_dropout = Dropout(config.dropout_rate, dtype=policy, name="input_dropout")
        self.transformer = Transformer(
            **size.arguments(),
            dropout_rate=config.dropout_rate,
            use_bias=False,
            norm="rms_norm",
            scale_scores=False,
            relative_bias=config.positions == "t5",
            relative_distance=config.max_distance if config.positions == "shaw" else None,
            dtype=policy,
            name="transformer",
        )

    def build(self, input_shape: Any) -> None:
        batch, length = input_shape
        words = (batch, length, self.config.embedding_dim)
        words_and_agg = (batch, length + 1, self.config.embedding_dim)
        tokens = (batch, length + 1, self.output_dim)
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
        return text_features(tokens, pooled_only)

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        return text_shapes(input_shape, self.output_dim)


@keras.saving.register_keras_serializable("vatt_tf")
class LinearTextEncoder(Tower):
    """Word ids to features by one layer per word and the maximum over words.

    Source: docs/reference.md, Text tower.

    Padding takes part in the maximum, as in the released code.

    Args:
        config: The tower's configuration.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: Integer [B, L].

    Returns:
        ``features_pooled`` [B, d_model]; ``features`` [B, L, d_model].
    """

    config_class = TextTowerConfig

    def __init__(self, config: TextTowerConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.word_embedding = word_table(config, policy)
        self.projection = keras.layers.Dense(
            config.output_dim, activation="relu", dtype=policy, name="projection"
        )

    def build(self, input_shape: Any) -> None:
        self.word_embedding.build(input_shape)
        self.projection.build((*input_shape, self.config.embedding_dim))

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        features = self.projection(self.word_embedding(ops.cast(inputs, "int32")))
        return {"features": features, "features_pooled": ops.max(features, axis=1)}

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        return text_shapes(input_shape, self.output_dim)


def word_mask(ids: Any) -> Any:
    """Attention mask of [AGG] + words: 1 for AGG and words, 0 for padding; int32 [B, 1 + L]."""
    words = ops.cast(ops.not_equal(ids, 0), "int32")
    return ops.concatenate([ops.ones_like(words[:, :1]), words], axis=1)


def text_features(tokens: Any, pooled_only: bool) -> dict[str, Any]:
    """The outputs of AGG and words, or of AGG only."""
    pooled = {"features_pooled": tokens[:, 0]}
    return pooled if pooled_only else {"features": tokens[:, 1:], **pooled}


def text_shapes(input_shape: Any, width: int) -> dict[str, Any]:
    """Shapes of the outputs for ids of a shape."""
    return {
        "features": (*input_shape, width),
        "features_pooled": (input_shape[0], width),
    }
