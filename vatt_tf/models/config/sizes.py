"""Named sizes of the Transformer towers (paper table 7; xlarge from the released code)."""

from __future__ import annotations

import dataclasses
from typing import Any

from vatt_tf.models.config.fields import check_choice, check_positive, check_rate


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


SIZES = {
    "tiny": TransformerSize(num_layers=4, d_model=128, num_heads=4, d_ff=512, d_kv=32),
    "small": TransformerSize(num_layers=6, d_model=512, num_heads=8, d_ff=2048),
    "base": TransformerSize(num_layers=12, d_model=768, num_heads=12, d_ff=3072),
    "medium": TransformerSize(num_layers=12, d_model=1024, num_heads=16, d_ff=4096),
    "large": TransformerSize(num_layers=24, d_model=1024, num_heads=16, d_ff=4096),
    "xlarge": TransformerSize(num_layers=24, d_model=1536, num_heads=24, d_ff=4096),
}
SIZE_FIELDS = ("num_layers", "d_model", "num_heads", "d_ff", "d_kv")


class SizeFields:
    """Reads the five sizes of a Transformer from a named size and the fields that override it."""

    size: str

    def transformer_size(self) -> TransformerSize:
        """The named size with the overrides applied."""
        overrides = {
            field: getattr(self, field) for field in SIZE_FIELDS if getattr(self, field) is not None
        }
        return dataclasses.replace(SIZES[self.size], **overrides)

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return getattr(self, "post_projection", None) or self.transformer_size().d_model


def check_transformer(instance: Any, name: str) -> None:
    """Checks the size fields and the dropout rate of a configuration under its gin name."""
    check_choice(f"{name}.size", instance.size, tuple(SIZES))
    for field in SIZE_FIELDS:
        if getattr(instance, field) is not None:
            check_positive(f"{name}.{field}", getattr(instance, field))
    check_rate(f"{name}.dropout_rate", instance.dropout_rate)
