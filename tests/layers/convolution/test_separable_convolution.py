"""Space-time convolutions and the units of S3D against explicit 3D windows in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tests.layers.layer_test_case import LayerTestCase
from tests.layers.plain_network import read_weights, set_weights
from tests.layers.plain_s3d import PlainS3D, convolve
from tests.layers.plain_s3d import max_pool as plain_max_pool
from tests.layers.plain_s3d import space_to_depth as plain_space_to_depth
from vatt_tf.layers.convolution.separable_convolution import ConvBNReLU, SeparableUnit
from vatt_tf.layers.convolution.space_time_convolution import SpaceTimeConvolution, max_pool
from vatt_tf.layers.patches import space_to_depth

ONE, TWO = (1, 1, 1), (2, 2, 2)
# Kernels and strides of the network, and what else SAME padding has to tell apart.
KERNELS = [
    (ONE, ONE),
    ((1, 3, 3), ONE),
    ((1, 3, 3), (1, 2, 2)),
    ((3, 1, 1), ONE),
    ((3, 1, 1), (2, 1, 1)),
    ((4, 1, 1), (3, 1, 1)),
    ((2, 4, 4), ONE),
    ((3, 3, 3), ONE),
    ((7, 7, 7), TWO),
    ((3, 4, 5), (3, 2, 2)),
]
SIZES = [(5, 9, 7), (4, 8, 6), (1, 1, 1), (2, 3, 10)]


def clip(size=(3, 5, 4), channels=3, batch=2, dtype="float32"):
    return np.random.default_rng(0).normal(0.2, 1.0, (batch, *size, channels)).astype(dtype)


class TestSpaceTimeConvolution(LayerTestCase):
    layer_class = SpaceTimeConvolution
    config = {"filters": 4, "kernel_size": (3, 4, 5), "strides": (2, 1, 2)}

    def inputs(self):
        return clip()


def test_gates_average_many_in_half_precision():
    # Sums of 4,000 ones leave the range in which float16 and bfloat16 can count.
    for policy in ("mixed_float16", "mixed_bfloat16"):
        layer = ConvBNReLU(1, gating=True, dtype=policy)
        layer.build((1, 10, 20, 20, 1))
        for kernel in (layer.conv.kernel, layer.gating.kernel):
            kernel.assign(np.ones(kernel.shape))
        gated = layer(np.ones((1, 10, 20, 20, 1), "float32"))
        np.testing.assert_allclose(tf.cast(gated, "float32"), 1 / (1 + np.exp(-1)), rtol=5e-3)


class TestConvolutionUnit(LayerTestCase):
    layer_class = ConvBNReLU
    config = {"filters": 4, "kernel_size": (2, 4, 4), "strides": (1, 2, 2), "gating": True}

    def inputs(self):
        return clip()


class TestConvolutionUnitWithoutGating(LayerTestCase):
    layer_class = ConvBNReLU
    config = {"filters": 4}

    def inputs(self):
        return clip()

    def test_sub_layers(self):
        paths = {variable.path for variable in self.make().weights}
        norm = {f"layer/norm/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")}
        assert paths == {"layer/conv/kernel"} | norm


class TestSeparableUnit(LayerTestCase):
    layer_class = SeparableUnit
    config = {"filters": 4, "kernel_size": (3, 3, 3), "gating": True}

    def inputs(self):
        return clip()

    def test_shapes_of_the_kernels_are_those_of_3d_convolutions(self):
        shapes = {variable.path: tuple(variable.shape) for variable in self.make().weights}
        assert shapes["layer/spatial/kernel"] == (1, 3, 3, 3, 4)
        assert shapes["layer/temporal/kernel"] == (3, 1, 1, 4, 4)
        assert shapes["layer/gating/kernel"] == (4, 4)


class TestSeparableUnitOfDeflatedNetwork(LayerTestCase):
    layer_class = SeparableUnit
    config = {"filters": 4, "kernel_size": (1, 3, 3), "gating": False}

    def inputs(self):
        return clip()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("kernel_size", "strides"), KERNELS, ids=str)
def test_convolution_equals_explicit_windows(kernel_size, strides, size):
    for dtype, tolerance in (("float32", 1e-6), ("float64", 1e-13)):
        layer = SpaceTimeConvolution(4, kernel_size, strides, dtype=dtype, name="layer")
        inputs = clip(size, dtype=dtype)
        layer.build(inputs.shape)
        kernel = set_weights(layer)["kernel"]
        outputs = layer(inputs)
        expected = convolve(inputs.astype("float64"), kernel, strides)
        np.testing.assert_allclose(outputs, expected, rtol=tolerance, atol=3 * tolerance)


@pytest.mark.parametrize(("kernel_size", "strides"), KERNELS, ids=str)
def test_convolution_equals_3d_convolution_of_the_framework(kernel_size, strides):
    if strides == (3, 2, 2):
        strides = (3, 3, 3)
    layer = SpaceTimeConvolution(4, kernel_size, strides)
    inputs = clip((6, 9, 7))
    layer.build(inputs.shape)
    expected = ops.conv(inputs, layer.kernel, strides, padding="same")
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-6, atol=3e-6)


@pytest.mark.parametrize(("kernel_size", "strides"), KERNELS, ids=str)
def test_convolution_of_sizes_known_only_at_run_time(kernel_size, strides):
    layer = SpaceTimeConvolution(4, kernel_size, strides)
    layer.build((None, None, None, None, 3))
    signature = [tf.TensorSpec([None, None, None, None, 3])]
    function = tf.function(lambda inputs: layer(inputs), input_signature=signature)
    for size in SIZES:
        np.testing.assert_allclose(
            function(clip(size)), layer(clip(size)), rtol=1e-6, atol=1e-6, err_msg=str(size)
        )


def test_kernel_smaller_than_its_stride():
    with pytest.raises(ValueError, match="none below its stride"):
        SpaceTimeConvolution(4, (1, 3, 3), (2, 1, 1))


@pytest.mark.parametrize("size", [*SIZES, (5, 33, 47)], ids=str)
@pytest.mark.parametrize(
    ("window", "strides"),
    [
        ((1, 3, 3), (1, 2, 2)),
        ((1, 2, 2), (1, 2, 2)),
        ((3, 3, 3), TWO),
        (TWO, TWO),
        ((3, 3, 3), ONE),
        ((1, 3, 3), ONE),
    ],
    ids=str,
)
def test_max_pool_equals_explicit_windows(window, strides, size):
    inputs = clip(size) - 5  # Below the zeros that a wrong padding would bring in.
    np.testing.assert_array_equal(
        max_pool(inputs, window, strides), plain_max_pool(inputs, window, strides)
    )
    function = tf.function(
        lambda values: max_pool(values, window, strides),
        input_signature=[tf.TensorSpec([None, None, None, None, 3])],
    )
    np.testing.assert_array_equal(function(inputs), plain_max_pool(inputs, window, strides))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("block", [TWO, (1, 2, 2), (2, 1, 3)], ids=str)
def test_space_to_depth(block, size):
    inputs = clip(size)
    expected = plain_space_to_depth(inputs, block)
    np.testing.assert_array_equal(space_to_depth(inputs, block), expected)
    for spec in ([None, None, None, None, 3], [2, None, size[1], None, 3]):
        function = tf.function(
            lambda values: space_to_depth(values, block), input_signature=[tf.TensorSpec(spec)]
        )
        np.testing.assert_array_equal(function(inputs), expected)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(5, 9, 7), (1, 4, 3)], ids=str)
@pytest.mark.parametrize(
    "layer",
    [
        lambda: ConvBNReLU(4, (7, 7, 7), TWO, name="layer"),
        lambda: ConvBNReLU(4, gating=True, name="layer"),
        lambda: SeparableUnit(4, (3, 3, 3), gating=True, name="layer"),
        lambda: SeparableUnit(4, (1, 3, 3), gating=True, name="layer"),
        lambda: SeparableUnit(4, (3, 3, 3), name="layer"),
    ],
    ids=["7x7x7", "1x1x1", "separable", "deflated", "no gating"],
)
def test_unit_equals_explicit_3d_convolutions(layer, size, training):
    layer, inputs = layer(), clip(size)
    layer.build(inputs.shape)
    plain = PlainS3D(set_weights(layer), training)
    if isinstance(layer, SeparableUnit):
        expected = plain.separable(inputs.astype("float64"))
    else:
        expected = plain.unit(inputs.astype("float64"), strides=layer.strides)
    # A batch's own statistics multiply the rounding of what they are computed from.
    tolerance = 1e-5 if training else 1e-6
    outputs = layer(inputs, training=training)
    np.testing.assert_allclose(outputs, expected, rtol=tolerance, atol=3 * tolerance)
    after = read_weights(layer)
    for name, value in plain.after.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_initial_kernel():
    keras.utils.set_random_seed(0)
    layer = SpaceTimeConvolution(64, (2, 4, 4))
    layer.build((None, None, None, None, 24))
    deviation = 1 / np.sqrt(2 * 4 * 4 * 24)
    values = np.asarray(layer.kernel)
    assert np.abs(values).max() <= 2 * deviation
    np.testing.assert_allclose(values.std(), 0.8796 * deviation, rtol=0.02)
