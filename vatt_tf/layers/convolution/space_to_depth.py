"""Space to depth: neighbouring pixels and frames become channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops


def space_to_depth(inputs: Any, block: Sequence[int] = (2, 2, 2)) -> Any:
    """Moves every block of neighbours into the channels, as MMV and MIL-NCE do with their input.

    The channels are ordered (frame, row, column, channel), the frame of the block outermost.

    Args:
        inputs: [B, T, H, W, C]. An axis that the block does not divide gets zeros at its end.
        block: Size (frames, height, width) of a block.

    Returns:
        [B, ceil(T / t), ceil(H / h), ceil(W / w), t * h * w * C] for a block (t, h, w).
    """
    channels = inputs.shape[-1]
    sizes = ops.shape(inputs)[1:-1]
    missing = [-size % step for size, step in zip(sizes, block, strict=True)]
    if not all(isinstance(count, int) and count == 0 for count in missing):
        # One axis may be known and another not: ``ops.pad`` takes numbers and tensors together.
        inputs = ops.pad(inputs, ((0, 0), *((0, count) for count in missing), (0, 0)))
    frames, height, width = (
        (size + step - 1) // step for size, step in zip(sizes, block, strict=True)
    )
    t, h, w = block
    blocks = ops.reshape(inputs, (-1, frames, t, height, h, width, w, channels))
    blocks = ops.transpose(blocks, (0, 1, 3, 5, 2, 4, 6, 7))
    return ops.reshape(blocks, (-1, frames, height, width, t * h * w * channels))
