"""Chains of elementwise operations in one pass over memory, where a compiler is there for it.

A Transformer block spends a quarter of its time on a CPU in operations that do next to nothing with
every number that they read and write. The layers mark such chains with :func:`fused`; a training
step says with :func:`fusion` what compiles them. Without it they are what they are.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]

_ACTIVE = threading.local()  # Replica threads of one strategy each trace their own step.


@contextlib.contextmanager
def fusion(compiler: Compiler | None) -> Iterator[None]:
    """While it lasts, functions marked by :func:`fused` are compiled, in this thread.

    Args:
        compiler: Makes a function of tensors to one that computes the same in few passes; it should
            give the same for the same function. None for none.
    """
    before = _compiler()
    _ACTIVE.compiler = compiler
    try:
        yield
    finally:
        _ACTIVE.compiler = before


def is_fusing() -> bool:
    """Whether chains of operations are compiled here."""
    return _compiler() is not None


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a function that should be computed in one pass.

    Its arguments are tensors, numbers, None, and tuples of these. It must be called where its
    gradient is not asked for, inside of a :func:`vatt_tf.layers.recompute.with_backward`:
    compiled, it has none.
    """

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        compiler = _compiler()
        if compiler is None:
            return function(*arguments)
        # What is watched would make the compiled function keep its steps for a gradient.
        return compiler(function)(*keras.tree.map_structure(_held, arguments))

    return call


def _compiler() -> Compiler | None:
    return getattr(_ACTIVE, "compiler", None)


def _held(value: Any) -> Any:
    return ops.stop_gradient(value) if hasattr(value, "dtype") else value
