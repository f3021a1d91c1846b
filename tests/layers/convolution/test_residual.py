"""The bottleneck block against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.layer_test_case import LayerTestCase
from tests.layers.plain_network import set_weights
from tests.layers.plain_resnet import PlainResNet, assert_statistics_equal
from vatt_tf.layers.convolution.residual import BottleneckBlock


def random(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


class BlockTestCase(LayerTestCase):
    layer_class = BottleneckBlock
    frames: int | None = None

    @pytest.mark.parametrize("training", [False, True])
    def test_equals_numpy(self, training):
        block, inputs = self.make(), self.inputs()
        plain = PlainResNet(set_weights(block), training)
        images = inputs.reshape(-1, *inputs.shape[-3:]).astype("float64")
        expected = plain.block(images, stride=block.strides, frames=self.frames)
        outputs = np.asarray(block(inputs, training=training))
        np.testing.assert_allclose(outputs.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)
        assert_statistics_equal(block, plain)

    def test_no_biases(self):
        assert not [v.path for v in self.make().weights if v.path.endswith("/bias")]


class TestBlockOfImages(BlockTestCase):
    config = {"filters": 16, "strides": 2, "projection": True}

    def inputs(self):
        return random(4, 7, 6, 8)


class TestBlockWithoutProjection(BlockTestCase):
    config = {"filters": 16}

    def inputs(self):
        return random(4, 5, 6, 16)


class TestBlockOfFrames(BlockTestCase):
    config = {"filters": 24, "strides": 2, "projection": True, "shift_fraction": 0.125}
    frames = 3

    def inputs(self):
        return random(2, 3, 6, 5, 16)


class TestShiftedBlockWithoutProjection(BlockTestCase):
    config = {"filters": 16, "shift_fraction": 0.125}
    frames = 3

    def inputs(self):
        return random(2, 3, 4, 5, 16)


class TestBlockOfUnshiftedFrames(BlockTestCase):
    config = {"filters": 16}

    def inputs(self):
        return random(2, 3, 4, 5, 16)


def test_what_cannot_be_built():
    with pytest.raises(ValueError, match="multiple of 4, got 10"):
        BottleneckBlock(10)
    with pytest.raises(ValueError, match="needs frames"):
        BottleneckBlock(16, shift_fraction=0.125).build((2, 4, 4, 16))
    with pytest.raises(ValueError, match="8 to 16 channels with stride 1 needs projection=True"):
        BottleneckBlock(16).build((2, 4, 4, 8))
    with pytest.raises(ValueError, match="16 to 16 channels with stride 2 needs projection=True"):
        BottleneckBlock(16, strides=2).build((2, 4, 4, 16))


def test_initial_kernel():
    """Cut at two deviations of 1 / sqrt(fan in), as MMV's."""
    block = BottleneckBlock(256)
    block.build((None, None, None, 256))
    kernel = np.asarray(block.conv_1.kernel)
    deviation = 1 / np.sqrt(9 * 64)
    assert kernel.shape == (3, 3, 64, 64)
    assert 1.9 * deviation < np.abs(kernel).max() <= 2 * deviation * (1 + 1e-6)
    np.testing.assert_allclose(kernel.std(), 0.8796 * deviation, rtol=0.02)
