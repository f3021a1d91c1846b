"""Seed scopes: draws are functions of the key, and the state of the generators is left alone."""

from __future__ import annotations

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from vatt_tf.layers.random import seed_scope

KEY = np.array([7, 3], "int32")


def draw(stream, count=2):
    return [np.asarray(keras.random.uniform((4,), seed=stream)) for _ in range(count)]


def test_same_key_same_numbers():
    first, second = keras.random.SeedGenerator(1), keras.random.SeedGenerator(2)
    with seed_scope(KEY):
        one = draw(first)
    with seed_scope(tf.constant(KEY)):
        two = draw(second)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one[0], one[1]), "draws of one scope must differ"


def test_keys_with_small_differences_give_other_numbers():
    seen = set()
    for step in range(4):
        for replica in range(4):
            with seed_scope(np.array([step, replica], "int32")):
                seen.update(value.tobytes() for value in draw(keras.random.SeedGenerator(0), 8))
    assert len(seen) == 4 * 4 * 8


def test_unsigned_keys_and_extremes():
    with seed_scope(np.array([2**32 - 1, 2**31], "uint32")):
        values = draw(keras.random.SeedGenerator(0))
    assert np.all(np.isfinite(values))


def test_state_is_used_outside_only():
    stream = keras.random.SeedGenerator(5)
    before = np.asarray(stream.state)
    with seed_scope(KEY):
        draw(stream)
    np.testing.assert_array_equal(np.asarray(stream.state), before)
    inside_then_outside = draw(stream)
    np.testing.assert_array_equal(inside_then_outside, draw(keras.random.SeedGenerator(5)))
    assert not np.array_equal(np.asarray(stream.state), before)


def test_scopes_nest_and_close_after_an_error():
    stream = keras.random.SeedGenerator(0)
    with seed_scope(KEY):
        reference = draw(stream, 3)
    try:
        with seed_scope(KEY):
            first = draw(stream, 1)
            with seed_scope(KEY + 1):
                inner = draw(stream, 1)
            rest = draw(stream, 2)
            raise RuntimeError
    except RuntimeError:
        pass
    np.testing.assert_array_equal(first + rest, reference)
    assert not np.array_equal(inner[0], reference[0])
    state = np.asarray(stream.state)
    draw(stream, 1)
    assert not np.array_equal(np.asarray(stream.state), state), "the scope is closed"


def test_scope_is_local_to_the_thread():
    stream = keras.random.SeedGenerator(0)
    before = np.asarray(stream.state)
    with seed_scope(KEY):
        thread = threading.Thread(target=draw, args=(stream,))
        thread.start()
        thread.join()
    assert not np.array_equal(np.asarray(stream.state), before)


def test_the_key_may_be_a_graph_tensor():
    stream = keras.random.SeedGenerator(0)

    @tf.function
    def step(key):
        with seed_scope(key):
            return keras.random.uniform((4,), seed=stream)

    with seed_scope(KEY):
        (eager,) = draw(stream, 1)
    np.testing.assert_array_equal(step(tf.constant(KEY)), eager)
    assert not np.array_equal(step(tf.constant(KEY + 1)), eager)


@pytest.mark.parametrize("hold", [False, True])
def test_other_variables_get_their_updates_when_the_scope_ends(hold):
    norm, values = keras.layers.BatchNormalization(momentum=0.5), np.full((4, 2), 3.0, "float32")
    norm.build(values.shape)
    with seed_scope(KEY, hold):
        norm(values, training=True)
    expected = 0.0 if hold else 1.5
    np.testing.assert_array_equal(norm.moving_mean, [expected] * 2)
    with pytest.raises(RuntimeError), seed_scope(KEY):
        norm(values, training=True)
        raise RuntimeError
    np.testing.assert_array_equal(norm.moving_mean, [expected] * 2)


def test_inside_of_a_scope_of_keras():
    """As in a stateless call, whose variables are what they are mapped to."""
    dense, norm = keras.layers.Dense(1, use_bias=False), keras.layers.BatchNormalization()
    dense.build((1, 1)), norm.build((1, 1))
    with keras.StatelessScope([(dense.kernel, [[5.0]])]) as outer:
        with seed_scope(KEY):
            norm(dense(np.ones((1, 1), "float32")), training=True)
    np.testing.assert_allclose(outer.get_current_value(norm.moving_mean), [0.05])
    np.testing.assert_array_equal(norm.moving_mean, [0.0])
