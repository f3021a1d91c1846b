"""The Inception block of the S3D networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.convolution.separable_convolution import ConvBNReLU, SeparableUnit
from vatt_tf.layers.convolution.space_time_convolution import max_pool


@keras.saving.register_keras_serializable("vatt_tf")
class InceptionBlock(keras.layers.Layer):
    """Four branches on the same input, side by side in the channels of the output.

    Branch 0: 1x1x1. Branches 1 and 2: 1x1x1, then a separable unit. Branch 3: max pooling of stride
    1, then 1x1x1. The last unit of a branch is gated, the 1x1x1 units inside branches 1 and 2 are
    not.

    Args:
        filters: Channels of the six units, in the order of the sub-layers.
        temporal_size: Frames of the temporal kernels and of the pooling; 1 in a deflated network.
        gating: Whether the branches end in self-gating.

    Call arguments:
        inputs: [B, T, H, W, C].
        training: Whether BatchNorm uses the statistics of the batch.

    Returns:
        [B, T, H, W, output_dim].

    Sub-layers: ``branch_0_conv_0a``, ``branch_1_conv_0a``, ``branch_1_conv_0b``,
    ``branch_2_conv_0a``, ``branch_2_conv_0b``, ``branch_3_conv_0b``.
    """

    def __init__(
        self,
        filters: Sequence[int],
        temporal_size: int = 3,
        gating: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.filters = tuple(filters)
        self.temporal_size = temporal_size
        self.gating = gating

        # === Layers ===
        def unit(index: int, name: str, gating: bool) -> ConvBNReLU:
            return ConvBNReLU(
                self.filters[index], gating=gating, dtype=self.dtype_policy, name=name
            )

        def separable(index: int, name: str) -> SeparableUnit:
            return SeparableUnit(
                self.filters[index],
                (temporal_size, 3, 3),
                gating,
                dtype=self.dtype_policy,
                name=name,
            )

        self.branch_0_conv_0a = unit(0, "branch_0_conv_0a", gating)
        self.branch_1_conv_0a = unit(1, "branch_1_conv_0a", False)
        self.branch_1_conv_0b = separable(2, "branch_1_conv_0b")
        self.branch_2_conv_0a = unit(3, "branch_2_conv_0a", False)
        self.branch_2_conv_0b = separable(4, "branch_2_conv_0b")
        self.branch_3_conv_0b = unit(5, "branch_3_conv_0b", gating)

    @property
    def output_dim(self) -> int:
        """Channels of the output."""
        return sum(self.filters[index] for index in (0, 2, 4, 5))

    def build(self, input_shape: Any) -> None:
        self.branch_0_conv_0a.build(input_shape)
        self.branch_1_conv_0a.build(input_shape)
        self.branch_1_conv_0b.build((*input_shape[:-1], self.filters[1]))
        self.branch_2_conv_0a.build(input_shape)
        self.branch_2_conv_0b.build((*input_shape[:-1], self.filters[3]))
        self.branch_3_conv_0b.build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        branch_0 = self.branch_0_conv_0a(inputs, training=training)
        branch_1 = self.branch_1_conv_0a(inputs, training=training)
        branch_1 = self.branch_1_conv_0b(branch_1, training=training)
        branch_2 = self.branch_2_conv_0a(inputs, training=training)
        branch_2 = self.branch_2_conv_0b(branch_2, training=training)
        branch_3 = max_pool(inputs, (self.temporal_size, 3, 3), (1, 1, 1))
        branch_3 = self.branch_3_conv_0b(branch_3, training=training)
        return ops.concatenate([branch_0, branch_1, branch_2, branch_3], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.output_dim)

    def get_config(self) -> dict[str, Any]:
        config = {
            "filters": self.filters,
            "temporal_size": self.temporal_size,
            "gating": self.gating,
        }
        return {**super().get_config(), **config}
