"""A training step of tiny models on the backend of Keras that ``KERAS_BACKEND`` names.

``python -m tests.models.backend_step OUT.npz`` writes its numbers. Masks of dropout and DropToken
come from NumPy, as every backend draws others.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import keras
import numpy as np
from keras import ops

from tests.models import tiny
from vatt_tf.layers.dropout import Dropout, DropToken
from vatt_tf.layers.random import seed_scope
from vatt_tf.models.vatt import build_vatt

KEY = np.array([1, 2], "uint32")


def numbers() -> dict[str, np.ndarray]:
    """Losses, gradients and updated weights, with and without recomputed blocks."""
    found = {}
    for make in (tiny.specific, tiny.agnostic):
        model = build_vatt(make())
        for remat in (False, True):
            for tower in model.towers.values():
                tower.transformer.remat = remat
            name = f"{make.__name__}/{'remat' if remat else 'kept'}"
            found |= {f"{name}/{key}": value for key, value in _step(model).items()}
        found[f"{make.__name__}/replays"] = np.array(_replays(model))
    return found


def _step(model: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    for variable in sorted(model.weights, key=lambda variable: variable.path):
        shape = variable.shape
        if len(shape) > 1:
            variable.assign(rng.normal(size=shape) / math.sqrt(math.prod(shape[:-1])))
        else:  # Scales and variances are positive.
            variable.assign(rng.uniform(0.5, 1.5, shape))
    batch = {name: ops.convert_to_tensor(value) for name, value in tiny.batch().items()}
    seeds = itertools.count()

    def draw(layer: Dropout, shape: Any, training: bool, may_be_key: bool = False) -> Any:
        assert training and layer.rate
        mask = np.random.default_rng(next(seeds)).uniform(size=tuple(shape)) >= layer.rate
        return ops.convert_to_tensor(mask)

    def indices(layer: DropToken, tokens: int, training: bool) -> Any:
        assert training and layer.kept < tokens
        order = np.random.default_rng(next(seeds)).permutation(tokens)
        return ops.convert_to_tensor(order[: layer.kept].astype("int32"))

    def loss() -> Any:
        with seed_scope(KEY):
            return model.compute_loss(batch, y_pred=model(batch, training=True))

    with mock.patch.object(Dropout, "draw", draw), mock.patch.object(DropToken, "indices", indices):
        value, gradients = _gradients(loss, model)
    assert next(seeds) > 10
    found = {"loss": ops.convert_to_numpy(value)}
    for variable, gradient in zip(model.trainable_weights, gradients, strict=True):
        found[f"gradient/{variable.path}"] = ops.convert_to_numpy(gradient)
    keras.optimizers.SGD(0.1).apply(gradients, model.trainable_weights)
    return found | {f"weight/{one.path}": ops.convert_to_numpy(one) for one in model.weights}


def _gradients(loss: Callable[[], Any], model: Any) -> tuple[Any, list[Any]]:
    variables = model.trainable_weights
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss()
        gradients = tape.gradient(value, [variable.value for variable in variables])
        return value, [tf.convert_to_tensor(gradient) for gradient in gradients]
    if keras.backend.backend() == "jax":
        import jax

        def of_values(values: Any) -> Any:
            with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
                value = loss()
            updated = [scope.get_current_value(one) for one in model.non_trainable_weights]
            return value, {place: one for place, one in enumerate(updated) if one is not None}

        step = jax.jit(jax.value_and_grad(of_values, has_aux=True))
        (value, updated), gradients = step([variable.value for variable in variables])
        for place, one in updated.items():  # moving averages
            model.non_trainable_weights[place].assign(one)
        return value, gradients
    value = loss()
    value.backward()
    gradients = [variable.value.grad.clone() for variable in variables]
    for variable in variables:
        variable.value.grad = None
    return value.detach(), gradients


def _replays(model: Any) -> bool:
    """Whether the key alone decides what is drawn."""
    features = []
    for _ in range(2):
        with seed_scope(KEY):
            found = model.encode(tiny.batch(), training=True)
        features.append({name: ops.convert_to_numpy(value) for name, value in found.items()})
    return all(np.array_equal(features[0][name], features[1][name]) for name in features[0])


if __name__ == "__main__":
    np.savez(sys.argv[1], **numbers())
