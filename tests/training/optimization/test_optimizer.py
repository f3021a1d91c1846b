"""Optimizers that update one variable after the other are Keras's own otherwise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt_tf.errors import UserError
from vatt_tf.training.optimization import optimizer as module
from vatt_tf.training.optimization.optimizer import apply_gradients, optimizer

STOCK = {
    "adam": keras.optimizers.Adam(0.1),
    "adamw": keras.optimizers.AdamW(0.1, weight_decay=0.0),
    "sgd": keras.optimizers.SGD(0.1, 0.9),
}
SIZES, STEPS = (1, 2, 4), 3


def numbers():
    """Initial values and the gradients of every step."""
    random = np.random.default_rng(0)
    initial = [random.normal(size=(3, size)).astype("float32") for size in SIZES]
    return initial, [
        [random.normal(size=value.shape).astype("float32") for value in initial]
        for _ in range(STEPS)
    ]


def trained(updates, stock=False):
    """Three variables after three steps."""
    initial, gradients = numbers()
    variables = [keras.Variable(value, name=f"v{i}") for i, value in enumerate(initial)]
    updates.build(variables)
    strategy = tf.distribute.get_strategy()

    def ours(gradients):
        apply_gradients(updates, strategy, gradients, variables)

    step = tf.function(updates.apply if stock else ours)
    for one in gradients:
        step([tf.constant(value) for value in one])
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("name", STOCK)
def test_updates_are_those_of_keras(name):
    pairs = zip(trained(optimizer(0.1, name)), trained(STOCK[name], stock=True), strict=True)
    for found, expected in pairs:
        # Keras rounds 0.999 in one place and 1 - 0.999 in another.
        np.testing.assert_allclose(found, expected, rtol=0 if name == "sgd" else 5e-5)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_is_that_of_the_paper(name):
    """Kingma and Ba, Adam, ICLR 2015, with the epsilon of section 2, in float64."""
    values, gradients = numbers()
    values = [value.astype("float64") for value in values]
    first = [np.zeros_like(value) for value in values]
    second = [np.zeros_like(value) for value in values]
    for step, one in enumerate(gradients, start=1):
        rate = 0.1 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        for index, gradient in enumerate(one):
            first[index] = 0.9 * first[index] + 0.1 * gradient
            second[index] = 0.999 * second[index] + 0.001 * np.square(gradient, dtype="float64")
            values[index] -= rate * first[index] / (np.sqrt(second[index]) + 1e-7)
    for found, expected in zip(trained(optimizer(0.1, name)), values, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


def test_weight_decay_goes_by_path():
    """With gradients of 0 a variable shrinks by rate x decay a step, or stays."""
    variables = []
    for place, name in (("dense", "kernel"), ("positions", "temporal"), ("norm", "gamma")):
        with keras.name_scope(place):
            variables.append(keras.Variable(np.ones((2, 2), "float32"), name=name))
    updates = optimizer(0.1, "adamw", weight_decay=0.5)
    updates.build(variables)
    updates.apply([tf.zeros((2, 2))] * 3, variables)
    found = [float(variable.numpy()[0, 0]) for variable in variables]
    np.testing.assert_allclose(found, [0.95, 1.0, 1.0])


@pytest.mark.parametrize("option", [{"clipnorm": 1.0}, {"use_ema": True}])
def test_a_registered_optimizer_that_does_more_is_refused(option, monkeypatch):
    def made(rate, **_):
        return keras.optimizers.SGD(rate, **option)

    monkeypatch.setattr(module, "OPTIMIZERS", {"own": made})
    with pytest.raises(UserError, match=f"optimizer.name='own': .* {next(iter(option))}="):
        optimizer(0.1, "own")
