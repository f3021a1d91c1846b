"""Patch embedding: raw video, waveform or spectrogram to tokens by one linear map per patch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.configured import ConfiguredLayer
from vatt_tf.layers.patches import flat_patches


@keras.saving.register_keras_serializable("vatt_tf")
class PatchEmbedding(ConfiguredLayer):
    """Non-overlapping patches, flattened and projected (VATT, section 3.1).

    Equal to a convolution with kernel = stride = patch and VALID padding (a remainder that does not
    fill a patch is left out), and the kernel is stored in the shape of that convolution. Written as
    reshape + matrix product so that tokens dropped by DropToken are never projected.

    Integer inputs (uint8 pixels) are mapped to [-1, 1] by ``x / 127.5 - 1`` after the selection.

    Args:
        patch: Size of a patch along each axis, e.g. (4, 16, 16) or (128,).
        d_model: Width of a token.

    Call arguments:
        inputs: [B, *axes, channels] with as many axes as the patch has.
        indices: int32 [K] token numbers to embed (row-major order), or None for all.

    Returns:
        [B, N, d_model], or [B, K, d_model] with indices.
    """

    def __init__(self, patch: Sequence[int], d_model: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.patch = tuple(patch)
        self.d_model = d_model

    def build(self, input_shape: Any) -> None:
        shape = (*self.patch, input_shape[-1], self.d_model)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(self.d_model,), initializer="zeros")

    def grid(self, input_shape: Sequence[Any]) -> tuple[Any, ...]:
        """Number of patches along each axis of an input of the given shape.

        Args:
            input_shape: [batch, axes, channels]. An axis is an integer or, for an input whose size
                is known only when the graph runs, a scalar tensor (as ``ops.shape`` gives it).

        Raises:
            ValueError: When an axis is unknown or shorter than one patch, or the rank is wrong.
        """
        axes = tuple(input_shape[1:-1])
        if len(axes) != len(self.patch) or any(size is None for size in axes):
            raise ValueError(
                f"{self.name}: expected an input [batch, {len(self.patch)} known axes, channels], "
                f"got shape {tuple(input_shape)}"
            )
        grid = tuple(size // patch for size, patch in zip(axes, self.patch, strict=True))
        if any(isinstance(count, int) and count == 0 for count in grid):
            raise ValueError(
                f"{self.name}: input axes {axes} are smaller than a patch {self.patch}"
            )
        return grid

    def call(self, inputs: Any, indices: Any = None) -> Any:
        count = math.prod(self.grid(ops.shape(inputs)))
        patches = flat_patches(inputs, self.patch)
        patches = ops.reshape(patches, (-1, count, patches.shape[-1]))
        is_float = keras.backend.is_float_dtype(keras.backend.standardize_dtype(patches.dtype))
        # Before the selection, for TensorFlow gathers no bytes on a GPU; exact for pixels.
        patches = ops.cast(patches, self.compute_dtype)
        if indices is not None:
            patches = ops.take(patches, indices, axis=1)
        if not is_float:
            pixels = ops.cast(patches, "float32") / 127.5 - 1.0
            patches = ops.cast(pixels, self.compute_dtype)
        kernel = ops.reshape(self.kernel, (-1, self.d_model))
        return ops.matmul(patches, kernel) + self.bias

    def compute_output_shape(self, inputs_shape: Any, indices_shape: Any = None) -> Any:
        tokens = math.prod(self.grid(inputs_shape)) if indices_shape is None else indices_shape[0]
        return (inputs_shape[0], tokens, self.d_model)
