"""The units of the S3D networks: convolution, BatchNorm, ReLU, and gates of the channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.batch_norm import batch_norm
from vatt_tf.layers.convolution.space_time_convolution import (
    SpaceTimeConvolution,
    kernel_initializer,
    space_time_average,
)


@keras.saving.register_keras_serializable("vatt_tf")
class SelfGating(keras.layers.Layer):
    """Gates of the channels from their average over time and space (S3D-G, Xie et al. 2018).

    ``x * sigmoid(mean(x) W + b)``, one gate per clip and channel; the average is float32.

    Call arguments:
        inputs: [B, T, H, W, C].

    Returns:
        [B, T, H, W, C].
    """

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        self.kernel = self.add_weight(
            name="kernel", shape=(channels, channels), initializer=kernel_initializer()
        )
        self.bias = self.add_weight(name="bias", shape=(channels,), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        averages = ops.cast(space_time_average(inputs), self.compute_dtype)
        gates = ops.sigmoid(ops.matmul(averages, self.kernel) + self.bias)
        return inputs * gates[:, None, None, None, :]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return tuple(input_shape)


# Saved models know the class by its earlier name.
@keras.saving.register_keras_serializable("vatt_tf", name="ConvolutionUnit")
class ConvBNReLU(keras.layers.Layer):
    """Convolution, BatchNorm, ReLU and, if wanted, self-gating.

    Args:
        filters: Number of output channels.
        kernel_size: Size (frames, height, width) of the kernel.
        strides: Stride along each of these axes.
        gating: Whether self-gating follows.

    Call arguments:
        inputs: [B, T, H, W, C].
        training: Whether BatchNorm uses the statistics of the batch.

    Returns:
        [B, t, h, w, filters].

    Sub-layers: ``conv``, ``norm``, ``gating``.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Sequence[int] = (1, 1, 1),
        strides: Sequence[int] = (1, 1, 1),
        gating: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.filters = filters
        self.kernel_size = tuple(kernel_size)
        self.strides = tuple(strides)
        self.has_gating = gating

        # === Layers ===
        policy = self.dtype_policy
        self.conv = SpaceTimeConvolution(filters, kernel_size, strides, dtype=policy, name="conv")
        self.norm = batch_norm(policy, "norm")
        if gating:
            self.gating = SelfGating(dtype=policy, name="gating")

    def build(self, input_shape: Any) -> None:
        output_shape = self.conv.compute_output_shape(input_shape)
        self.conv.build(input_shape)
        self.norm.build(output_shape)
        if self.has_gating:
            self.gating.build(output_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = ops.relu(self.norm(self.conv(inputs), training=training))
        return self.gating(x) if self.has_gating else x

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.conv.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        config = {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "gating": self.has_gating,
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("vatt_tf")
class SeparableUnit(keras.layers.Layer):
    """A spatial and a temporal convolution, each with BatchNorm and ReLU, and self-gating.

    A temporal kernel of length 1 stays a convolution of its own with its own BatchNorm: such is the
    unit of a deflated network.

    Args:
        filters: Number of output channels, also between the two convolutions.
        kernel_size: Size (frames, height, width): the spatial kernel is (1, height, width), the
            temporal one (frames, 1, 1).
        gating: Whether self-gating follows.

    Call arguments:
        inputs: [B, T, H, W, C].
        training: Whether BatchNorm uses the statistics of the batch.

    Returns:
        [B, T, H, W, filters].

    Sub-layers: ``spatial``, ``spatial_norm``, ``temporal``, ``temporal_norm``, ``gating``.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Sequence[int] = (3, 3, 3),
        gating: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.filters = filters
        self.kernel_size = tuple(kernel_size)
        self.has_gating = gating

        # === Layers ===
        policy = self.dtype_policy
        frames, height, width = self.kernel_size
        self.spatial = SpaceTimeConvolution(
            filters, (1, height, width), dtype=policy, name="spatial"
        )
        self.spatial_norm = batch_norm(policy, "spatial_norm")
        self.temporal = SpaceTimeConvolution(filters, (frames, 1, 1), dtype=policy, name="temporal")
        self.temporal_norm = batch_norm(policy, "temporal_norm")
        if gating:
            self.gating = SelfGating(dtype=policy, name="gating")

    def build(self, input_shape: Any) -> None:
        output_shape = self.compute_output_shape(input_shape)
        self.spatial.build(input_shape)
        self.spatial_norm.build(output_shape)
        self.temporal.build(output_shape)
        self.temporal_norm.build(output_shape)
        if self.has_gating:
            self.gating.build(output_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = ops.relu(self.spatial_norm(self.spatial(inputs), training=training))
        x = ops.relu(self.temporal_norm(self.temporal(x), training=training))
        return self.gating(x) if self.has_gating else x

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        config = {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "gating": self.has_gating,
        }
        return {**super().get_config(), **config}
