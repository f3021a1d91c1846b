"""Named sizes of the Transformer towers (paper table 7; xlarge from the released code)."""

from __future__ import annotations

import dataclasses


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
