"""FLOPs and activations of a convolutional tower, counted in its graph."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import keras
import tensorflow as tf

from vatt_tf.models.config.vatt import TowerConfig
from vatt_tf.models.towers import build_tower
from vatt_tf.models.vatt import abstract


@dataclasses.dataclass(frozen=True)
class ConvolutionCost:
    """What one clip costs.

    Attributes:
        flops: Of the forward pass: two per multiplication of a convolution or a matrix product.
        outputs: Numbers that come out of the convolutions.
    """

    flops: int
    outputs: int


@functools.lru_cache(maxsize=64)
def convolution_cost(tower: TowerConfig) -> ConvolutionCost:
    """Traces the tower on one clip and adds up its convolutions; nothing is computed.

    Args:
        tower: Configuration of a convolutional tower.
    """

    def build() -> Any:
        encoder = build_tower(tower, "float32")
        encoder.build((None, *tower.input_shape))
        return encoder

    encoder = abstract(build)
    variables = encoder.variables

    def forward(clip: tf.Tensor, values: list[tf.Tensor]) -> tf.Tensor:
        scope = keras.StatelessScope(state_mapping=zip(variables, values, strict=True))
        with scope:
            return encoder(clip, training=False)["features_pooled"]

    graph = (
        tf.function(forward, autograph=False)
        .get_concrete_function(
            tf.TensorSpec((1, *tower.input_shape), tf.float32),
            [tf.TensorSpec(variable.shape, tf.float32) for variable in variables],
        )
        .graph
    )
    flops = outputs = 0
    for operation in graph.get_operations():
        if operation.type in ("Conv2D", "Conv3D"):
            kernel, size = operation.inputs[1].shape, math.prod(operation.outputs[0].shape)
            flops += 2 * size * math.prod(kernel[:-1])
            outputs += size
        elif operation.type == "MatMul":
            # A convolution of single positions, or a gate.
            size = math.prod(operation.outputs[0].shape)
            flops += 2 * size * int(operation.inputs[0].shape[-1])
            outputs += size
    return ConvolutionCost(flops, outputs)
