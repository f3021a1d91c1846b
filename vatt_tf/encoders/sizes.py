"""What a convolutional tower says of the sizes of its input, in the words of the patch towers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class SizedByStrides:
    """Mix-in: a patch is what one position of the features stands for.

    Attributes:
        any_size: Whether a graph takes inputs whose size is known only when it runs.
        patch: Input positions of one position of the features along each axis; the smallest input.
        configured_grid: Positions of the features of an input of the size that it was built for.
    """

    any_size = True
    patch: tuple[int, ...]
    configured_grid: tuple[int, ...]

    def _set_sizes(self, input_shape: Sequence[Any], strides: Sequence[int]) -> None:
        """To be called by ``build``; axes of unknown size count as one patch."""
        sizes = [
            stride if size is None else size
            for size, stride in zip(input_shape[1:-1], strides, strict=True)
        ]
        pairs = list(zip(sizes, strides, strict=True))
        self.patch = tuple(min(size, stride) for size, stride in pairs)
        self.configured_grid = tuple(-(-size // stride) for size, stride in pairs)
