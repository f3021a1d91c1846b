"""Floating-point operations of a Transformer."""

from __future__ import annotations

from typing import Any

CONVENTIONS = ("needed", "full", "paper")


def transformer_flops(
    size: Any, tokens: int, convention: str = "needed", relative: bool = False
) -> int:
    """Forward pass of a Transformer on one sequence.

    Args:
        size: Has ``num_layers``, ``d_model``, ``num_heads``, ``d_ff`` and ``d_kv``.
        tokens: Length of the sequence, with AGG.
        convention: ``"needed"``, ``"full"`` or ``"paper"``.
        relative: Whether there are relative keys and values (Shaw): each of the attention's two
            products has a second one of its size beside it.

    Raises:
        ValueError: When the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {CONVENTIONS}, got {convention!r}")
    inner = size.num_heads * size.d_kv
    weights = 4 * size.d_model * inner + 2 * size.d_model * size.d_ff
    products = (1 if convention == "paper" else 2) * (2 if relative else 1)
    block = tokens * weights + products * tokens * tokens * inner
    if convention != "needed":
        return 2 * size.num_layers * block
    keys_and_values = 2 * size.d_model * inner
    last = tokens * keys_and_values + (weights - keys_and_values) + products * tokens * inner
    return 2 * ((size.num_layers - 1) * block + last)
