"""Gradients of a layer in training against central differences, in float64, with the same masks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from vatt_tf.layers.dropout import Dropout, DropToken

_STEP = 1e-6
_TOLERANCE = 1e-5  # Float64 leaves 1e-9 of such a step; of a larger one ReLUs leave more.


@contextlib.contextmanager
def all_in_float64() -> Iterator[None]:
    """What the layers compute in float32 under every policy, they compute in float64 here.

    A difference of float32 numbers has three digits, and hides a small error.
    """
    cast = keras.ops.cast

    def cast_to_float64(values: Any, dtype: Any) -> Any:
        return cast(values, "float64" if dtype == "float32" else dtype)

    with mock.patch.object(keras.ops, "cast", cast_to_float64):
        yield


def drop_rates(layer: keras.layers.Layer) -> list[float]:
    """Rates of all dropouts and DropTokens in a layer."""
    parts = layer._flatten_layers()
    return [part.rate for part in parts if isinstance(part, Dropout | DropToken)]


def check(layer: keras.layers.Layer, inputs: Any, arguments: Mapping[str, Any]) -> None:
    """Compares the gradients of variables and float inputs, all in one random direction.

    Masks are a function of the seed generators' states, which are the same in every evaluation: a
    backward pass that draws or scales a mask in another way than the forward pass shows.

    Args:
        layer: Built with the policy ``"float64"``.
        inputs: An array or a dict of arrays.
        arguments: Of the call: ``training`` and others.

    Raises:
        AssertionError: Names the variables and inputs whose gradient is another.
    """
    rng = np.random.default_rng(7)
    leaves = [_float64(leaf) for leaf in tf.nest.flatten(inputs)]
    places = {variable.path: variable.value for variable in layer.trainable_variables}
    for variable in places.values():
        variable.assign(rng.normal(0.2, 0.4, variable.shape))
    for number, leaf in enumerate(leaves):
        if leaf.dtype == np.float64:
            places[f"input {number}"] = leaves[number] = tf.Variable(leaf)
    directions = {name: rng.normal(size=place.shape) for name, place in places.items()}
    states = [value for value in layer.non_trainable_variables if "seed" in value.path]

    def outputs() -> list[tf.Tensor]:
        for number, state in enumerate(states):
            state.assign([1, number])
        values = [tf.convert_to_tensor(leaf) for leaf in leaves]
        return tf.nest.flatten(layer(tf.nest.pack_sequence_as(inputs, values), **arguments))

    def moved(names: list[str], step: float) -> float:
        for name in names:
            places[name].assign_add(step * directions[name])
        value = float(_target(outputs()))
        for name in names:
            places[name].assign_sub(step * directions[name])
        return value

    def difference(names: list[str]) -> float:
        return (moved(names, _STEP) - moved(names, -_STEP)) / (2 * _STEP)

    with tf.GradientTape() as tape:
        target = _target(outputs())
    gradients = tape.gradient(target, places, unconnected_gradients="zero")
    slopes = {
        name: float(np.sum(tf.convert_to_tensor(gradient) * directions[name]))
        for name, gradient in gradients.items()
    }
    scale = max(map(abs, slopes.values()))
    assert scale > 1e-3, "the gradients are zero, and nothing is compared"
    if abs(difference(list(places)) - sum(slopes.values())) > _TOLERANCE * scale:
        found = {name: (slopes[name], difference([name])) for name in places}
        wrong = [
            f"{name}: slope {slope:.6g} of the gradient, {other:.6g} of differences"
            for name, (slope, other) in found.items()
            if abs(slope - other) > _TOLERANCE * scale
        ]
        raise AssertionError("\n".join(["in training, gradients are not differences", *wrong]))


def _float64(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float64) if np.issubdtype(leaf.dtype, np.floating) else leaf


def _target(outputs: list[tf.Tensor]) -> tf.Tensor:
    """A number that depends on every output in its own way."""
    total = tf.constant(0.0, tf.float64)
    for index, leaf in enumerate(outputs):
        assert leaf.dtype == tf.float64, "a layer of float64 computes in another dtype"
        weights = np.random.default_rng(index).normal(size=leaf.shape)
        total += tf.reduce_sum(tf.sin(leaf) * weights)
    return total
