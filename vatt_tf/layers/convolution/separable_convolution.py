"""The units of the S3D networks: convolution, BatchNorm, ReLU, and gates of the channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.batch_norm import batch_norm
from vatt_tf.layers.configured import ConfiguredLayer
from vatt_tf.layers.convolution.space_time_convolution import (
    SpaceTimeConvolution,
    kernel_initializer,
    space_time_average,
)


class _Unit(ConfiguredLayer):
    """Convolutions, each with BatchNorm and ReLU, and self-gating if wanted (Xie et al. 2018).

    Self-gating multiplies the channels of a clip by ``sigmoid(mean(x) W + b)``, where the mean is
    over time and space, in float32.
    """

    filters: int
    gating: keras.layers.Dense | None

    def _gates(self, wanted: bool) -> keras.layers.Dense | None:
        if not wanted:
            return None
        return keras.layers.Dense(
            self.filters,
            activation="sigmoid",
            kernel_initializer=kernel_initializer(),
            dtype=self.dtype_policy,
            name="gating",
        )

    def _steps(self) -> list[tuple[SpaceTimeConvolution, keras.layers.BatchNormalization]]:
        raise NotImplementedError

    def build(self, input_shape: Any) -> None:
        for conv, norm in self._steps():
            conv.build(input_shape)
            input_shape = conv.compute_output_shape(input_shape)
            norm.build(input_shape)
        if self.gating:
            self.gating.build((input_shape[0], self.filters))

    def call(self, inputs: Any, training: bool = False) -> Any:
        for conv, norm in self._steps():
            inputs = ops.relu(norm(conv(inputs), training=training))
        if not self.gating:
            return inputs
        averages = ops.cast(space_time_average(inputs), self.compute_dtype)
        return inputs * self.gating(averages)[:, None, None, None, :]

    def compute_output_shape(self, input_shape: Any) -> Any:
        for conv, _ in self._steps():
            input_shape = conv.compute_output_shape(input_shape)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gating": self.gating is not None}


# Saved models know the class by its earlier name.
@keras.saving.register_keras_serializable("vatt_tf", name="ConvolutionUnit")
class ConvBNReLU(_Unit):
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

        # === Layers ===
        policy = self.dtype_policy
        self.conv = SpaceTimeConvolution(filters, kernel_size, strides, dtype=policy, name="conv")
        self.norm = batch_norm(policy, "norm")
        self.gating = self._gates(gating)

    def _steps(self) -> list[tuple[SpaceTimeConvolution, keras.layers.BatchNormalization]]:
        return [(self.conv, self.norm)]


@keras.saving.register_keras_serializable("vatt_tf")
class SeparableUnit(_Unit):
    """A spatial and a temporal convolution, each with BatchNorm and ReLU, and self-gating.

    A temporal kernel of length 1 stays a convolution of its own with its own BatchNorm: such is the
    unit of a deflated network.

    Args:
        filters: Number of output channels, also between the two convolutions.
        kernel_size: Size (frames, height, width): the spatial kernel is (1, height, width), the
            temporal one (frames, 1, 1).
        gating: Whether self-gating follows.

    It is called as :class:`ConvBNReLU` is, and keeps the size of the clip.
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

        # === Layers ===
        policy = self.dtype_policy
        frames, *space = self.kernel_size
        self.spatial = SpaceTimeConvolution(filters, (1, *space), dtype=policy, name="spatial")
        self.spatial_norm = batch_norm(policy, "spatial_norm")
        self.temporal = SpaceTimeConvolution(filters, (frames, 1, 1), dtype=policy, name="temporal")
        self.temporal_norm = batch_norm(policy, "temporal_norm")
        self.gating = self._gates(gating)

    def _steps(self) -> list[tuple[SpaceTimeConvolution, keras.layers.BatchNormalization]]:
        return [(self.spatial, self.spatial_norm), (self.temporal, self.temporal_norm)]
