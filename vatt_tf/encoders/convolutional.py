"""What the convolutional towers share: the sizes of their input, and the range of its pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt_tf.encoders.tower import as_pixels
from vatt_tf.errors import is_number
from vatt_tf.fields import fail


def unit_range(inputs: Any) -> Any:
    """Pixels, or floats in [-1, 1] (see ``as_pixels``), to float32 in [0, 1]."""
    pixels = ops.cast(as_pixels(inputs), "float32")
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(inputs.dtype)):
        return pixels * 0.5 + 0.5
    return pixels / 255.0


class SizedByStrides:
    """Mix-in with the words of the patch towers for the sizes of an input.

    Attributes:
        any_size: Whether a graph takes inputs whose size is known only when it runs.
        patch: Input positions that one position of the features stands for, along each axis; no
            input is smaller.
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


def check_width(name: str, value: Any) -> None:
    """Checks the multiplier of all channel counts."""
    if not is_number(value) or not 0 < value <= 8:
        fail(name, value, "a number above 0, at most 8 (1 is the published network)")


def check_deflates(video_encoder: Any, image_encoder: Any, **changes: Any) -> None:
    """Checks that the second encoder is the image network of the first.

    Args:
        video_encoder: Encoder of clips.
        image_encoder: Encoder of single images.
        **changes: Fields of the configuration in which the two differ, beside ``frames`` and
            ``image_size``, with the image network's values.

    Raises:
        ValueError: If the two do not belong together.
    """
    video, image = video_encoder.config, image_encoder.config
    sizes = {"frames": image.frames, "image_size": image.image_size}
    expected = dataclasses.replace(video, **sizes, **changes)
    if video == dataclasses.replace(video, **changes) or image != expected:
        raise ValueError(f"expected a video encoder and its image encoder, got {video} and {image}")
