"""Dense layers that keep little for the backward pass, and keep it no longer than needed.

A Dense keeps its input for the gradient of its kernel. Where that input is a few elementwise
operations away from what is kept anyway, it is computed again: in a Transformer block the normed
tokens, and the hidden layer of the MLP, which is four times as wide.

The gradients of kernel and bias are needed at the very end only, and a graph would leave them for
later, with all that they are computed from: the gradient of the inputs waits for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from vatt_tf.layers.fusion import fused
from vatt_tf.layers.masks import Kept, masked
from vatt_tf.layers.recompute import add_data_dependency, first_value, with_backward


def checkpointed_dense(inputs: Any, kernel: Any, bias: Any = None) -> Any:
    """``inputs kernel + bias``.

    Args:
        inputs: [B, N, d].
        kernel: [d, e].
        bias: [e], or None for none.

    Returns:
        [B, N, e] in the dtype of the inputs.
    """

    def backward(upstream: Any, outputs: Any, inputs: Any, *weights: Any) -> tuple[Any, ...]:
        del outputs
        grad_weights = _grad_weights(inputs, upstream, weights)
        return _grad_inputs(add_data_dependency(grad_weights, upstream), weights), *grad_weights

    return with_backward(_product, backward)(inputs, *_weights(kernel, bias, inputs.dtype))


def norm_dense(
    inputs: Any, gamma: Any, beta: Any, kernel: Any, bias: Any = None, epsilon: float = 1e-6
) -> Any:
    """``layer_norm(inputs) kernel + bias``; keeps the inputs alone.

    Args:
        inputs: [B, N, d]; the norm is over d, in float32 under every policy.
        gamma: Scale of the norm, [d].
        beta: Offset of the norm, [d].
        kernel: [d, e].
        bias: [e], or None for none.
        epsilon: Added to the variance.

    Returns:
        [B, N, e] in the dtype of the inputs.
    """
    dtype = inputs.dtype

    def forward(inputs: Any, gamma: Any, beta: Any, *weights: Any) -> Any:
        return _product(_norm(inputs, gamma, beta, epsilon), *weights)

    def backward(
        upstream: Any, outputs: Any, inputs: Any, gamma: Any, beta: Any, *weights: Any
    ) -> tuple[Any, ...]:
        del outputs
        normed = _norm(inputs, gamma, beta, epsilon, first_value(upstream))
        grad_weights = _grad_weights(normed, upstream, weights)
        grad_normed = ops.cast(_grad_inputs(upstream, weights), "float32")
        grad_inputs, products = _grad_norm(grad_normed, inputs, gamma, epsilon)
        grad_tables = (_sum_of_rows(products), _sum_of_rows(grad_normed), *grad_weights)
        return add_data_dependency(grad_tables, ops.cast(grad_inputs, dtype)), *grad_tables

    tables = (ops.cast(gamma, "float32"), ops.cast(beta, "float32"))
    weights = _weights(kernel, bias, dtype)
    return with_backward(forward, backward)(inputs, *tables, *weights)


def gelu_dense(
    inputs: Any, kernel: Any, bias: Any = None, kept: Kept = None, scale: float = 1.0
) -> Any:
    """``(gelu(inputs) * kept * scale) kernel + bias``; keeps the inputs and the mask.

    The GELU is the exact one, x * Phi(x).

    Args:
        inputs: [B, N, e].
        kernel: [e, d].
        bias: [d], or None for none.
        kept: What dropout keeps of [B, N, e].
        scale: Factor of what is kept.

    Returns:
        [B, N, d] in the dtype of the inputs.
    """

    def forward(inputs: Any, kernel: Any, *bias: Any) -> Any:
        return _product(_hidden(inputs, kept, scale), kernel, *bias)

    def backward(upstream: Any, outputs: Any, inputs: Any, *weights: Any) -> tuple[Any, ...]:
        del outputs
        hidden = _hidden(inputs, kept, scale, first_value(upstream))
        grad_weights = _grad_weights(hidden, upstream, weights)
        grad_hidden = _grad_inputs(upstream, weights)
        first = tuple(first_value(one) for one in grad_weights)
        return _grad_gelu(grad_hidden, inputs, kept, scale, first), *grad_weights

    return with_backward(forward, backward)(inputs, *_weights(kernel, bias, inputs.dtype))


def dense_of(inputs: Any, kernel: Any, bias: Any = None) -> Any:
    """``inputs kernel + bias`` of [B, N, d] in the dtype of the inputs, with a usual gradient."""
    return _product(inputs, *_weights(kernel, bias, inputs.dtype))


def on_rows(function: Callable[[Any], Any], values: Any) -> Any:
    """Applies a function of [rows, d] to [..., d].

    A graph makes one operation of a product, its bias and a GELU, if no reshaping is in between.
    """
    outputs = function(_rows(values))
    return ops.reshape(outputs, (*ops.shape(values)[:-1], outputs.shape[-1]))


# Each of these waits for what it is called with, not only for what it computes with: where they are
# not compiled, add_data_dependency has to see to it.


@fused
def _norm(inputs: Any, gamma: Any, beta: Any, epsilon: float, first: Any = None) -> Any:
    """Layer norm over the last axis, in float32, in the dtype of the inputs."""
    inputs = inputs if first is None else add_data_dependency(first, inputs)
    values, _ = _normed(inputs, epsilon)
    return ops.cast(values * gamma + beta, inputs.dtype)


@fused
def _grad_norm(grad_normed: Any, inputs: Any, gamma: Any, epsilon: float) -> tuple[Any, Any]:
    """Gradient of the norm's inputs, and what adds up to that of its scale; both float32."""
    values, inverse = _normed(add_data_dependency(grad_normed, inputs), epsilon)
    grad_values = grad_normed * gamma
    # Neither the mean nor the length of what the norm returns depends on its inputs.
    along = ops.mean(grad_values * values, axis=-1, keepdims=True)
    grad_values = grad_values - ops.mean(grad_values, axis=-1, keepdims=True) - values * along
    return grad_values * inverse, grad_normed * values


