"""The Inception block of the S3D networks against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.layer_test_case import LayerTestCase
from tests.layers.plain_network import read_weights, set_weights
from tests.layers.plain_s3d import PlainS3D
from vatt_tf.layers.convolution.inception import InceptionBlock

FILTERS = (3, 4, 5, 2, 6, 7)


def clip(frames=3):
    return np.random.default_rng(0).normal(0.2, 1.0, (2, frames, 5, 4, 4)).astype("float32")


class TestInceptionBlock(LayerTestCase):
    layer_class = InceptionBlock
    config = {"filters": FILTERS, "temporal_size": 3, "gating": True}

    def inputs(self):
        return clip()

    def test_sub_layers_and_gates(self):
        layer = self.make()
        assert layer.compute_output_shape((None, 2, 3, 4, 5))[-1] == 3 + 5 + 6 + 7
        parts = [variable.path.split("/")[1:3] for variable in layer.weights]
        assert list(dict.fromkeys(unit for unit, _ in parts)) == [
            "branch_0_conv_0a",
            "branch_1_conv_0a", "branch_1_conv_0b",
            "branch_2_conv_0a", "branch_2_conv_0b",
            "branch_3_conv_0b",
        ]  # fmt: skip
        assert {unit for unit, part in parts if part == "gating"} == {
            "branch_0_conv_0a", "branch_1_conv_0b", "branch_2_conv_0b", "branch_3_conv_0b"
        }  # fmt: skip


class TestInceptionBlockOfDeflatedNetwork(LayerTestCase):
    layer_class = InceptionBlock
    config = {"filters": FILTERS, "temporal_size": 1, "gating": False}

    def inputs(self):
        return clip()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("gating", [False, True])
@pytest.mark.parametrize("time", [1, 3])
@pytest.mark.parametrize("frames", [1, 4])
def test_equals_numpy(frames, time, gating, training):
    layer = InceptionBlock(FILTERS, time, gating, name="layer")
    layer.build((None, None, None, None, 4))
    plain = PlainS3D(set_weights(layer), training)
    expected = plain.block(clip(frames).astype("float64"), time=time)
    outputs = layer(clip(frames), training=training)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    after = read_weights(layer)
    for name, value in plain.after.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
