"""FLOPs and activations of a tower of any kind, counted in its graph."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import keras
import tensorflow as tf

from vatt_tf.encoders.tower import TowerConfig
from vatt_tf.models.vatt import abstract


@dataclasses.dataclass(frozen=True)
class GraphCost:
    """Cost of one clip.

    Attributes:
        flops: Of the forward pass: two per multiplication of a convolution or a matrix product.
        outputs: Numbers that come out of the convolutions and matrix products.
    """

    flops: int
    outputs: int


@functools.lru_cache(maxsize=64)
def graph_cost(tower: TowerConfig) -> GraphCost:
    """Traces a tower on one clip and adds up its products; nothing is computed.

    Args:
        tower: The tower's configuration.
    """
    encoder = abstract_encoder(tower)
    variables = encoder.variables

    def forward(clip: tf.Tensor, values: list[tf.Tensor]) -> tf.Tensor:
        scope = keras.StatelessScope(state_mapping=zip(variables, values, strict=True))
        with scope:
            return encoder(clip, training=False)["features_pooled"]

    dtype = tf.int32 if tower.modality == "text" else tf.float32
    graph = (
        tf.function(forward, autograph=False)
        .get_concrete_function(
            tf.TensorSpec((1, *tower.input_shape), dtype),
            [tf.TensorSpec(variable.shape, tf.float32) for variable in variables],
        )
        .graph
    )
    flops = outputs = 0
    for operation in graph.get_operations():
        inner = _products_per_output(operation)
        if inner:
            size = math.prod(operation.outputs[0].shape)
            flops += 2 * size * inner
            outputs += size
    return GraphCost(flops, outputs)


def _products_per_output(operation: tf.Operation) -> int:
    """Multiplications for each number that an operation puts out; 0 for one without a product."""
    if operation.type in ("Conv2D", "Conv3D"):
        return math.prod(operation.inputs[1].shape[:-1])
    if operation.type == "DepthwiseConv2dNative":
        return math.prod(operation.inputs[1].shape[:-2])
    if operation.type in ("MatMul", "BatchMatMulV2"):
        transposed = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
        return int(operation.inputs[0].shape[-2 if transposed else -1])
    if operation.type == "Einsum":
        equation = operation.get_attr("equation").decode()
        left, right = equation.split("->")[0].split(",")
        summed = set(left) & set(right) - set(equation.split("->")[1])
        return math.prod(int(operation.inputs[0].shape[left.index(axis)]) for axis in summed)
    return 0


@functools.lru_cache(maxsize=64)
def has_batch_norm(tower: TowerConfig) -> bool:
    """Whether a tower keeps statistics of its batches, as the convolutional ones do."""
    return any(weight.path.endswith("/moving_mean") for weight in abstract_encoder(tower).weights)


def abstract_encoder(tower: TowerConfig) -> Any:
    """The encoder of a configuration with all variables, which take no memory."""

    def build() -> Any:
        encoder = tower.build(dtype="float32", name=tower.modality)
        encoder.build((None, *tower.input_shape))
        return encoder

    return abstract(build)
