"""The exact GELU, with a backward pass that keeps nothing but the input."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from vatt_tf.layers.recompute import once_there


def gelu(inputs: Any) -> Any:
    """``x Φ(x)`` with the normal distribution function Φ, as ``ops.gelu(x, approximate=False)``.

    What automatic differentiation keeps of its parts, three times the size of the input, is
    computed again: the MLPs' hidden layers are the largest activations beside the attention.

    Args:
        inputs: Floats of any shape.

    Returns:
        The same shape and dtype.
    """

    @ops.custom_gradient
    def activated(x: Any) -> Any:
        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            # The backends disagree on how they hand over what comes from above.
            upstream = arguments[0] if upstream is None else upstream
            y = once_there(upstream, x)
            distribution = 0.5 * ops.erf(y * math.sqrt(0.5)) + 0.5
            density = ops.exp(-0.5 * ops.square(y)) * (1.0 / math.sqrt(2.0 * math.pi))
            return upstream * (distribution + y * density)

        return ops.gelu(x, approximate=False), gradient

    return activated(inputs)
