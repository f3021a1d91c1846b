"""Chains of elementwise operations in one pass over memory, where a compiler is there for it.

A Transformer block spends a quarter of its time on a CPU in operations that do next to nothing with
every number that they read and write. The layers mark such chains with :func:`fused`; a training
step says with :func:`fusion` what compiles them. Without it they are what they are.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.thread_value import ThreadValue

Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]

_COMPILER = ThreadValue()


def fusion(compiler: Compiler | None) -> contextlib.AbstractContextManager[None]:
    """While it lasts, functions marked by :func:`fused` are compiled, in this thread.

    Args:
        compiler: Makes a function of tensors to one that computes the same in few passes; it should
            give the same for the same function. None for none.
    """
    return _COMPILER.during(compiler)


def is_fusing() -> bool:
    """Whether chains of operations are compiled here."""
    return _COMPILER.value is not None


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a function that should be computed in one pass.

    Its arguments are tensors, numbers, None, and tuples of these. It must be called where its
    gradient is not asked for, inside of a :func:`vatt_tf.layers.recompute.with_backward`:
    compiled, it has none.
    """

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        compiler = _COMPILER.value
        if compiler is None:
            return function(*arguments)
        # What is watched would make the compiled function keep its steps for a gradient.
        return compiler(function)(*keras.tree.map_structure(_held, arguments))

    return call


def _held(value: Any) -> Any:
    return ops.stop_gradient(value) if hasattr(value, "dtype") else value
