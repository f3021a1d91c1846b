"""The modality-agnostic backbone."""

from __future__ import annotations

import copy
import json

import keras
import numpy as np
import pytest

from tests.layers.layer_test_case import LayerTestCase
from vatt_tf.encoders.agnostic import AgnosticEncoder, AgnosticTextConfig, AgnosticTowerConfig
from vatt_tf.encoders.audio import AudioTowerConfig, SpectrogramEncoder
from vatt_tf.encoders.video import VideoEncoder, VideoTowerConfig
from vatt_tf.layers.transformer.blocks import Transformer

SIZE = {"d_model": 8, "num_layers": 2, "num_heads": 2, "d_ff": 12, "d_kv": 4}


OWN = {**SIZE, "pre_projection": True, "post_projection": 10}
SHARED = AgnosticTowerConfig(**SIZE, post_projection=10)
TOWERS = {
    "video": VideoTowerConfig(frames=4, image_size=(8, 12), patch=(2, 4, 4), **OWN),
    "audio": AudioTowerConfig(samples=64, patch=16, **OWN),
    "text": AgnosticTextConfig(
        vocab_size=11,
        embedding_dim=6,
        max_tokens=5,
        trainable_words=True,
        post_projection=10,
        **SIZE,
    ),
}


class TestAgnosticEncoder(LayerTestCase):
    layer_class = AgnosticEncoder
    config = {"config": SHARED, "towers": TOWERS}

    def inputs(self):
        generator = np.random.default_rng(0)
        return {
            "video": generator.uniform(-1, 1, (2, 4, 8, 12, 3)).astype("float32"),
            "audio": generator.uniform(-1, 1, (2, 64, 1)).astype("float32"),
            "text": np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 7]], "int32"),
        }

    def test_one_transformer_whose_variables_count_once(self):
        encoder = self.make()
        assert encoder.video.transformer is encoder.transformer
        assert encoder.text.transformer is encoder.transformer
        paths = [variable.path for variable in encoder.weights]
        assert len(paths) == len(set(paths))
        assert sum("/transformer/block_0/attention/qkv/kernel" in path for path in paths) == 1

    def test_modalities_do_not_mix(self):
        encoder, inputs = self.make(), self.inputs()
        alone = encoder({"audio": inputs["audio"]})
        assert set(alone) == {"audio"}
        together = encoder(inputs)["audio"]["features_pooled"]
        np.testing.assert_allclose(alone["audio"]["features_pooled"], together, rtol=1e-5)

    def test_towers_of_some_modalities_only(self):
        encoder = AgnosticEncoder(SHARED, {name: TOWERS[name] for name in ("video", "text")})
        encoder.build()
        assert set(encoder(self.inputs())) == {"video", "text"} and not hasattr(encoder, "audio")
        assert not any("/audio/" in weight.path for weight in encoder.weights)
        again = AgnosticEncoder.from_config(encoder.get_config())
        assert set(again.towers) == {"video", "text"}

    def test_a_tower_alone_is_the_same_class(self):
        """Fine-tuning one modality: an ordinary encoder with the variables of its part."""
        encoder, inputs = self.make(), self.inputs()
        video = TOWERS["video"].build(name="video")
        video.build(inputs["video"].shape)
        shared = {v.path.split("/", 1)[1]: v for v in encoder.transformer.weights}
        own = {v.path.split("/", 1)[1]: v for v in encoder.video.weights}
        for variable in video.weights:
            name = variable.path.split("/", 1)[1]
            variable.assign(shared[name] if name in shared else own[f"video/{name}"])
        expected = encoder(inputs)["video"]["features_pooled"]
        np.testing.assert_allclose(
            video(inputs["video"])["features_pooled"], expected, rtol=1e-5, atol=1e-6
        )

    def test_spectrogram_input(self):
        audio = AudioTowerConfig(input="log_mel", mel_frames=8, mel_bins=6, patch=(4, 2), **OWN)
        encoder = AgnosticEncoder(SHARED, {**TOWERS, "audio": audio})
        encoder.build()
        assert isinstance(encoder.audio, SpectrogramEncoder)
        outputs = encoder({"audio": np.ones((2, 8, 6, 1), "float32")})
        assert outputs["audio"]["features"].shape == (2, 2, 3, 10)


def app_of_two_towers():
    """A user's own app: video and sound through one Transformer, compared."""
    keras.utils.set_random_seed(0)
    shared = Transformer(num_layers=2, num_heads=2, d_kv=4, d_ff=12)
    inputs, pooled = [], []
    for modality, shape, dtype in (("video", (4, 8, 12, 3), "uint8"), ("audio", (64, 1), None)):
        inputs.append(keras.Input(shape, dtype=dtype))
        tower = TOWERS[modality].build(transformer=shared, name=modality)
        pooled.append(tower(inputs[-1])["features_pooled"])
    return keras.Model(inputs, keras.layers.Dot(1, normalize=True)(pooled))


def saved(app, path):
    app.save(path)
    return keras.saving.load_model(path)


@pytest.mark.parametrize(
    "again",
    [
        saved,
        lambda app, _: copy.deepcopy(app),
        lambda app, _: keras.models.clone_model(app),
        lambda app, _: keras.models.clone_model(keras.models.clone_model(app)),
    ],
)
def test_a_copy_of_an_app_shares_the_transformer(again, tmp_path):
    app = app_of_two_towers()
    rng = np.random.default_rng(0)
    inputs = [rng.integers(0, 256, (3, 4, 8, 12, 3)).astype("uint8"), rng.normal(size=(3, 64, 1))]
    other = again(app, tmp_path / "app.keras")
    towers = [other.get_layer(name) for name in ("video", "audio")]
    assert towers[0].transformer is towers[1].transformer
    assert towers[0].transformer is not app.get_layer("video").transformer
    assert len(other.weights) == len(app.weights) and other.count_params() == app.count_params()
    other.set_weights(app.get_weights())  # a clone starts from weights of its own
    np.testing.assert_allclose(other(inputs), app(inputs), rtol=1e-6)


@pytest.mark.parametrize("layer", [VideoEncoder, AgnosticEncoder])
def test_from_config_leaves_its_argument_as_it_was(layer):
    if layer is VideoEncoder:
        config = app_of_two_towers().get_layer("video").get_config()
    else:
        config = AgnosticEncoder(SHARED, TOWERS).get_config()
    before = json.dumps(config)
    first, second = layer.from_config(config), layer.from_config(config)
    assert json.dumps(config) == before
    assert first.transformer is not second.transformer
    assert first.config == second.config
