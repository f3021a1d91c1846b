"""Which elements dropout keeps: drawn beforehand, or computed where they are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from vatt_tf.layers.fusion import is_fusing
from vatt_tf.layers.random import SeedStream
from vatt_tf.layers.recompute import add_data_dependency

_MOST_POSITIONS = 2**31  # What an int32 counts.


class MaskKey(NamedTuple):
    """A mask that is a function of key and position, and never there as a whole.

    In a loop that a compiler makes of a chain of operations its numbers cost nothing: the loop
    waits for memory.

    Attributes:
        key: Integer [2].
        rate: Share of the elements that are dropped.
        first: Position of the first element, integer; None for 0.
    """

    key: Any
    rate: float
    first: Any = None

    def behind(self, position: int) -> MaskKey:
        """The mask of what begins at ``position``."""
        # A tensor: what is compiled for one position serves for all.
        return self._replace(first=ops.convert_to_tensor(position, "int32"))

    def mask(self, shape: Sequence[int]) -> Any:
        """Bool of the given shape, true for what is kept."""
        bits = random_bits(self.key, shape, self.first)
        return bits >= ops.cast(round(self.rate * 2**32), "uint32")


Kept = MaskKey | Any | None  # A key, a bool tensor, or None where everything is kept.


def keep_mask(shape: Sequence[Any], rate: float, seed: SeedStream) -> Kept:
    """Decides which elements dropout keeps: each with probability 1 - rate.

    Args:
        shape: Shape of the mask, the last axis static.
        rate: Share that is dropped, 0 < rate < 1.
        seed: Where the random numbers come from.

    Returns:
        A key where chains of operations are compiled (:mod:`vatt_tf.layers.fusion`), else bool of
        the given shape; :func:`masked` takes both.
    """
    is_static = all(isinstance(size, int) for size in shape)
    if is_fusing() and is_static and math.prod(shape) < _MOST_POSITIONS:
        return MaskKey(seed.next(), rate)
    return drawn_mask(shape, rate, seed)


def masked(values: Any, kept: Kept) -> Any:
    """The values that are kept, zero for the others."""
    if kept is None:
        return values
    if isinstance(kept, MaskKey):
        kept = kept.mask(values.shape)
    else:
        # A mask of floats is made when it is needed; the backward pass makes its own.
        kept = add_data_dependency(values, kept)
    return values * ops.cast(kept, values.dtype)


def random_bits(key: Any, shape: Sequence[int], first: Any = None) -> Any:
    """The hash ``pcg3d`` of (position, key): as good as random, and a few multiplications.

    Jarzynski and Olano, Hash Functions for GPU Rendering, JCGT 9(3), 2020; its first output.

    Args:
        key: Integer [2].
        shape: Static shape of less than 2**31 elements.
        first: Position of the first element, integer; None for 0.

    Returns:
        uint32 of the given shape.
    """
    position = ops.arange(math.prod(shape), dtype="int32")
    position = position if first is None else position + first
    x = ops.reshape(ops.cast(position, "uint32"), shape)
    x, y, z = (
        value * ops.cast(1664525, "uint32") + ops.cast(1013904223, "uint32")
        for value in (x, *ops.unstack(ops.cast(key, "uint32")))
    )
    x = x + y * z
    y = y + z * x
    z = z + x * y
    x, y, z = (
        ops.bitwise_xor(value, ops.right_shift(value, ops.cast(16, "uint32")))
        for value in (x, y, z)
    )
    return x + y * z


def drawn_mask(shape: Sequence[Any], rate: float, seed: SeedStream) -> Any:
    """Draws a mask.

    A random word of 32 bits serves four elements of the last axis, a byte each: bytes below
    256 * rate are dropped. The fraction of that limit is made up for by coins, one for each row and
    quarter of it, which raise it by one: the probability is exact, and only those elements of a
    quarter whose byte lies between both limits (one in 256) are dropped or kept together.

    Args:
        shape: Shape of the mask, the last axis static.
        rate: Share that is dropped, 0 < rate < 1.
        seed: Where the random numbers come from.

    Returns:
        bool of the given shape.
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
