"""The video tower."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from tests.encoders.pooled_only import PooledOnlyTests
from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.encoders.video import VideoEncoder, VideoTowerConfig
from vatt_tf.layers.random import seed_scope
from vatt_tf.layers.transformer.positions import interpolation_matrix

SIZE = {"d_model": 8, "num_layers": 2, "num_heads": 2, "d_ff": 12, "d_kv": 4}
KEY = np.array([3, 1], "int32")


def clip(frames=4, height=8, width=12, batch=2):
    pixels = np.random.default_rng(0).uniform(-1, 1, (batch, frames, height, width, 3))
    return pixels.astype("float32")


class TestVideoEncoder(PooledOnlyTests, LayerTestCase):
    layer_class = VideoEncoder
    tower = VideoTowerConfig(frames=4, image_size=(8, 12), patch=(2, 4, 4), **SIZE)
    config = {"config": tower}

    def inputs(self):
        return clip()

    def test_drop_token_keeps_half_in_training(self):
        outputs = self.make()(clip(), training=True)
        assert outputs["features"].shape == (2, 6, 8)
        assert outputs["features_pooled"].shape == (2, 8)

    def test_dropping_before_the_projection_gives_the_same_numbers(self):
        encoder = self.make()
        with seed_scope(KEY):
            indices = np.asarray(encoder.drop_token.indices(12, training=True))
        tokens = np.asarray(encoder.positions(encoder.patch_embedding(clip())))[:, indices]
        rates = {"dropout_rate": 0.0, "position_dropout_rate": 0.0}
        no_dropout = VideoEncoder(dataclasses.replace(self.tower, **rates))
        no_dropout.build(clip().shape)
        for ours, theirs in zip(no_dropout.weights, encoder.weights, strict=True):
            ours.assign(theirs)
        expected = np.asarray(no_dropout.transformer(no_dropout.agg_token(tokens)))
        with seed_scope(KEY):
            outputs = no_dropout(clip(), training=True)
        np.testing.assert_allclose(outputs["features"], expected[:, 1:], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(outputs["features_pooled"], expected[:, 0], rtol=1e-4, atol=1e-5)

    def test_pixels_and_floats_agree(self):
        encoder = self.make()
        pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 8, 12, 3)).astype("uint8")
        floats = encoder(pixels.astype("float32") / 127.5 - 1)
        for name, value in encoder(pixels).items():
            np.testing.assert_allclose(value, floats[name], rtol=1e-4, atol=1e-5)

    def test_floats_of_0_to_255_are_pixels(self):
        """As `keras.Input` makes them of uint8; each clip by itself."""
        pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 8, 12, 3)).astype("uint8")
        mixed = np.stack([pixels[0].astype("float32"), pixels[1] / np.float32(127.5) - 1])
        encoder = self.make()
        app = keras.Sequential([keras.Input(pixels.shape[1:]), encoder])
        expected = encoder(pixels)["features_pooled"]
        for frames in (pixels, pixels.astype("float32"), mixed):
            found = app(frames)["features_pooled"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    def test_another_clip_size_equals_resampled_tables(self):
        encoder = self.make()
        larger = clip(frames=8, height=16, width=12)
        features = encoder(larger)["features"]
        assert features.shape == (2, 4, 4, 3, 8)
        other = VideoEncoder(dataclasses.replace(self.tower, frames=8, image_size=(16, 12)))
        other.build(larger.shape)
        for ours, theirs in zip(other.weights, encoder.weights, strict=True):
            value = np.asarray(theirs)
            if ours.shape != theirs.shape:
                value = interpolation_matrix(theirs.shape[0], ours.shape[0]) @ value
            ours.assign(value)
        np.testing.assert_allclose(features, other(larger)["features"], rtol=1e-4, atol=1e-4)

    def test_small_clip_cannot_drop(self):
        with pytest.raises(ValueError, match="keeps 6 tokens, but the clip has only 6"):
            self.make()(clip(frames=2), training=True)

    def test_too_small_clip(self):
        with pytest.raises(ValueError, match="smaller than a patch"):
            self.make()(clip(frames=1))


class TestVideoEncoderOfAgnosticModel(PooledOnlyTests, LayerTestCase):
    layer_class = VideoEncoder
    config = {
        "config": dataclasses.replace(
            TestVideoEncoder.tower, pre_projection=True, post_projection=10
        )
    }

    def inputs(self):
        return clip()

    def test_width(self):
        assert self.make().output_dim == 10
