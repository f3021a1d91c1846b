"""Optimizers that update one variable after the other are Keras's own otherwise."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt_tf.training.optimizer import optimizer

STOCK = {
    "adam": keras.optimizers.Adam(0.1),
    "adamw": keras.optimizers.AdamW(0.1, weight_decay=0.0),
    "sgd": keras.optimizers.SGD(0.1, 0.9),
}


def trained(updates):
    """Three variables after three steps."""
    random = np.random.default_rng(0)
    variables = [keras.Variable(random.normal(size=(3, n)), name=f"v{n}") for n in (1, 2, 4)]
    updates.build(variables)
    step = tf.function(lambda gradients: updates.apply(gradients, variables))
    for _ in range(3):
        step([tf.constant(random.normal(size=v.shape), tf.float32) for v in variables])
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("name", STOCK)
def test_updates_are_those_of_keras(name):
    pairs = zip(trained(optimizer(0.1, name)), trained(STOCK[name]), strict=True)
    for found, expected in pairs:
        np.testing.assert_array_equal(found, expected)
