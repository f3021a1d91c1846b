"""The audio tower of residual blocks against NumPy in float64."""

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
from vatt_tf.encoders.audio_resnet import AudioResNetTowerConfig, SpectrogramResNetEncoder

BLOCKS = (1, 1, 2, 1)


def spectrogram(frames=70, mel_bins=40, batch=3):
    return np.random.default_rng(0).uniform(size=(batch, frames, mel_bins, 1)).astype("float32")


def make(dtype="float32"):
    encoder = SpectrogramResNetEncoder(
        AudioResNetTowerConfig(width=0.125, blocks=BLOCKS), dtype=dtype, name="layer"
    )
    encoder.build((None, None, None, 1))
    return encoder


class TestSpectrogramResNetEncoder(LayerTestCase):
    layer_class = SpectrogramResNetEncoder
    config = {"config": AudioResNetTowerConfig(width=0.125, blocks=(1, 1, 1, 1))}

    def inputs(self):
        return spectrogram(20, 12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(70, 40), (77, 39), (1, 80, 12)], ids=str)
def test_equals_numpy(size, training, dtype):
    encoder, inputs = make(dtype), spectrogram(*size)
    plain = PlainResNet(set_weights(encoder), training)
    features = plain.features(inputs.astype("float64"), BLOCKS)
    expected = {"features": features, "features_pooled": features.mean((1, 2))}
    assert_features_equal(encoder(inputs, training=training), expected, dtype)
    assert_statistics_equal(encoder, plain)


def test_mixed_bfloat16_is_close():
    exact, rough = make(), make("mixed_bfloat16")
    set_weights(exact)
    rough.set_weights(exact.get_weights())
    expected = np.asarray(exact(spectrogram())["features_pooled"])
    pooled = rough(spectrogram())["features_pooled"]
    assert pooled.dtype == "bfloat16"
    error = np.asarray(tf.cast(pooled, "float32")) - expected
    assert np.sqrt(np.mean(error**2)) < 0.02 * np.sqrt(np.mean(expected**2))


def test_sizes_known_only_at_run_time():
    encoder = make()
    signature = [tf.TensorSpec([None, None, None, 1])]
    function = tf.function(lambda inputs: encoder(inputs), input_signature=signature)
    for inputs in (spectrogram(), spectrogram(17, 33, 1)):
        for name, value in encoder(inputs).items():
            np.testing.assert_allclose(function(inputs)[name], value, rtol=1e-5, atol=1e-5)


def test_parameters_of_the_full_size():
    """As TSM-ResNet50, but for a stem that sees one channel in place of three."""
    encoder = SpectrogramResNetEncoder(AudioResNetTowerConfig())
    encoder.build((None, None, None, 1))
    trainable = sum(int(np.prod(v.shape)) for v in encoder.trainable_weights)
    assert trainable == 23_500_352 - 2 * 7 * 7 * 64 == 23_494_080
    assert encoder.output_dim == 2048
    assert encoder.compute_output_shape((2, 150, 80, 1)) == {
        "features": (2, 5, 3, 2048),
        "features_pooled": (2, 2048),
    }
