"""Backward passes written by hand, which compute values again in place of keeping them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops


def with_backward(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """A function with a gradient of its own.

    Args:
        forward: From tensors to one tensor.
        backward: From the gradient from above, the outputs and the inputs to the gradient of each
            input: a tensor for one input, a tuple for several.

    Returns:
        What computes as ``forward`` does.
    """

    @ops.custom_gradient
    def function(*inputs: Any) -> Any:
        outputs = forward(*inputs)

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            # The backends disagree on how they hand over what comes from above.
            return backward(arguments[0] if upstream is None else upstream, outputs, *inputs)

        return outputs, gradient

    return function


def add_data_dependency(first: Any | Sequence[Any], values: Any) -> Any:
    """Returns ``values`` such that what is computed from them waits for ``first``.

    A graph runs an operation as soon as its inputs are there, and merges equal operations: what a
    backward pass is to compute again would be computed in the forward pass, and kept. Hence the
    sum with a zero that only what comes first can tell.

    Args:
        first: What is to come first, any floats; most often the gradient from above.
        values: Numbers or bool.

    Returns:
        The same values.
    """
    firsts = first if isinstance(first, list | tuple) else [first]
    numbers = [ops.cast(first_value(one), "float32") for one in firsts]
    zero = sum(ops.minimum(ops.abs(number), 0.0) for number in numbers)
    if values.dtype == "bool":
        return ops.logical_or(values, zero > 0.0)
    return values + ops.cast(zero, values.dtype)


def first_value(values: Any) -> Any:
    """Something small, [1], that is there when the values are."""
    return ops.reshape(values, (-1,))[:1]
