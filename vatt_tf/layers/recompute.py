"""Values that the backward pass computes again, no earlier than it needs them."""

from __future__ import annotations

from typing import Any

from keras import ops


def once_there(upstream: Any, values: Any) -> Any:
    """Returns ``values`` such that what is computed from them waits for ``upstream``.

    A graph runs an operation as soon as its inputs are there, and merges equal operations: what a
    backward pass is to compute again would be computed in the forward pass, and kept. The result
    is made to depend on the gradient from above, in a way that no optimizer sees through.

    Args:
        upstream: Gradient from above, any floats.
        values: Floats or bool.

    Returns:
        The same values.
    """
    first = ops.cast(ops.reshape(upstream, (-1,))[:1], "bool")
    true = ops.equal(first, first)
    if values.dtype == "bool":
        return ops.logical_and(values, true)
    return values + ops.cast(ops.where(true, 0.0, float("nan")), values.dtype)
