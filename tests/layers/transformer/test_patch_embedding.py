"""Patch embedding against the convolution it stands for."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.layers.transformer.patch_embedding import PatchEmbedding


def random(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


class TestVideoPatches(LayerTestCase):
    layer_class = PatchEmbedding
    config = {"patch": (2, 4, 4), "d_model": 6}

    def inputs(self):
        return random(2, 4, 8, 12, 3)


class TestWaveformPatches(LayerTestCase):
    layer_class = PatchEmbedding
    config = {"patch": (16,), "d_model": 6}

    def inputs(self):
        return random(2, 64, 1)


@pytest.mark.parametrize(
    ("convolution", "patch", "shape"),
    [
        (keras.layers.Conv3D, (2, 4, 4), (2, 4, 8, 12, 3)),
        (keras.layers.Conv3D, (2, 4, 4), (2, 5, 11, 13, 3)),  # Remainders are left out.
        (keras.layers.Conv2D, (3, 5), (2, 10, 15, 1)),
        (keras.layers.Conv1D, (16,), (2, 70, 1)),
    ],
)
def test_equals_the_strided_convolution(convolution, patch, shape):
    layer = PatchEmbedding(patch, 6)
    inputs = random(*shape)
    layer.build(shape)
    layer.bias.assign(random(6))
    reference = convolution(6, patch, strides=patch, padding="valid")
    reference.build(shape)
    assert reference.kernel.shape == layer.kernel.shape
    reference.kernel.assign(layer.kernel)
    reference.bias.assign(layer.bias)
    expected = np.asarray(reference(inputs)).reshape(2, -1, 6)
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-5, atol=1e-5)


def test_indices_select_patches_before_the_projection():
    layer, inputs = PatchEmbedding((2, 4, 4), 6), random(2, 4, 8, 12, 3)
    indices = np.array([5, 0, 11], "int32")
    everything = np.asarray(layer(inputs))
    np.testing.assert_allclose(layer(inputs, indices=indices), everything[:, indices], rtol=1e-6)


def test_no_axis_too_many_for_lite_rt():
    layer = PatchEmbedding((2, 4, 4), 6)
    layer.build((1, 4, 8, 8, 3))
    graph = tf.function(lambda x: layer(x)).get_concrete_function(tf.zeros((1, 4, 8, 8, 3))).graph
    ranks = [op.inputs[0].shape.rank for op in graph.get_operations() if op.type == "Transpose"]
    assert ranks == [6]


def test_pixels_are_normalised():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 2, 4, 4, 3)).astype("uint8")
    layer = PatchEmbedding((2, 4, 4), 6)
    expected = layer(pixels.astype("float32") / 127.5 - 1)
    np.testing.assert_allclose(layer(pixels), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 1, 8, 8, 3), "smaller than a patch"),
        ((2, 8, 8, 3), "known axes"),
        ((2, None, 8, 8, 3), "known axes"),
    ],
)
def test_unusable_inputs(shape, message):
    with pytest.raises(ValueError, match=message):
        PatchEmbedding((2, 4, 4), 6).grid(shape)
