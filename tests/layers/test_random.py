"""Seed scopes: draws are functions of the key, and the streams' state is left alone."""

from __future__ import annotations

import threading

import keras
import numpy as np
import tensorflow as tf

from vatt_tf.layers.random import SeedStream, seed_scope

KEY = np.array([7, 3], "int32")


def draw(stream, count=2):
    return [np.asarray(keras.random.uniform((4,), seed=stream)) for _ in range(count)]


def test_same_key_same_numbers():
    first, second = SeedStream(1), SeedStream(2)
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
                seen.update(value.tobytes() for value in draw(SeedStream(0), 8))
    assert len(seen) == 4 * 4 * 8


def test_unsigned_keys_and_extremes():
    with seed_scope(np.array([2**32 - 1, 2**31], "uint32")):
        values = draw(SeedStream(0))
    assert np.all(np.isfinite(values))


def test_state_is_used_outside_only():
    stream = SeedStream(5)
    before = np.asarray(stream.state)
    with seed_scope(KEY):
        draw(stream)
    np.testing.assert_array_equal(np.asarray(stream.state), before)
    inside_then_outside = draw(stream)
    np.testing.assert_array_equal(inside_then_outside, draw(keras.random.SeedGenerator(5)))
    assert not np.array_equal(np.asarray(stream.state), before)


def test_scopes_nest_and_close_after_an_error():
    stream = SeedStream(0)
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
    stream = SeedStream(0)
    before = np.asarray(stream.state)
    with seed_scope(KEY):
        thread = threading.Thread(target=draw, args=(stream,))
        thread.start()
        thread.join()
    assert not np.array_equal(np.asarray(stream.state), before)


def test_the_key_may_be_a_graph_tensor():
    stream = SeedStream(0)

    @tf.function
    def step(key):
        with seed_scope(key):
            return keras.random.uniform((4,), seed=stream)

    with seed_scope(KEY):
        (eager,) = draw(stream, 1)
    np.testing.assert_array_equal(step(tf.constant(KEY)), eager)
    assert not np.array_equal(step(tf.constant(KEY + 1)), eager)
