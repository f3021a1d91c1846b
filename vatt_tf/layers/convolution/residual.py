"""The pre-activation bottleneck block of ResNet v2, with TSM's shift where wanted."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from vatt_tf.layers.batch_norm import batch_norm
from vatt_tf.layers.configured import ConfiguredLayer
from vatt_tf.layers.convolution.space_time_convolution import (
    kernel_initializer,
    strided,
    to_frames,
    to_images,
)
from vatt_tf.layers.convolution.temporal_shift import TemporalShift


def convolution(
    filters: int, kernel_size: int, strides: int, policy: Any, name: str
) -> keras.layers.Conv2D:
    """A convolution of MMV's residual networks: SAME padding, no bias."""
    arguments = {"padding": "same", "use_bias": False, "kernel_initializer": kernel_initializer()}
    return keras.layers.Conv2D(filters, kernel_size, strides, **arguments, dtype=policy, name=name)


@keras.saving.register_keras_serializable("vatt_tf")
class BottleneckBlock(ConfiguredLayer):
    """BatchNorm and ReLU in front of each of three convolutions, beside a shortcut.

    He et al. 2016 (ResNet v2) and Lin et al. 2019 (TSM, shift inside the residual branch)::

        inputs -> norm_0 -> ReLU -+-> (shift) -> conv_0 (1x1, filters / 4)
                                  |   -> norm_1 -> ReLU -> conv_1 (3x3, filters / 4, strides)
                                  |   -> norm_2 -> ReLU -> conv_2 (1x1, filters) -+-> outputs
                                  +-> shortcut_conv (1x1, filters, strides) ------+

    Without projection the shortcut is the inputs themselves, before norm_0. The shortcut never sees
    shifted channels. Convolutions have SAME padding and no bias. The names of the convolutions are
    those of MMV's release, where the norms of a block are numbered in this order.

    Args:
        filters: Output channels, a multiple of 4.
        strides: Spatial stride of conv_1 and of the projection.
        projection: Whether the shortcut is a convolution; needed when the block changes the shape.
        shift_fraction: Share of the channels that :class:`TemporalShift` moves each way.

    Call arguments:
        inputs: Frames [B, T, H, W, C], or, without shift, also images [N, H, W, C].

    Returns:
        The same rank, spatial size ceil(size / strides), ``filters`` channels.
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        projection: bool = False,
        shift_fraction: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if filters % 4:
            raise ValueError(f"{self.name}: filters must be a multiple of 4, got {filters}")

        # === Config ===
        self.filters = filters
        self.strides = strides
        self.projection = projection
        self.shift_fraction = shift_fraction

        # === Layers ===
        policy = self.dtype_policy
        self.norm_0 = batch_norm(policy, "norm_0")
        if projection:
            self.shortcut_conv = convolution(filters, 1, strides, policy, "shortcut_conv")
        if shift_fraction:
            self.shift = TemporalShift(shift_fraction, dtype=policy, name="shift")
        self.conv_0 = convolution(filters // 4, 1, 1, policy, "conv_0")
        self.norm_1 = batch_norm(policy, "norm_1")
        self.conv_1 = convolution(filters // 4, 3, strides, policy, "conv_1")
        self.norm_2 = batch_norm(policy, "norm_2")
        self.conv_2 = convolution(filters, 1, 1, policy, "conv_2")

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        if self.shift_fraction and len(input_shape) != 5:
            raise ValueError(
                f"{self.name}: a shift needs frames [batch, time, height, width, channels], got "
                f"shape {tuple(input_shape)}"
            )
        if not self.projection and (self.strides != 1 or channels != self.filters):
            raise ValueError(
                f"{self.name}: {channels} to {self.filters} channels with stride {self.strides} "
                "needs projection=True"
            )
        images = (None, None, None, channels)
        self.norm_0.build(images)
        if self.projection:
            self.shortcut_conv.build(images)
        if self.shift_fraction:
            self.shift.build(input_shape)
        self.conv_0.build(images)
        for layer in (self.norm_1, self.conv_1, self.norm_2, self.conv_2):
            layer.build((None, None, None, self.filters // 4))

    def call(self, inputs: Any, training: bool = False) -> Any:
        # Convolutions and norms see images; frames are told apart for the shift alone.
        frames = ops.shape(inputs)[:-3]
        images = to_images(inputs)
        active = ops.relu(self.norm_0(images, training=training))
        shortcut = self.shortcut_conv(active) if self.projection else images
        if self.shift_fraction:
            active = to_images(self.shift(to_frames(active, frames)))
        residual = ops.relu(self.norm_1(self.conv_0(active), training=training))
        residual = ops.relu(self.norm_2(self.conv_1(residual), training=training))
        residual = self.conv_2(residual)
        return to_frames(shortcut + residual, frames)

    def compute_output_shape(self, input_shape: Any) -> Any:
        *frames, height, width, _ = input_shape
        sides = (strided(size, self.strides) for size in (height, width))
        return (*frames, *sides, self.filters)
