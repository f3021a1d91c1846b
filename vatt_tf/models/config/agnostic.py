"""Configuration of the agnostic Transformer, and of its text side as a tower of its own.

A part of ``vatt_tf.models.config.vatt``.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import gin

from vatt_tf.models.config.fields import check_positive, check_rate
from vatt_tf.models.config.sizes import SizeFields, check_transformer
from vatt_tf.models.config.text import check_words


@gin.configurable("agnostic_tower")
@dataclasses.dataclass(frozen=True)
class AgnosticTowerConfig(SizeFields):
    """The Transformer that all modalities of the agnostic model share.

    Attributes:
        size: Named size: tiny, small, base, medium, large or xlarge.
        dropout_rate: Dropout inside the Transformer.
        position_dropout_rate: Dropout after the positions are added (released code: always 0.1).
        post_projection: Width of the features.
        num_layers: Overrides the size's number of blocks.
        d_model: Overrides the size's token width.
        num_heads: Overrides the size's number of heads.
        d_ff: Overrides the size's MLP width.
        d_kv: Overrides the size's head width.
    """

    size: str = "medium"
    dropout_rate: float = 0.1
    position_dropout_rate: float = 0.1
    post_projection: int = 1024
    num_layers: int | None = None
    d_model: int | None = None
    num_heads: int | None = None
    d_ff: int | None = None
    d_kv: int | None = None

    # Name of the configurable, for messages.
    name: ClassVar[str] = "agnostic_tower"

    def __post_init__(self) -> None:
        check_transformer(self, self.name)
        check_rate(f"{self.name}.position_dropout_rate", self.position_dropout_rate)
        check_positive(f"{self.name}.post_projection", self.post_projection)


@gin.configurable("agnostic_text_tower")
@dataclasses.dataclass(frozen=True)
class AgnosticTextConfig(AgnosticTowerConfig):
    """The text side of an agnostic model as a tower of its own, with its own Transformer.

    Attributes:
        vocab_size: Words of the vocabulary; id 0 is padding.
        embedding_dim: Width of a word vector.
        max_tokens: Tokens of a caption; sets the size of the position table.
        trainable_words: Whether the word table is trained.
    """

    name: ClassVar[str] = "agnostic_text_tower"

    vocab_size: int = 65_536
    embedding_dim: int = 300
    max_tokens: int = 16
    trainable_words: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_words(self, self.name)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one caption."""
        return (self.max_tokens,)