def _normed(inputs: Any, epsilon: float) -> tuple[Any, Any]:
    values = ops.cast(inputs, "float32")
    centred = values - ops.mean(values, axis=-1, keepdims=True)
    inverse = ops.rsqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + epsilon)
    return centred * inverse, inverse


@fused
def _hidden(inputs: Any, kept: Kept, scale: float, first: Any = None) -> Any:
    """GELU and dropout."""
    inputs = inputs if first is None else add_data_dependency(first, inputs)
    # Keras's GELU divides by the root of 2, which takes as long as all the rest.
    return inputs * masked(scale * (0.5 * ops.erf(inputs * math.sqrt(0.5)) + 0.5), kept)


@fused
def _grad_gelu(
    grad_hidden: Any, inputs: Any, kept: Kept, scale: float, first: tuple[Any, ...]
) -> Any:
    """Gradient of the inputs of :func:`_hidden`."""
    inputs = add_data_dependency([grad_hidden, *first], inputs)
    part = inputs * math.sqrt(0.5)
    distribution = 0.5 * ops.erf(part) + 0.5
    # The density times x: x * exp(-x^2 / 2) / sqrt(2 pi).
    slope = part * ops.exp(-ops.square(part)) * (1.0 / math.sqrt(math.pi))
    return masked(grad_hidden, kept) * (scale * (distribution + slope))


def _weights(kernel: Any, bias: Any, dtype: Any) -> tuple[Any, ...]:
    return tuple(ops.cast(weight, dtype) for weight in (kernel, bias) if weight is not None)


def _product(inputs: Any, kernel: Any, *bias: Any) -> Any:
    def product(rows: Any) -> Any:
        outputs = ops.matmul(rows, kernel)
        return outputs + bias[0] if bias else outputs

    return on_rows(product, inputs)


def _grad_inputs(upstream: Any, weights: tuple[Any, ...]) -> Any:
    """The gradient of the inputs of a product."""
    return ops.matmul(upstream, ops.transpose(weights[0]))


def _grad_weights(inputs: Any, upstream: Any, weights: tuple[Any, ...]) -> tuple[Any, ...]:
    """The gradients of kernel and, if there is one, bias."""
    return (_grad_kernel(inputs, upstream), *_grad_bias(upstream, weights))


def _grad_kernel(inputs: Any, upstream: Any) -> Any:
    return ops.matmul(ops.transpose(_rows(inputs)), _rows(upstream))


def _grad_bias(upstream: Any, weights: tuple[Any, ...]) -> tuple[Any, ...]:
    return (_sum_of_rows(upstream),) if len(weights) > 1 else ()


def _rows(values: Any) -> Any:
    return ops.reshape(values, (-1, values.shape[-1]))


def _sum_of_rows(values: Any) -> Any:
    """Over all axes but the last, as a product: on a CPU that is three times as fast."""
    rows = _rows(values)
    return ops.matmul(ops.ones((1, ops.shape(rows)[0]), dtype=rows.dtype), rows)[0]
