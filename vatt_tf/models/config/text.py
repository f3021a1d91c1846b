"""Configuration of the text tower; a part of ``vatt_tf.models.config.vatt``."""

from __future__ import annotations

import dataclasses
from typing import Any

import gin

from vatt_tf.models.config.fields import added_later, check_choice, check_flag, check_positive, fail
from vatt_tf.models.config.sizes import SizeFields, check_transformer

_LINEAR_WIDTH = 2048


def check_words(instance: Any, name: str) -> None:
    """Checks the fields of the word table and the captions under their gin names."""
    for field in ("vocab_size", "embedding_dim", "max_tokens"):
        check_positive(f"{name}.{field}", getattr(instance, field))
    check_flag(f"{name}.trainable_words", instance.trainable_words)


@gin.configurable("text_tower")
@dataclasses.dataclass(frozen=True)
class TextTowerConfig(SizeFields):
    """The text tower.

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
        check_choice(f"{name}.positions", self.positions, ("t5", "shaw"))
        check_positive(f"{name}.max_distance", self.max_distance)
        if self.kind == "linear" and self.positions != "t5":
            fail(f"{name}.positions", self.positions, f"'t5': {name}.kind = 'linear' has none")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one caption."""
        return (self.max_tokens,)

    def linear_width(self) -> int:
        """Width of the features of kind linear."""
        return self.d_model or _LINEAR_WIDTH

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return self.linear_width() if self.kind == "linear" else super().output_dim
