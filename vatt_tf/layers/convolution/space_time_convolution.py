"""Convolutions and pooling over time and space, computed by 2D operations.

TensorFlow's 3D convolutions and poolings are as fast as its 2D ones where oneDNN computes them, and
up to twenty times slower elsewhere. So everything here is computed by 2D operations: on single
frames [B * T, H, W, C], and along time on [B, T, H * W, C]. The numbers and the rule of SAME
padding, which depends on the size of the axis, are those of the 3D operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.configured import ConfiguredLayer

# Standard deviation of a normal distribution that is cut at two standard deviations.
_TRUNCATED = 0.87962566


def kernel_initializer() -> keras.initializers.Initializer:
    """MMV's: normal numbers of deviation 1 / sqrt(fan-in), cut at two deviations.

    Keras would widen them to make up for the cut.
    """
    return keras.initializers.VarianceScaling(_TRUNCATED**2, "fan_in", "truncated_normal")


def strided(size: int | None, stride: int) -> int | None:
    """Size of an axis behind an operation with SAME padding; None stays unknown."""
    return None if size is None else -(-size // stride)


def max_pool(inputs: Any, window: Sequence[int], strides: Sequence[int]) -> Any:
    """3D max pooling with SAME padding: the maximum over time, then over space.

    Args:
        inputs: [B, T, H, W, C].
        window: Size (frames, height, width) of the window.
        strides: Stride along each of these axes.
    """
    if window[0] > 1:
        inputs = _along_time(
            lambda x: ops.max_pool(x, (window[0], 1), (strides[0], 1), padding="same"), inputs
        )
    images = ops.max_pool(to_images(inputs), tuple(window[1:]), tuple(strides[1:]), "same")
    return to_frames(images, ops.shape(inputs)[:2])


def space_time_average(inputs: Any) -> Any:
    """[B, T, H, W, C] -> [B, C], averaged in float32 at least."""
    dtype = keras.backend.result_type(inputs.dtype, "float32")
    return ops.mean(ops.cast(inputs, dtype), axis=(1, 2, 3))


@keras.saving.register_keras_serializable("vatt_tf")
class SpaceTimeConvolution(ConfiguredLayer):
    """3D convolution without a bias, with SAME padding, computed by 2D operations.

    Args:
        filters: Number of output channels.
        kernel_size: Size (frames, height, width) of the kernel, at least as large as the strides.
        strides: Stride along each of these axes.

    Call arguments:
        inputs: [B, T, H, W, C].

    Returns:
        [B, t, h, w, filters], each axis divided by its stride and rounded up.

    The weight ``kernel`` has the shape of a 3D convolution, [*kernel_size, C, filters].
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Sequence[int] = (1, 1, 1),
        strides: Sequence[int] = (1, 1, 1),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if any(size < step for size, step in zip(kernel_size, strides, strict=True)):
            raise ValueError(
                f"{self.name}: expected a kernel of three sizes, none below its stride, got "
                f"kernel_size {tuple(kernel_size)} and strides {tuple(strides)}"
            )

        # === Config ===
        self.filters = filters
        self.kernel_size = tuple(kernel_size)
        self.strides = tuple(strides)

    def build(self, input_shape: Any) -> None:
        shape = (*self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=kernel_initializer())

    def call(self, inputs: Any) -> Any:
        kernel = ops.convert_to_tensor(self.kernel)
        frames, *space = self.kernel_size
        temporal_stride, *spatial_strides = self.strides
        temporal = (frames, temporal_stride) != (1, 1)
        spatial = (*space, *spatial_strides) != (1, 1, 1, 1)
        if temporal and spatial:
            inputs = _stack_frames(inputs, frames, temporal_stride)
            kernel = ops.transpose(kernel, (1, 2, 0, 3, 4))
        channels = inputs.shape[-1]
        if spatial:
            kernel = ops.reshape(kernel, (*space, channels, self.filters))
            images = ops.conv(to_images(inputs), kernel, tuple(spatial_strides), padding="same")
            return to_frames(images, ops.shape(inputs)[:2])
        if temporal:
            kernel = ops.reshape(kernel, (frames, 1, channels, self.filters))
            return _along_time(
                lambda x: ops.conv(x, kernel, (temporal_stride, 1), padding="same"), inputs
            )
        # A matrix product is faster than the same convolution.
        pixels = ops.reshape(inputs, (-1, channels))
        outputs = ops.matmul(pixels, ops.reshape(kernel, (channels, self.filters)))
        return ops.reshape(outputs, (-1, *ops.shape(inputs)[1:-1], self.filters))

    def compute_output_shape(self, input_shape: Any) -> Any:
        axes = zip(input_shape[1:-1], self.strides, strict=True)
        return (input_shape[0], *(strided(size, step) for size, step in axes), self.filters)


def to_images(frames: Any) -> Any:
    """[..., H, W, C] -> [N, H, W, C]."""
    return ops.reshape(frames, (-1, *ops.shape(frames)[-3:]))


def to_frames(images: Any, leading: Any) -> Any:
    """[N, H, W, C] -> [*leading, H, W, C], whatever the first axis is."""
    return ops.reshape(images, (-1, *leading[1:], *ops.shape(images)[1:]))


def _along_time(function: Callable[[Any], Any], inputs: Any) -> Any:
    """Applies a function of [B, T, pixels, C] to [B, T, H, W, C]."""
    frames, height, width, channels = ops.shape(inputs)[1:]
    outputs = function(ops.reshape(inputs, (-1, frames, height * width, channels)))
    _, frames, _, channels = ops.shape(outputs)
    return ops.reshape(outputs, (-1, frames, height, width, channels))


def _stack_frames(inputs: Any, kernel: int, stride: int) -> Any:
    """[B, T, H, W, C] -> [B, ceil(T / stride), H, W, kernel * C].

    The channels of an output frame are those of the input frames under the temporal kernel there,
    with zeros where SAME padding reaches over the clip.
    """
    frames = ops.shape(inputs)[1]
    count = (frames + stride - 1) // stride
    last = (count - 1) * stride
    # Padding as large as any number of frames may need; the odd frame of SAME padding is behind.
    before, after = (kernel - 1) // 2, kernel // 2
    start = before - (last + kernel - frames) // 2
    padded = ops.pad(inputs, ((0, 0), (before, after), (0, 0), (0, 0), (0, 0)))
    taps = [padded[:, start + tap : start + tap + last + 1 : stride] for tap in range(kernel)]
    return ops.concatenate(taps, axis=-1)
