"""The Inception block of the S3D networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.configured import ConfiguredLayer
from vatt_tf.layers.convolution.separable_convolution import ConvBNReLU, SeparableUnit
from vatt_tf.layers.convolution.space_time_convolution import max_pool


@keras.saving.register_keras_serializable("vatt_tf")
class InceptionBlock(ConfiguredLayer):
    """Four branches on the same input, side by side in the channels of the output.

    Branch 0: 1x1x1. Branches 1 and 2: 1x1x1, then a separable unit. Branch 3: max pooling of stride
    1, then 1x1x1. The last unit of a branch is gated, the 1x1x1 units inside branches 1 and 2 are
    not.

    Args:
        filters: Channels of the six units, in the order of the attributes.
        temporal_size: Frames of the temporal kernels and of the pooling; 1 in a deflated network.
        gating: Whether the branches end in self-gating.

    Call arguments:
        inputs: [B, T, H, W, C].

    Returns:
        [B, T, H, W, channels of the four branches].
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
        policy, separable = self.dtype_policy, (temporal_size, 3, 3)

        def unit(index: int, name: str, gating: bool) -> ConvBNReLU:
            return ConvBNReLU(self.filters[index], gating=gating, dtype=policy, name=name)

        def separable_unit(index: int, name: str) -> SeparableUnit:
            return SeparableUnit(self.filters[index], separable, gating, dtype=policy, name=name)

        self.branch_0_conv_0a = unit(0, "branch_0_conv_0a", gating)
        self.branch_1_conv_0a = unit(1, "branch_1_conv_0a", False)
        self.branch_1_conv_0b = separable_unit(2, "branch_1_conv_0b")
        self.branch_2_conv_0a = unit(3, "branch_2_conv_0a", False)
        self.branch_2_conv_0b = separable_unit(4, "branch_2_conv_0b")
        self.branch_3_conv_0b = unit(5, "branch_3_conv_0b", gating)

    def _branches(self) -> list[tuple[ConvBNReLU | SeparableUnit, ...]]:
        return [
            (self.branch_0_conv_0a,),
            (self.branch_1_conv_0a, self.branch_1_conv_0b),
            (self.branch_2_conv_0a, self.branch_2_conv_0b),
            (self.branch_3_conv_0b,),
        ]

    def build(self, input_shape: Any) -> None:
        for units in self._branches():
            shape = input_shape
            for unit in units:
                unit.build(shape)
                shape = unit.compute_output_shape(shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        pooled = max_pool(inputs, (self.temporal_size, 3, 3), (1, 1, 1))
        outputs = [inputs, inputs, inputs, pooled]
        for branch, units in enumerate(self._branches()):
            for unit in units:
                outputs[branch] = unit(outputs[branch], training=training)
        return ops.concatenate(outputs, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        channels = sum(units[-1].filters for units in self._branches())
        return (*input_shape[:-1], channels)
