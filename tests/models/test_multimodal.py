"""Classifiers of several modalities: configuration, fusion, what rows lack, files."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models import tiny
from vatt_tf.data.text.tokenizer import WordTokenizer
from vatt_tf.errors import UserError
from vatt_tf.heads.fusion import FUSIONS
from vatt_tf.models import io
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.multimodal import MultimodalConfig

MODELS = {"specific": tiny.specific(), "agnostic": tiny.agnostic()}
ALL = ("video", "audio", "text")


def make(modalities=ALL, kind="specific", **fields):
    towers = {modality: MODELS[kind].tower(modality) for modality in modalities}
    return MultimodalConfig(**{"num_classes": 3, **fields, **towers})


def batch(rows=3, texts=2):
    values = tiny.batch(rows, texts)
    values["text"][:, :, 0] = 5  # Every text has a word.
    return values


def built(config, seed=0):
    model = build_classifier(config)
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


@pytest.mark.parametrize(
    ("kind", "fusion"), list(zip(["specific", "agnostic"] * 2, FUSIONS, strict=True))
)
def test_outputs_and_config_round_trip(kind, fusion, tmp_path):
    config = make(("text", "video"), kind, fusion=fusion, multi_label=kind == "agnostic")
    assert config.modalities == ("video", "text")
    assert MultimodalConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    model = build_classifier(config, dtype="mixed_bfloat16")
    outputs = model(batch())
    assert outputs["logits"].shape == (3, 3) and outputs["logits"].dtype == "float32"
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(batch())["logits"], outputs["logits"])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_row_that_lacks_a_modality_does_not_see_it(fusion):
    model, inputs = built(make(fusion=fusion)), batch()
    inputs |= {
        "video_mask": np.array([0, 1, 1], "float32"),
        "audio_mask": np.array([1, 0, 1], "float32"),
        "text_mask": np.array([[1, 1], [1, 1], [0, 1]], "float32"),
    }
    expected = np.asarray(model(inputs)["logits"])
    assert np.ptp(expected, axis=0).min() > 1e-4
    changed = {name: np.array(value) for name, value in inputs.items()}
    changed["video"][0] = 255 - changed["video"][0]
    changed["audio"][1] *= -1
    changed["text"][2, 0] = 7
    np.testing.assert_array_equal(model(changed)["logits"], expected)
    for name in ALL:
        del changed[f"{name}_mask"]
    assert np.abs(model(changed)["logits"] - expected).max(axis=1).min() > 1e-4


def test_several_texts_are_averaged_and_empty_ones_are_lacking():
    model, inputs = built(make(("audio", "text"))), batch(1, 3)
    inputs["text"][0, 1] = 0
    first, third = ({**inputs, "text": inputs["text"][:, number]} for number in (0, 2))
    features = [np.asarray(model.encode(one)["text"]) for one in (first, third)]
    audio = model.encode(inputs)["audio"]
    expected = model.head(model.fusion({"audio": audio, "text": np.mean(features, axis=0)}))
    np.testing.assert_allclose(model(inputs)["logits"], expected["logits"], atol=1e-5)
    empty = model({**inputs, "text": np.zeros((1, 6), "int32")})["logits"]
    zeros = model.head(model.fusion({"audio": audio, "text": np.zeros((1, 16), "float32")}))
    np.testing.assert_allclose(empty, zeros["logits"], atol=1e-6)


def test_towers_of_an_agnostic_model_have_weights_of_their_own():
    model = build_classifier(make(("video", "audio"), "agnostic"))
    video, audio = (model.towers[name].transformer.weights for name in ("video", "audio"))
    assert not {id(weight) for weight in video} & {id(weight) for weight in audio}
    paths = [weight.path for weight in model.weights]
    assert len(set(paths)) == len(paths)
    assert sum("/audio/transformer/" in path for path in paths) == len(audio)


@pytest.mark.parametrize("fusion", ["tensor", "average"])
def test_gradients_and_parts(fusion):
    model = built(make(fusion=fusion, fusion_dim=4 if fusion == "tensor" else None))
    assert len(model.tower_variables) + len(model.head_variables) == len(model.trainable_variables)
    assert any("/fusion/" in v.path for v in model.head_variables) == (fusion == "tensor")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(batch(), training=True)["logits"] ** 2)
    values = [variable.value for variable in model.trainable_variables]
    for variable, gradient in zip(values, tape.gradient(loss, values), strict=True):
        gradient = tf.convert_to_tensor(gradient)
        assert np.isfinite(gradient).all(), variable.path


def test_saved_and_loaded_with_its_tokenizer(tmp_path):
    config = make(("video", "text"), "agnostic", fusion="compact_bilinear", fusion_dim=32)
    model = built(config)
    tokenizer = WordTokenizer(("<pad>", "<bos>", "<eos>", "<unk>", "red"), 6)
    folder, labels = str(tmp_path / "weights"), ["a", "b", "c"]
    io.save_pretrained(folder, model, config.clip(), tokenizer, labels=labels)
    loaded = io.load_classifier(folder)
    assert loaded.model.config == config and loaded.labels == tuple(labels)
    assert loaded.clip == config.clip() and loaded.clip.audio == "none"
    np.testing.assert_array_equal(loaded.tokenizer(["red"]), tokenizer(["red"]))
    np.testing.assert_array_equal(loaded.model(batch())["logits"], model(batch())["logits"])
    with pytest.raises(UserError, match="kind 'multimodal_classifier', expected towers"):
        io.load_pretrained(folder)


def test_clip():
    clip = make().clip(frame_rate=25.0, sample_rate=16_000)
    assert (clip.frames, clip.height, clip.width, clip.frame_rate) == (4, 16, 24, 25.0)
    assert (clip.audio, clip.samples, clip.sample_rate) == ("waveform", 256, 16_000)
    assert (clip.texts, clip.tokens) == (1, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modalities": ("video",)}, "multimodal_classifier.modalities = .*two or three"),
        ({"fusion": "sum"}, "multimodal_classifier.fusion = 'sum': expected one of 'conc"),
        ({"fusion_dim": 8}, "fusion_dim = 8: expected None: concatenation has no width"),
        ({"fusion": "tensor", "fusion_dim": 512}, "512, 512, 512 numbers have 135,005,697 prod"),
        ({"num_classes": 0}, "multimodal_classifier.num_classes = 0"),
    ],
)
def test_wrong_configurations(arguments, message):
    with pytest.raises(UserError, match=message):
        make(**arguments)


def test_a_tower_of_another_modality():
    with pytest.raises(UserError, match="multimodal_classifier.audio = .*@audio_tower"):
        MultimodalConfig(2, video=MODELS["specific"].video, audio=MODELS["specific"].video)


def test_a_missing_input():
    with pytest.raises(UserError, match="audio is missing, the model reads video, audio; give"):
        build_classifier(make(("video", "audio")))({"video": batch()["video"]})
