"""Batch normalisation against NumPy in float64."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import CHECKOUT
from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.layers.batch_norm import BatchNormalization, batch_norm


def normed(inputs, upstream):
    """Values and gradient of a layer with scale 1 and offset 0, in float64."""
    axes = tuple(range(inputs.ndim - 1))
    deviation = np.sqrt(inputs.var(axes) + 1e-5)
    values = (inputs - inputs.mean(axes)) / deviation
    along = np.mean(upstream * values, axes)
    return values, (upstream - upstream.mean(axes) - values * along) / deviation


class TestBatchNormalization(LayerTestCase):
    layer_class = BatchNormalization
    config = {"synchronized": True, "momentum": 0.9, "epsilon": 1e-5}

    def inputs(self):
        return np.random.default_rng(0).normal(2.0, 3.0, (6, 5)).astype("float32")

    def test_rows_that_are_alike(self):
        # The mean of the squares has four digits too few for this variance.
        rows = 30.0 + 0.01 * np.random.default_rng(1).normal(size=(8, 5))
        rows = rows.astype("float32").astype("float64")
        layer = BatchNormalization(synchronized=True, momentum=0.0, epsilon=1e-5)
        outputs = layer(rows.astype("float32"), training=True)
        deviations = rows - rows.mean(0)
        variance = np.square(deviations).mean(0)
        np.testing.assert_allclose(layer.moving_mean, rows.mean(0), rtol=1e-6)
        np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-2)
        np.testing.assert_allclose(outputs, deviations / np.sqrt(variance + 1e-5), atol=2e-2)


class TestBatchNormalizationOfImages(TestBatchNormalization):
    def inputs(self):
        return np.random.default_rng(0).normal(2.0, 3.0, (3, 4, 5, 6)).astype("float32")


class TestBatchNormalizationOfFrames(TestBatchNormalization):
    def inputs(self):
        return np.random.default_rng(0).normal(2.0, 3.0, (2, 3, 4, 3, 5)).astype("float32")


@pytest.mark.parametrize(
    "shape", [(40, 6), (3, 4, 5, 6), (2, 3, 4, 3, 6), (2, 3, 4, 3, 1)], ids=str
)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("synchronized", [True, False])
def test_training_equals_numpy(shape, known, synchronized):
    rng = np.random.default_rng(0)
    inputs, upstream = (rng.normal(2.0, 3.0, shape).astype("float32") for _ in range(2))
    layer = batch_norm("float32", "norm", synchronized=synchronized)
    layer.build(shape)

    def step(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = layer(values, training=True)
        return outputs, tape.gradient(outputs, values, output_gradients=upstream)

    signature = [tf.TensorSpec(shape if known else (*[None] * (len(shape) - 1), shape[-1]))]
    outputs, gradient = tf.function(step, input_signature=signature, autograph=False)(inputs)
    whole = inputs.astype("float64")
    expected, expected_gradient = normed(whole, upstream)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-5)
    axes = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(layer.moving_mean, 0.1 * whole.mean(axes), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * whole.var(axes), rtol=1e-5)


@pytest.mark.parametrize("synchronized", [True, False])
@pytest.mark.parametrize("there", [[1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 1, 0], [0] * 6])
def test_rows_of_a_mask(synchronized, there):
    """Statistics of the rows that are there; of none, those of before."""
    inputs = np.random.default_rng(0).normal(2.0, 3.0, (6, 5)).astype("float32")
    there = np.array(there, bool)
    inputs[~there] = 1e6
    layer = batch_norm("float32", "norm", synchronized=synchronized)
    layer.build((6, 5))
    layer.moving_mean.assign(np.full(5, 7.0))
    layer.moving_variance.assign(np.full(5, 4.0))
    outputs = np.asarray(layer(inputs, training=True, mask=there.astype("float32")))
    rows = inputs[there].astype("float64")
    mean, variance = (rows.mean(0), rows.var(0)) if there.any() else (np.full(5, x) for x in (7, 4))
    np.testing.assert_allclose(layer.moving_mean, 0.9 * 7 + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 * 4 + 0.1 * variance, rtol=1e-5)
    expected = (rows - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(outputs[there], expected, atol=1e-4)
    assert np.isfinite(outputs).all()


def test_one_replica_is_not_synchronised():
    def operations(synchronized):
        layer = batch_norm("float32", "norm", synchronized=synchronized)
        call = tf.function(lambda values: layer(values, training=True), autograph=False)
        traced = call.get_concrete_function(tf.ones([3, 4, 5, 6]))
        return len(traced.graph.get_operations())

    assert operations(False) < 0.8 * operations(True)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_statistics_are_float32_in_mixed_precision(policy):
    values = np.random.default_rng(0).normal(100.0, 1.0, (4, 8, 8, 3)).astype("float32")
    layer = batch_norm(policy, "norm", momentum=0.0)
    outputs = layer(values, training=True)
    rounded = np.asarray(tf.cast(tf.cast(values, layer.compute_dtype), "float32"))
    np.testing.assert_allclose(layer.moving_variance, rounded.var((0, 1, 2)), rtol=1e-5)
    assert outputs.dtype == layer.compute_dtype


@pytest.mark.check
def test_images_on_two_replicas_with_unlike_numbers_of_rows():
    command = [sys.executable, "-m", "tests.layers.batch_norm_replicas"]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    differences = json.loads(result.stdout.splitlines()[-1])
    assert max(differences.values()) < 5e-6, differences
