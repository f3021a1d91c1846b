"""What is computed again has the gradients of what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from vatt_tf.layers.recompute import recompute


@pytest.mark.parametrize("in_graph", [False, True])
def test_gradients_of_inputs_and_variables(in_graph):
    weight, first = tf.Variable(1.5), tf.constant([1.0, 2.0])

    def region(first, missing, second):
        assert missing is None
        return weight * tf.sin(first) * second

    def gradients(training):
        with tf.GradientTape() as tape:
            tape.watch(first)
            outputs = recompute(region, first, None, 2.0 * first, training=training)
        return tape.gradient(outputs, [first, weight])

    run = tf.function(gradients) if in_graph else gradients
    for found, expected in zip(run(True), run(False), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_values_in_between_are_computed_twice():
    calls = []

    def region(values):
        calls.append(values)
        return tf.exp(values)

    values = tf.constant([1.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        outputs = recompute(region, values, training=True)
    tape.gradient(outputs, values)
    assert len(calls) == 2
