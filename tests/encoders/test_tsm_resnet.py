"""The video tower TSM-ResNet against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.layer_test_case import LayerTestCase
from tests.layers.plain_network import set_weights
from tests.layers.plain_resnet import (
    PlainResNet,
    assert_features_equal,
    assert_statistics_equal,
)
from vatt_tf.encoders.tsm_resnet import TSMResNetEncoder, TSMResNetTowerConfig, deflate_weights
from vatt_tf.errors import UserError

BLOCKS = (1, 2, 1, 1)


def clip(frames=3, height=36, width=34, batch=2):
    # Exact in float32, also when mapped to [0, 1].
    steps = np.random.default_rng(0).integers(-512, 513, (batch, frames, height, width, 3))
    return (steps / 512).astype("float32")


def plain_outputs(plain, inputs, shift=True):
    batch, frames = inputs.shape[:2]
    images = (inputs.astype("float64") + 1) / 2
    features = plain.features(
        images.reshape(-1, *images.shape[2:]), BLOCKS, frames if shift else None
    )
    features = features.reshape(batch, frames, *features.shape[1:])
    return {"features": features, "features_pooled": features.mean((1, 2, 3))}


def make(shift=True, dtype="float32"):
    encoder = TSMResNetEncoder(
        TSMResNetTowerConfig(width=0.125, blocks=BLOCKS, shift=shift), dtype=dtype, name="layer"
    )
    encoder.build((None, None, None, None, 3))
    return encoder


class TestTSMResNetEncoder(LayerTestCase):
    layer_class = TSMResNetEncoder
    config = {"config": TSMResNetTowerConfig(width=0.125, blocks=(1, 1, 1, 1))}

    def inputs(self):
        return clip(height=20, width=18)


@pytest.mark.check
class TestImageNetwork(TestTSMResNetEncoder):
    config = {"config": TSMResNetTowerConfig(width=0.125, blocks=(1, 1, 1, 1), shift=False)}


@pytest.mark.parametrize(
    ("inputs", "shift", "training"),
    [
        (clip(), True, False),
        (clip(), True, True),
        (clip(), False, False),
        (clip(), False, True),
        (clip(1), True, False),
        (clip(1, batch=8), True, True),
        (clip(height=37, width=29), True, False),
        (clip(height=37, width=35), True, True),
        (clip(2, 1, 5), True, False),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_numpy(inputs, shift, training, dtype):
    encoder = make(shift, dtype)
    plain = PlainResNet(set_weights(encoder), training)
    expected = plain_outputs(plain, inputs, shift)
    assert_features_equal(encoder(inputs, training=training), expected, dtype)
    assert bool(plain.after) == training
    assert_statistics_equal(encoder, plain)


def test_pixels_and_floats_agree():
    encoder = make()
    set_weights(encoder)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 2, 20, 18, 3)).astype("uint8")
    floats = encoder(pixels.astype("float32") / 127.5 - 1)
    for name, value in encoder(pixels).items():
        np.testing.assert_allclose(value, floats[name], rtol=1e-5, atol=1e-5)


def test_image_network_sees_frames_one_by_one():
    encoder = make(shift=False)
    set_weights(encoder)
    inputs = clip(height=20, width=18)
    together = np.asarray(encoder(inputs)["features"])
    for frame in range(inputs.shape[1]):
        alone = encoder(inputs[:, frame : frame + 1])["features"]
        np.testing.assert_allclose(together[:, frame : frame + 1], alone, rtol=1e-5, atol=1e-5)


def test_switching_the_shift_off_keeps_the_weights():
    shifted, image = make(), make(shift=False)
    assert [v.path for v in shifted.weights] == [v.path for v in image.weights]
    assert [v.shape for v in shifted.weights] == [v.shape for v in image.weights]


def test_mixed_bfloat16_is_close():
    exact = make()
    set_weights(exact)
    rough = make(dtype="mixed_bfloat16")
    rough.set_weights(exact.get_weights())
    for training in (False, True):
        expected = np.asarray(exact(clip(), training=training)["features_pooled"])
        pooled = rough(clip(), training=training)["features_pooled"]
        assert pooled.dtype == "bfloat16"
        error = np.asarray(tf.cast(pooled, "float32")) - expected
        assert np.sqrt(np.mean(error**2)) < 0.02 * np.sqrt(np.mean(expected**2))


def test_sizes_known_only_at_run_time():
    encoder = make()
    signature = [tf.TensorSpec([None, None, None, None, 3])]
    function = tf.function(lambda inputs: encoder(inputs), input_signature=signature)
    for inputs in (clip(), clip(1, 17, 40)):
        for name, value in encoder(inputs).items():
            np.testing.assert_allclose(function(inputs)[name], value, rtol=1e-5, atol=1e-5)


def test_layers_by_name():
    names = [block.name for block in make().residual_blocks]
    assert names == [
        "unit_0_block_0", "unit_1_block_0", "unit_1_block_1", "unit_2_block_0", "unit_3_block_0"
    ]  # fmt: skip
    paths = {variable.path for variable in make().weights}
    assert {"layer/stem/kernel", "layer/norm/gamma"} <= paths
    assert {path for path in paths if "shortcut" in path} == {
        f"layer/unit_{unit}_block_0/shortcut_conv/kernel" for unit in range(4)
    }


@pytest.mark.parametrize(
    ("width", "expected", "statistics"), [(1, 23_500_352, 45_440), (2, 93_891_712, 90_880)]
)
def test_parameters_of_the_full_sizes(width, expected, statistics):
    kernels, normed = 7 * 7 * 3 * 64 * width, 0
    channels = 64 * width
    for filters, count in zip((256, 512, 1024, 2048), (3, 4, 6, 3), strict=True):
        filters, narrow = filters * width, filters * width // 4
        kernels += channels * filters  # shortcut of the first block
        for _ in range(count):
            kernels += channels * narrow + 3 * 3 * narrow * narrow + narrow * filters
            normed += channels + narrow + narrow
            channels = filters
    normed += channels
    assert (kernels + 2 * normed, 2 * normed) == (expected, statistics)

    encoder = TSMResNetEncoder(TSMResNetTowerConfig(width=float(width)))
    encoder.build((None, None, None, None, 3))
    assert sum(int(np.prod(v.shape)) for v in encoder.trainable_weights) == expected
    assert sum(int(np.prod(v.shape)) for v in encoder.non_trainable_weights) == statistics
    assert encoder.output_dim == 2048 * width
    assert encoder.compute_output_shape((2, 32, 200, 200, 3)) == {
        "features": (2, 32, 7, 7, 2048 * width),
        "features_pooled": (2, 2048 * width),
    }


@pytest.mark.parametrize(
    ("width", "widths"),
    [(0.25, (16, 64, 128, 256, 512)), (0.3, (16, 80, 152, 304, 616)), (0.01, (8, 8, 8, 8, 24))],
)
def test_narrow_widths_are_multiples_of_eight(width, widths):
    encoder = TSMResNetEncoder(TSMResNetTowerConfig(width=width))
    blocks = dict((block.name[:6], block.filters) for block in encoder.residual_blocks)
    assert (encoder.stem.filters, *blocks.values()) == widths


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"blocks": (3, 4, 6)}, "tsm_resnet_tower.blocks = .*4 positive whole numbers"),
        ({"blocks": (1, 1, 0, 1)}, "tsm_resnet_tower.blocks = 0: expected a positive"),
        ({"width": 0}, "tsm_resnet_tower.width = 0: expected a number above 0"),
    ],
)
def test_what_cannot_be_built(values, message):
    with pytest.raises(UserError, match=message):
        TSMResNetTowerConfig(**values)


@pytest.mark.parametrize("shifts", [(False, False), (True, True), (False, True)])
def test_what_does_not_belong_together_is_not_deflated(shifts):
    video, image = (make(shift=shift) for shift in shifts)
    with pytest.raises(ValueError, match="expected a video encoder and its image encoder"):
        deflate_weights(video, image)
