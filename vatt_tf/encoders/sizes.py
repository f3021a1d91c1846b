"""Named sizes of the Transformer towers (paper table 7; xlarge from the released code)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from vatt_tf.encoders.tower import TowerConfig
from vatt_tf.fields import check_choice, check_flag, check_positive, check_rate, fail
from vatt_tf.layers.dropout import kept_tokens
from vatt_tf.layers.transformer.flops import transformer_flops


@dataclasses.dataclass(frozen=True)
class TransformerSize:
    """Shape of a Transformer.

    Attributes:
        num_layers: Number of blocks.
        d_model: Width of a token.
        num_heads: Number of attention heads.
        d_ff: Width of the MLPs.
        d_kv: Width of a head.
    """

    num_layers: int
    d_model: int
    num_heads: int
    d_ff: int
    d_kv: int = 64

    def arguments(self) -> dict[str, Any]:
        """Arguments of :class:`vatt_tf.layers.transformer.blocks.Transformer`."""
        return {name: getattr(self, name) for name in ("num_layers", "num_heads", "d_ff", "d_kv")}


SIZES = {
    "tiny": TransformerSize(num_layers=4, d_model=128, num_heads=4, d_ff=512, d_kv=32),
    "small": TransformerSize(num_layers=6, d_model=512, num_heads=8, d_ff=2048),
    "base": TransformerSize(num_layers=12, d_model=768, num_heads=12, d_ff=3072),
    "medium": TransformerSize(num_layers=12, d_model=1024, num_heads=16, d_ff=4096),
    "large": TransformerSize(num_layers=24, d_model=1024, num_heads=16, d_ff=4096),
    "xlarge": TransformerSize(num_layers=24, d_model=1536, num_heads=24, d_ff=4096),
}
SIZE_FIELDS = ("num_layers", "d_model", "num_heads", "d_ff", "d_kv")


class TransformerTowerConfig(TowerConfig):
    """Base of the configurations of Transformer towers.

    The five sizes come from a named size and the fields that override it.
    """

    size: str
    dropout_rate: float
    # Of the modality-agnostic model's towers only.
    pre_projection: bool = False
    post_projection: int | None = None

    def transformer_size(self) -> TransformerSize:
        """The named size with the overrides applied."""
        overrides = {
            field: getattr(self, field) for field in SIZE_FIELDS if getattr(self, field) is not None
        }
        return dataclasses.replace(SIZES[self.size], **overrides)

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return self.post_projection or self.transformer_size().d_model

    @property
    def has_transformer(self) -> bool:
        """Whether the tower has a Transformer in this configuration."""
        return True

    @property
    def has_bias(self) -> bool:
        """Whether the Transformer's projections have biases."""
        return True

    @property
    def sequence(self) -> TokenSequence:
        """What the Transformer reads of one input."""
        raise NotImplementedError

    def flops(self, *, training: bool = False, convention: str = "needed") -> int | None:
        """See :mod:`vatt_tf.models.flops`."""
        size, sequence = self.transformer_size(), self.sequence
        tokens = sequence.kept if training else sequence.tokens
        embedded = sequence.tokens if convention == "paper" else tokens
        flops = 2 * (embedded + sequence.embeds_agg) * sequence.width * size.d_model
        flops += 2 * tokens * size.d_model * size.d_model * sequence.projected
        projected = 1 if convention == "needed" else tokens + 1
        flops += 2 * projected * size.d_model * (self.post_projection or 0)
        return flops + transformer_flops(size, tokens + 1, convention, sequence.relative)


@dataclasses.dataclass(frozen=True)
class TokenSequence:
    """What a Transformer tower makes of one input before its first block.

    Attributes:
        tokens: Tokens without AGG.
        kept: Tokens that DropToken keeps in training.
        width: Numbers that one token is projected from.
        projected: Whether a second projection follows (agnostic model; of words it is the first).
        embeds_agg: Whether AGG is projected, too (T5).
        relative: Whether the attention has relative keys and values (Shaw).
    """

    tokens: int
    kept: int
    width: int
    projected: bool = False
    embeds_agg: bool = False
    relative: bool = False


def check_transformer(instance: Any, name: str) -> None:
    """Checks the size fields and the dropout rate of a configuration under its gin name."""
    check_choice(f"{name}.size", instance.size, tuple(SIZES))
    for field in SIZE_FIELDS:
        if getattr(instance, field) is not None:
            check_positive(f"{name}.{field}", getattr(instance, field))
    check_rate(f"{name}.dropout_rate", instance.dropout_rate)


def check_projections(instance: Any, name: str) -> None:
    """Checks the fields that only towers with absolute positions have."""
    check_rate(f"{name}.position_dropout_rate", instance.position_dropout_rate)
    check_flag(f"{name}.pre_projection", instance.pre_projection)
    if instance.post_projection is not None:
        check_positive(f"{name}.post_projection", instance.post_projection)


def patch_sequence(config: Any) -> TokenSequence:
    """The sequence of a tower whose tokens are patches.

    Args:
        config: Has ``input_shape``, ``patch``, ``drop_token_rate`` and ``pre_projection``.
    """
    patch = (config.patch,) if isinstance(config.patch, int) else tuple(config.patch)
    *sizes, channels = config.input_shape
    tokens = math.prod(size // part for size, part in zip(sizes, patch, strict=True))
    return TokenSequence(
        tokens=tokens,
        kept=kept_tokens(tokens, config.drop_token_rate),
        width=channels * math.prod(patch),
        projected=config.pre_projection,
    )


def check_drop_token(instance: Any, name: str) -> None:
    """Checks that DropToken drops some of the patches of an input, not all."""
    rate = instance.drop_token_rate
    check_rate(f"{name}.drop_token_rate", rate)
    sequence = patch_sequence(instance)
    if rate > 0 and not 1 <= sequence.kept < sequence.tokens:
        expected = f"a fraction that drops some, not all of the {sequence.tokens} tokens, or 0"
        fail(f"{name}.drop_token_rate", rate, expected)
