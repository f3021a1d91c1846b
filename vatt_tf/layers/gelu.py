"""The exact GELU, with a backward pass that keeps nothing but the input."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from vatt_tf.layers.recompute import once_there, with_backward


def gelu(inputs: Any) -> Any:
    """``x Φ(x)`` with the normal distribution function Φ, as ``ops.gelu(x, approximate=False)``.

    What automatic differentiation keeps of its parts, three times the size of the input, is
    computed again: the MLPs' hidden layers are the largest activations beside the attention.

    Args:
        inputs: Floats of any shape.

    Returns:
        The same shape and dtype.
    """
    return with_backward(_forward, _backward)(inputs)


def _forward(x: Any) -> Any:
    return ops.gelu(x, approximate=False)


def _backward(upstream: Any, outputs: Any, x: Any) -> Any:
    del outputs
    x = once_there(upstream, x)
    distribution = 0.5 * ops.erf(x * math.sqrt(0.5)) + 0.5
    density = ops.exp(-0.5 * ops.square(x)) * (1.0 / math.sqrt(2.0 * math.pi))
    return upstream * (distribution + x * density)
