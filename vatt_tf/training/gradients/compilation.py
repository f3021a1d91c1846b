"""XLA compilation of a training step: whole towers, or only chains of elementwise operations.

On a CPU, XLA's matrix products are slower than TensorFlow's, but its elementwise loops are two to
five times as fast (docs/measurements/speed.md).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from vatt_tf import native_log
from vatt_tf.layers.fusion import Compiler

native_log.limit_abseil()


def compiler_of(jit_compile: bool) -> Compiler | None:
    """Returns the compiler of the layers' elementwise chains (:mod:`vatt_tf.layers.fusion`).

    Args:
        jit_compile: Whether XLA compiles whole towers, and fuses their chains itself.
    """
    if jit_compile:
        return _as_it_is
    others = tf.config.list_logical_devices("GPU") + tf.config.list_logical_devices("TPU")
    return None if others else _compiled


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled = tf.function(function, jit_compile=True, autograph=False)

    def call(*arguments: Any) -> Any:
        # TensorFlow's graph optimizer has no shape for the output of a compiled function, and
        # logs a warning for every softmax of unknown size.
        return tf.nest.map_structure(
            lambda value: tf.ensure_shape(value, value.shape), compiled(*arguments)
        )

    return call
