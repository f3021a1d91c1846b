"""Neighbours side by side: the patches of a Transformer, and space to depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import ops


def flat_patches(inputs: Any, patch: Sequence[int]) -> Any:
    """Cuts an input into patches, each flattened in row-major order, its channels innermost.

    Args:
        inputs: [B, *axes, C]. What does not fill a patch is left out.
        patch: Size of a patch along each axis.

    Returns:
        [B, *grid, prod(patch) * C].
    """
    *sizes, channels = ops.shape(inputs)[1:]
    grid = [size // step for size, step in zip(sizes, patch, strict=True)]
    crop = (slice(0, count * step) for count, step in zip(grid, patch, strict=True))
    # Axes that stay neighbours are one: the batch and the patches of the first axis; the last axis
    # of a patch and the channels. LiteRT converts no transposition of more than six.
    split = [size for pair in zip(grid, patch, strict=True) for size in pair]
    split[-1] *= channels
    split = ops.reshape(inputs[(slice(None), *crop)], (-1, *split[1:]))
    outer, inner = range(2, 2 * len(grid), 2), range(1, 2 * len(grid), 2)
    split = ops.transpose(split, (0, *outer, *inner))
    return ops.reshape(split, (-1, *grid, math.prod(patch) * channels))


def space_to_depth(inputs: Any, block: Sequence[int] = (2, 2, 2)) -> Any:
    """Moves every block of neighbours into the channels, as MMV and MIL-NCE do with their input.

    Args:
        inputs: [B, T, H, W, C]. An axis that the block does not divide gets zeros at its end.
        block: Size (frames, height, width) of a block.

    Returns:
        [B, ceil(T / t), ceil(H / h), ceil(W / w), t * h * w * C] for a block (t, h, w); the
        channels are ordered (frame, row, column, channel).
    """
    sizes = ops.shape(inputs)[1:-1]
    missing = [-size % step for size, step in zip(sizes, block, strict=True)]
    if not all(isinstance(count, int) and count == 0 for count in missing):
        # One axis may be known and another not: ``ops.pad`` takes numbers and tensors together.
        inputs = ops.pad(inputs, ((0, 0), *((0, count) for count in missing), (0, 0)))
    return flat_patches(inputs, block)
