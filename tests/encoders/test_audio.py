"""The audio towers."""

from __future__ import annotations

import numpy as np

from tests.encoders.pooled_only import PooledOnlyTests
from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.encoders.audio import AudioTowerConfig, SpectrogramEncoder, WaveformEncoder

SIZE = {"d_model": 8, "num_layers": 2, "num_heads": 2, "d_ff": 12, "d_kv": 4}


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


class TestWaveformEncoder(PooledOnlyTests, LayerTestCase):
    layer_class = WaveformEncoder
    config = {"config": AudioTowerConfig(samples=100, patch=16, **SIZE)}

    def inputs(self):
        return random(2, 100, 1)

    def test_trailing_samples_are_left_out(self):
        encoder, inputs = self.make(), self.inputs()
        changed = inputs.copy()
        changed[:, 96:] = 5.0
        for name, value in encoder(inputs).items():
            np.testing.assert_array_equal(value, encoder(changed)[name])

    def test_drop_token(self):
        assert self.make()(self.inputs(), training=True)["features"].shape == (2, 3, 8)

    def test_longer_clip(self):
        assert self.make()(random(2, 160, 1))["features"].shape == (2, 10, 8)


class TestSpectrogramEncoder(PooledOnlyTests, LayerTestCase):
    layer_class = SpectrogramEncoder
    config = {
        "config": AudioTowerConfig(input="log_mel", mel_frames=8, mel_bins=6, patch=(4, 2), **SIZE)
    }

    def inputs(self):
        return random(2, 8, 6, 1)

    def test_position_order_of_the_release(self):
        """Token n = (t, m) in time-major order reads E_time[n mod T] + E_mel[n div T]."""
        encoder = self.make()
        mel, time = (np.asarray(table) for table in encoder.positions.tables)
        assert mel.shape[0] == 3 and time.shape[0] == 2
        number = np.arange(6)
        summed = time[number % 2] + mel[number // 2]
        normed = (summed - summed.mean(1, keepdims=True)) / np.sqrt(
            summed.var(1, keepdims=True) + 1e-6
        )
        np.testing.assert_allclose(
            encoder.positions.embeddings((3, 2)), normed, rtol=1e-3, atol=1e-4
        )

    def test_no_biases_but_in_the_patch_embedding(self):
        paths = [v.path for v in self.make().weights if v.path.endswith("/bias")]
        assert paths == ["layer/patch_embedding/bias"]

    def test_drop_token(self):
        assert self.make()(self.inputs(), training=True)["features"].shape == (2, 3, 8)
