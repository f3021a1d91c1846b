"""Regions whose values the backward pass computes again in place of keeping them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def recompute(function: Callable[..., Any], *inputs: Any, training: bool) -> Any:
    """``function(*inputs)``; in training, only the inputs are kept for its gradient.

    The function runs a second time for the gradient, and what it drew it would draw anew: masks
    are drawn outside of it. What needs a gradient and is no variable has to be an input.

    Args:
        function: From tensors to a tensor; it draws no random numbers.
        *inputs: Tensors, or None.
        training: Whether there will be a gradient.
    """
    if not training:
        return function(*inputs)

    def run(*values: Any) -> Any:
        rest = iter(values)
        return function(*(None if one is None else next(rest) for one in inputs))

    return keras.remat(run)(*(one for one in inputs if one is not None))
