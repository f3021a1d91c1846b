"""What dropout keeps: masks of a byte an element, drawn with a quarter of the usual draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def draw_mask(shape: Sequence[Any], rate: float, seed: keras.random.SeedGenerator) -> Any:
    """Draws a mask whose elements are dropped with probability ``rate``.

    A random word of 32 bits serves four elements of the last axis, a byte each: bytes below
    256 * rate are dropped. The fraction of that limit is made up for by coins, one for each row and
    quarter of it, which raise it by one: the probability is exact, and only those elements of a
    quarter whose byte lies between both limits (one in 256) are dropped or kept together.

    Args:
        shape: Shape of the mask, the last axis static.
        rate: Share that is dropped, 0 < rate < 1.
        seed: Where the random numbers come from.

    Returns:
        Bool of the given shape, true for what is kept.
    """
    rows, width = tuple(shape[:-1]), shape[-1]
    quarter = -(-width // 4)
    words = keras.random.randint((*rows, quarter), -(2**31), 2**31 - 1, dtype="int32", seed=seed)
    draws = ops.reshape(ops.view(words, "uint8"), (*rows, 4, quarter))
    level = math.floor(256 * rate)
    # No byte holds 256, the largest limit: the last byte that is dropped, where there is one.
    limit: Any = ops.cast(max(level - 1, 0), "uint8")
    if level < 256 * rate:
        coins = keras.random.uniform((*rows, 4, 1), dtype="float32", seed=seed)
        limit = limit + ops.cast(coins < 256 * rate - level, "uint8")
    kept = draws > limit if level else draws >= limit
    return ops.reshape(kept, (*rows, 4 * quarter))[..., :width]


def masked(values: Any, kept: Any) -> Any:
    """The values that are kept, zero for the others; all where ``kept`` is None."""
    return values if kept is None else ops.where(kept, values, 0.0)
