"""The video encoder S3D-G against NumPy in float64, and its deflation."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.layers.layer_test_case import LayerTestCase, randomise
from tests.layers.plain_network import read_weights, set_weights
from tests.layers.plain_s3d import PlainS3D
from vatt_tf.encoders import s3d
from vatt_tf.encoders.s3d import S3DGEncoder, S3DTowerConfig, deflate_weights
from vatt_tf.layers.convolution.separable_convolution import SeparableUnit

WIDTH = 0.06  # 8 to 23 channels in a unit.


def clip(size=(5, 33, 47), batch=2):
    pixels = np.random.default_rng(0).uniform(-1, 1, (batch, *size, 3))
    return pixels.astype("float32")


def still(frames, height=32, width=32, batch=1):
    return np.repeat(clip((1, height, width), batch), frames, axis=1)


@functools.cache
def make(dtype="float32", **config):
    """An encoder that tests share, because one takes a second: each sets the weights anew."""
    encoder = S3DGEncoder(S3DTowerConfig(**{"width": WIDTH, **config}), dtype=dtype, name="layer")
    encoder.build((None, None, None, None, 3))
    return encoder


def pair(**config):
    """A video network with random weights and its image network."""
    video, image = make(**config), make(**config, deflated=True)
    set_weights(video)
    deflate_weights(video, image)
    return video, image


class EncoderTestCase(LayerTestCase):
    """With one Inception block a stage; that all of them are right is compared with NumPy."""

    layer_class = S3DGEncoder

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch):
        first = tuple(dict([next(iter(blocks.items()))]) for blocks in s3d.STAGES)
        monkeypatch.setattr(s3d, "STAGES", first)

    def inputs(self):
        return clip((3, 20, 18))

    def test_gradients_reach_every_trainable_variable(self, monkeypatch):
        # With the positive weights of that test numbers grow from layer to layer until the gates
        # are exactly 1 and have no gradient, unless the norms know the statistics.
        make_plain = self.make

        def make_with_statistics():
            layer = make_plain()
            randomise(layer.trainable_weights)
            for _, norm in _norms(layer):
                norm.momentum = 0.0
            layer(self.inputs(), training=True)
            return layer

        monkeypatch.setattr(self, "make", make_with_statistics)
        super().test_gradients_reach_every_trainable_variable()


def _norms(layer):
    for sub_layer in layer._flatten_layers():
        if hasattr(sub_layer, "momentum"):
            yield sub_layer.path, sub_layer


class TestS3DGEncoder(EncoderTestCase):
    config = {"config": S3DTowerConfig(width=WIDTH)}


@pytest.mark.check
class TestDeflatedEncoder(EncoderTestCase):
    config = {
        "config": S3DTowerConfig(width=WIDTH, space_to_depth=False, gating=False, deflated=True)
    }

    def inputs(self):
        return clip((1, 20, 18))


def plain_outputs(plain, encoder, inputs):
    pixels = (inputs.astype("float64") + 1) / 2
    return plain.encoder(pixels, encoder.space_to_depth, encoder.deflated)


CASES = pytest.mark.parametrize(
    ("size", "config"),
    [
        ((5, 33, 47), {}),
        ((16, 64, 48), {}),
        ((5, 33, 47), {"space_to_depth": False}),
        ((1, 33, 47), {"deflated": True}),
        pytest.param(
            (3, 40, 33),
            {"deflated": True, "space_to_depth": False, "gating": False},
            marks=pytest.mark.check,
        ),
    ],
    ids=str,
)


@CASES
def test_equals_numpy(size, config):
    encoder, inputs = make(**config), clip(size)
    expected = plain_outputs(PlainS3D(set_weights(encoder)), encoder, inputs)
    for name, value in encoder(inputs).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


@CASES
def test_training_equals_numpy(size, config):
    # Each norm divides by the deviations within a small batch and multiplies the rounding of what
    # came before: float32 ends 3e-4 away, and only float64 shows that the formulas are the same.
    inputs = np.round(clip(size, batch=4) * 256) / 256  # No rounding when it is mapped.
    for dtype, tolerance in (("float64", 1e-9), ("float32", 2e-3)):
        encoder = make(dtype, **config)
        plain = PlainS3D(set_weights(encoder), training=True)
        expected = plain_outputs(plain, encoder, inputs)
        for name, value in encoder(inputs, training=True).items():
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=tolerance, err_msg=name)
        after, tolerance = read_weights(encoder), min(tolerance, 2e-5)
        for name, value in plain.after.items():
            np.testing.assert_allclose(after[name], value, rtol=0, atol=tolerance, err_msg=name)
        assert len(plain.after) == len(encoder.non_trainable_weights)


def test_pixels_and_floats_agree():
    encoder = make()
    set_weights(encoder)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 20, 18, 3)).astype("uint8")
    floats = encoder(pixels.astype("float32") / 127.5 - 1)
    for name, value in encoder(pixels).items():
        np.testing.assert_allclose(value, floats[name], rtol=1e-5, atol=1e-5)


def test_padding_of_odd_sizes_is_black():
    encoder = make()
    set_weights(encoder)
    padded = np.full((2, 6, 34, 48, 3), -1, "float32")
    padded[:, :5, :33, :47] = clip()
    for name, value in encoder(clip()).items():
        np.testing.assert_allclose(value, encoder(padded)[name], rtol=1e-5, atol=1e-5)


VARIANT = {"deflated": True, "space_to_depth": False}


@pytest.mark.parametrize("config", [{}, pytest.param(VARIANT, marks=pytest.mark.check)], ids=str)
def test_sizes_known_only_at_run_time(config):
    encoder = make(**config)
    set_weights(encoder)
    signature = [tf.TensorSpec([None, None, None, None, 3])]
    function = tf.function(lambda inputs: encoder(inputs), input_signature=signature)
    for inputs in (clip(), clip((2, 32, 16))):
        for name, value in encoder(inputs).items():
            np.testing.assert_allclose(function(inputs)[name], value, rtol=1e-5, atol=1e-5)


def test_mixed_bfloat16_is_close():
    exact = make()
    set_weights(exact)
    rough = make(dtype="mixed_bfloat16")
    rough.set_weights(exact.get_weights())
    expected = np.asarray(exact(clip())["features_pooled"])
    pooled = rough(clip())["features_pooled"]
    assert pooled.dtype == "bfloat16"
    error = np.asarray(tf.cast(pooled, "float32")) - expected
    assert np.sqrt(np.mean(error**2)) < 0.02 * np.sqrt(np.mean(expected**2))


def test_training_in_mixed_bfloat16():
    rough = make(dtype="mixed_bfloat16")
    weights = set_weights(rough)
    inputs = clip(batch=4)
    with tf.GradientTape() as tape:
        pooled = rough(inputs, training=True)["features_pooled"]
        loss = tf.reduce_sum(tf.square(tf.cast(pooled, "float32")))
    for gradient in tape.gradient(loss, [v.value for v in rough.trainable_weights]):
        assert gradient.dtype == "float32" and np.all(np.isfinite(gradient))
    # Deeper norms drift: see the rounding of float32 above.
    plain = PlainS3D(weights, training=True)
    plain_outputs(plain, rough, inputs)
    after = read_weights(rough)
    for name in ("conv_1a/norm/moving_mean", "conv_2c/temporal_norm/moving_variance"):
        np.testing.assert_allclose(after[name], plain.after[name], rtol=0.02, atol=0.01)


def test_floats_are_mapped_before_they_are_rounded():
    # Next to -1 bfloat16 has steps of 1/256, next to 0 much finer ones.
    encoder, seen = make.__wrapped__(dtype="mixed_bfloat16"), []
    call = encoder.conv_1a.call
    encoder.conv_1a.call = lambda x, training: seen.append(x) or call(x, training=training)
    encoder(np.full((1, 2, 2, 2, 3), -1 + 1 / 1024, "float32"))
    np.testing.assert_array_equal(tf.cast(seen[0], "float32"), 1 / 2048)


def test_layers_by_name():
    paths = [variable.path.split("/")[1] for variable in make().weights]
    assert list(dict.fromkeys(paths)) == [
        "conv_1a", "conv_2b", "conv_2c", "mixed_3b", "mixed_3c",
        "mixed_4b", "mixed_4c", "mixed_4d", "mixed_4e", "mixed_4f", "mixed_5b", "mixed_5c",
    ]  # fmt: skip
    gated = {v.path.split("/")[1] for v in make().weights if v.path.endswith("gating/kernel")}
    assert gated == set(paths) - {"conv_1a", "conv_2b"}
    assert not any("gating" in variable.path for variable in make(gating=False).weights)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, 9_146_000),
        ({"gating": False}, 7_920_992),
        ({"space_to_depth": False}, 9_162_704),
        ({"deflated": True}, 7_592_592),
    ],
    ids=str,
)
def test_parameters_of_the_full_size(config, expected):
    config = {"gating": True, "space_to_depth": True, "deflated": False, **config}
    time = 1 if config["deflated"] else 3
    first = (4 * 4 * 12) if config["deflated"] else (2 * 4 * 4 * 24)
    if not config["space_to_depth"]:
        first = 7 * 7 * 7 * 3
    kernels, normed, gates = first * 64, 64, 0

    def unit(channels, filters, separable=False, gate=False):
        nonlocal kernels, normed, gates
        kernels += channels * filters * (9 if separable else 1)
        kernels += time * filters * filters if separable else 0
        normed += filters * (2 if separable else 1)
        gates += filters * filters + filters if gate and config["gating"] else 0
        return filters

    channels = unit(unit(64, 64), 192, separable=True, gate=True)
    for a, b, c, d, e, f in (
        (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64),
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
        (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
    ):  # fmt: skip
        outputs = unit(channels, a, gate=True)
        outputs += unit(unit(channels, b), c, separable=True, gate=True)
        outputs += unit(unit(channels, d), e, separable=True, gate=True)
        channels = outputs + unit(channels, f, gate=True)
    assert kernels + 2 * normed + gates == expected

    encoder = make.__wrapped__(width=1.0, **config)
    assert sum(int(np.prod(v.shape)) for v in encoder.trainable_weights) == expected
    assert sum(int(np.prod(v.shape)) for v in encoder.non_trainable_weights) == 2 * normed
    assert encoder.output_dim == channels == 1024
    assert encoder.compute_output_shape((2, 32, 200, 200, 3)) == {
        "features": (2, 32 if config["deflated"] else 4, 7, 7, 1024),
        "features_pooled": (2, 1024),
    }


@pytest.mark.parametrize(
    ("width", "stem", "last"),
    [(0.25, 16, (96, 48, 96, 12, 32, 32)), (0.02, 8, (8, 8, 8, 8, 8, 8)), (2, 128, None)],
)
def test_widths(width, stem, last):
    encoder = S3DGEncoder(S3DTowerConfig(width=width))
    assert encoder.conv_1a.filters == stem
    filters = encoder.stage_5[-1].filters
    assert filters == (last or (768, 384, 768, 96, 256, 256))
    assert encoder.output_dim == sum(filters[index] for index in (0, 2, 4, 5))


class TestDeflation:
    def test_separable_unit_inside_of_a_still_clip(self):
        video = SeparableUnit(4, (3, 3, 3), name="layer")
        image = SeparableUnit(4, (1, 3, 3), name="layer")
        frames = still(5)
        for unit in (video, image):
            unit.build(frames.shape)
        set_weights(video)
        for source, target in zip(video.weights, image.weights, strict=True):
            value = np.asarray(source)
            target.assign(value.sum(0, keepdims=True) if value.ndim == 5 else value)
        outputs, expected = np.asarray(video(frames)), np.asarray(image(frames))
        np.testing.assert_allclose(outputs[:, 1:-1], expected[:, 1:-1], rtol=1e-5, atol=1e-6)
        assert np.abs(outputs[:, [0, -1]] - expected[:, [0, -1]]).max() > 0.01

    @pytest.mark.parametrize("space_to_depth", [True, pytest.param(False, marks=pytest.mark.check)])
    def test_network_differs_only_where_the_ends_of_the_clip_reach(self, space_to_depth):
        # Every temporal kernel carries the zeros behind the ends one position further; in the
        # middle of 112 frames (14 positions) none arrive. The averages of gates would carry them.
        video, image = pair(gating=False, space_to_depth=space_to_depth)
        outputs = np.asarray(video(still(112))["features"])
        expected = np.asarray(image(still(1))["features"])
        assert outputs.shape == (1, 14, 1, 1, 62) and expected.shape == (1, 1, 1, 1, 62)
        np.testing.assert_allclose(outputs[:, 6:7], expected, rtol=1e-5, atol=1e-5)
        assert np.abs(outputs[:, [0, -1]] - expected).max() > 0.01

    @pytest.mark.parametrize("config", [{}, {"space_to_depth": False}, {"gating": False}], ids=str)
    def test_only_temporal_kernels_change(self, config):
        video, image = pair(**config)
        assert [v.path for v in video.weights] == [v.path for v in image.weights]
        for source, target in zip(video.weights, image.weights, strict=True):
            value = np.asarray(source)
            if target.path.endswith("conv_1a/conv/kernel"):
                value = value.sum(0, keepdims=True)
                if config.get("space_to_depth", True):
                    value = value[:, :, :, :12] + value[:, :, :, 12:]
            elif target.path.endswith("temporal/kernel"):
                value = value.sum(0, keepdims=True)
            np.testing.assert_allclose(np.asarray(target), value, rtol=1e-6, err_msg=target.path)

    def test_frames_do_not_see_each_other(self):
        _, image = pair(gating=False)
        together = np.asarray(image(clip((3, 20, 18)))["features"])
        for frame in (0, 1):
            alone = image(clip((3, 20, 18))[:, frame : frame + 1])["features"]
            np.testing.assert_allclose(together[:, frame : frame + 1], alone, rtol=1e-5, atol=1e-5)

    def test_a_repeated_image_is_that_image(self):
        _, image = pair()
        expected = image(still(1))
        outputs = image(still(3))
        np.testing.assert_allclose(
            outputs["features_pooled"], expected["features_pooled"], rtol=1e-5, atol=1e-5
        )

    @pytest.mark.parametrize(
        ("video", "image"),
        [
            ({}, {}),
            ({"deflated": True}, {"deflated": True}),
            ({}, {"deflated": True, "gating": False}),
            ({}, {"deflated": True, "width": 0.1}),
            ({}, {"deflated": True, "space_to_depth": False}),
        ],
        ids=str,
    )
    def test_what_does_not_belong_together(self, video, image):
        with pytest.raises(ValueError, match="expected a video encoder and its image"):
            deflate_weights(
                S3DGEncoder(S3DTowerConfig(**{"width": WIDTH, **video})),
                S3DGEncoder(S3DTowerConfig(**{"width": WIDTH, **image})),
            )
