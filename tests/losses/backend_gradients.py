"""Gradients by whatever backend Keras has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np


def gradients(
    loss: Callable[[Mapping[str, Any]], Any], values: Mapping[str, np.ndarray]
) -> tuple[float, dict[str, np.ndarray]]:
    """A loss of float32 arrays by name, and its gradient."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        found, slopes = jax.value_and_grad(loss)(dict(values))
    elif backend == "torch":
        tensors = {
            name: keras.ops.convert_to_tensor(value).detach().requires_grad_()
            for name, value in values.items()
        }
        found = loss(tensors)
        found.backward()
        slopes = {  # no gradient where the loss does not read the array
            name: np.zeros(tensor.shape, "float32") if tensor.grad is None else tensor.grad
            for name, tensor in tensors.items()
        }
    else:
        import tensorflow as tf

        tensors = {name: tf.constant(value) for name, value in values.items()}
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            found = loss(tensors)
        zero = tf.UnconnectedGradients.ZERO
        slopes = tape.gradient(found, tensors, unconnected_gradients=zero)
    to_numpy = keras.ops.convert_to_numpy
    return float(to_numpy(found)), {name: to_numpy(slope) for name, slope in slopes.items()}
