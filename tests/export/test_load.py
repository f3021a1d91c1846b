"""``vatt_tf.export.load``: models by name, and the embedder."""

from __future__ import annotations

import copy
import shutil

import numpy as np
import pytest

import vatt_tf
from tests.export import tiny
from vatt_tf import export
from vatt_tf.errors import UserError
from vatt_tf.export import examples
from vatt_tf.export.loading import ExportedModels

CLIP = tiny.CLIP


@pytest.fixture(scope="module")
def embedder(weights_folder):
    return vatt_tf.load(str(weights_folder))


def test_names(models):
    assert models.names == ("video", "audio", "text")
    assert models.classifier is None
    assert models.video.version == 1
    assert not hasattr(models, "config")  # SavedModels do not carry it.


def test_spaces_are_those_of_the_trained_model(models, embedder):
    assert models.dimensions == embedder.dimensions


@pytest.mark.parametrize("space", [None, "audio", "vt", "all"])
def test_embed_video(models, embedder, space):
    frames = examples.frames(2, (CLIP.frames, 20, 31))
    found, expected = (m.embed_video(frames, space=space) for m in (models, embedder))
    if space != "all":
        found, expected = {"": found}, {"": expected}
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_embed_audio(models, embedder):
    sound = examples.sound(3, 300)
    found, expected = (m.embed_audio(sound, sample_rate=800) for m in (models, embedder))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert models.embed_audio(sound[0], sample_rate=800).shape == (12,)


def test_embed_text(models, embedder):
    strings = ["a red circle moves left", "piano", "ein Stück für Klavier"]
    np.testing.assert_allclose(models.embed_text(strings), embedder.embed_text(strings), atol=1e-5)
    assert models.embed_text("piano").shape == (8,)


def test_words_are_split_by_the_vocabulary(models, embedder):
    text = "A red, circle -- ein Hund ein \u72ac"
    found = models.split_known(text)
    assert found == embedder.split_known(text)
    assert found == (["A", "red", "circle"], ["ein", "Hund", "\u72ac"])
    assert models.split_known(" ") == ([], [])
    older = copy.copy(models.text)
    older.signatures = {n: s for n, s in older.signatures.items() if n != "vocabulary"}
    assert ExportedModels({"text": older}).split_known(text) is None


def test_windows_of_a_longer_clip(models):
    frames = examples.frames(1, (3 * CLIP.frames, CLIP.height, CLIP.width))[0]
    windows = models.embed_video(frames.reshape(3, CLIP.frames, CLIP.height, CLIP.width, 3))
    mean = windows.mean(axis=0)
    found = models.embed_video(frames, windows=3)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)


def test_a_tower_alone_still_knows_its_partner(exported_models, models, tmp_path):
    shutil.copytree(exported_models / "text", tmp_path / "text")
    alone = export.load(tmp_path)
    assert alone.names == ("text",)
    found = alone.embed_text(["piano"], space="video")
    np.testing.assert_allclose(found, models.embed_text(["piano"]), atol=1e-6)
    with pytest.raises(UserError, match="there is no video model, only text"):
        alone.embed_video(np.zeros((4, 16, 24, 3), np.uint8))


def test_newest_complete_version(exported_models, tmp_path):
    shutil.copytree(exported_models / "text/1", tmp_path / "text/9")
    shutil.copytree(exported_models / "text/1", tmp_path / "text/10")
    (tmp_path / "text/11").mkdir()
    assert export.load(tmp_path).text.version == 10


def test_mixed_weights(models):
    video, text = models.video, copy.copy(models.text)
    text.description = {**text.description, "model_hash": "another"}
    with pytest.raises(UserError, match="video/1 and .*text/1 come from different weights"):
        ExportedModels({"video": video, "text": text})


@pytest.mark.parametrize(
    ("inputs", "signature", "message"),
    [
        ({"text": np.array([b"a"], object)}, "zzz", "this model has .*, vocabulary"),
        ({"words": np.array([b"a"], object)}, "serving_default", "takes text, found words"),
        ({}, "serving_default", "takes text, found nothing"),
        ({"text": np.zeros(2, np.float32)}, "serving_default", "text is float32, expected string"),
    ],
)
def test_wrong_calls(models, inputs, signature, message):
    with pytest.raises(UserError, match=message):
        models.text(inputs, signature=signature)


def test_no_models(tmp_path):
    with pytest.raises(UserError, match="nothing: no such folder"):
        export.load(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no model; expected a folder that python -m"):
        export.load(tmp_path)


def test_broken_models(exported_models, tmp_path):
    broken = shutil.copytree(exported_models / "text", tmp_path / "text")
    shutil.rmtree(broken / "1/variables")
    with pytest.raises(UserError, match="1: cannot be loaded"):
        export.load(tmp_path)
    (broken / "1/saved_model.pb").write_bytes(b"\x0f\xff")
    with pytest.raises(UserError, match="saved_model.pb: not a readable SavedModel"):
        export.load(tmp_path)
