"""What is written: folders, signatures, weights, warm-up, and that it is all or nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from tests.export import tiny
from vatt_tf import export
from vatt_tf.data.input import audio_ops
from vatt_tf.data.text import vocabulary
from vatt_tf.data.text.tokenizer import load_tokenizer
from vatt_tf.errors import UserError
from vatt_tf.export import examples, parity, servables, versions, writer
from vatt_tf.models import io


def everything_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_layout(exported_models):
    assert sorted(path.name for path in exported_models.iterdir()) == ["audio", "text", "video"]
    for folder in exported_models.iterdir():
        assert [path.name for path in folder.iterdir()] == ["1"]
        assert (folder / "1/saved_model.pb").is_file()
        assert (folder / "1/assets.extra/tf_serving_warmup_requests").is_file()


def test_signatures(exported_models):
    found = {
        (name, signature): (
            {key: str(info) for key, info in content.inputs.items()},
            {key: str(info) for key, info in content.outputs.items()},
        )
        for name in ("video", "audio", "text")
        for signature, content in versions.read_signatures(exported_models / name / "1").items()
    }
    video = {"embedding_va": "float32 [?, 12]", "embedding_vt": "float32 [?, 8]"}
    features = {"features": "float32 [?, 16]"}
    described = ({"query": "string [?]"}, {"description": "string [?]"})
    audio, text = {"embedding": "float32 [?, 12]"}, {"embedding": "float32 [?, 8]"}
    assert found == {
        ("video", "serving_default"): ({"frames": "uint8 [?, ?, ?, ?, 3]"}, video | features),
        ("video", "encoded"): ({"frames_bytes": "string [?, ?]"}, video | features),
        ("video", "describe"): described,
        ("audio", "serving_default"): ({"waveform": "float32 [?, ?]"}, audio | features),
        ("audio", "encoded"): ({"audio_bytes": "string [?]"}, audio | features),
        ("audio", "describe"): described,
        ("text", "serving_default"): ({"text": "string [?]"}, text | features),
        ("text", "describe"): described,
        ("text", "vocabulary"): (
            {"text": "string [?]"},
            {"tokens": "int32 [?]", "unknown": "int32 [?]"},
        ),
    }


def test_each_model_holds_its_own_weights_only(weights_folder, exported_models):
    model, _, _ = io.load_pretrained(str(weights_folder))
    stored = {
        name: sum(
            np.prod(shape, dtype=int)
            for key, shape in tf.train.list_variables(
                str(exported_models / name / "1/variables/variables")
            )
            if "weights" in key
        )
        for name in ("video", "audio", "text")
    }
    head = model.head
    branches = {
        "video": [head.video_to_va, head.va_to_vt],
        "audio": [head.audio_to_va],
        "text": [head.text_to_vt],
    }
    for name, layers in branches.items():
        parts = [model.tower(name), *layers]
        # Random seeds of the dropouts are no part of a model that never draws.
        expected = sum(
            np.prod(v.shape, dtype=int)
            for part in parts
            for v in part.weights
            if "seed" not in v.path
        )
        assert stored[name] == expected, name


def test_runs_in_a_session_as_servers_run_it(weights_folder, exported_models, models):
    sent = examples.captions(3)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(exported_models / "text/1"))
        signature = meta.signature_def["serving_default"]
        found = session.run(
            signature.outputs["embedding"].name, {signature.inputs["text"].name: sent}
        )
    np.testing.assert_allclose(found, models.text({"text": sent})["embedding"], atol=1e-6)


def test_warm_up_replays(exported_models, models):
    from tensorflow_serving.apis import prediction_log_pb2

    for name in models.names:
        path = exported_models / name / "1/assets.extra/tf_serving_warmup_requests"
        model, replayed = getattr(models, name), []
        for record in tf.data.TFRecordDataset(str(path)):
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            request = log.predict_log.request
            assert request.model_spec.name == name
            replayed.append(request.model_spec.signature_name)
            sent = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            for value in model(sent, signature=replayed[-1]).values():
                assert len(value) == 1
        assert sorted(replayed) == sorted(model.signatures)


def test_description(weights_folder, models):
    model, clip, _ = io.load_pretrained(str(weights_folder))
    assert models.video.description["outputs"] == {
        "embedding_va": {"space": "va", "dim": 12, "partners": ["audio"]},
        "embedding_vt": {"space": "vt", "dim": 8, "partners": ["text"]},
    }
    assert models.text.description["outputs"] == {
        "embedding": {"space": "vt", "dim": 8, "partners": ["video"]}
    }
    for name in models.names:
        exported = getattr(models, name)
        assert exported.clip == clip
        assert exported.description["modality"] == name
        assert exported.description["model_hash"] == io.weights_hash(model)
        assert "labels" not in exported.description
        measured = io.read_description(str(weights_folder))["score_calibration"]
        assert exported.description["score_calibration"] == measured
    answers = models.audio({"query": np.array([b"", b"x"], object)}, signature="describe")
    assert [json.loads(text) for text in answers["description"]] == [models.audio.description] * 2


def test_hash_changes_with_one_weight(weights_folder):
    model, _, _ = io.load_pretrained(str(weights_folder))
    before = io.weights_hash(model)
    assert before == io.weights_hash(model)
    weight = model.head.text_to_vt.bias
    weight.assign(np.asarray(weight) + np.eye(1, 8)[0] * 1e-6)
    assert io.weights_hash(model) != before


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece"])
def test_every_tokenizer_is_inside_the_graph(tmp_path, kind):
    sentences = ["a red circle moves left", "someone plays the piano"] * 20
    vocabulary.build_vocabulary(sentences, tmp_path / "words", kinds=(kind,), max_size=60)
    tokenizer = load_tokenizer(tmp_path / "words", kind, tiny.TOKENS)
    weights = tiny.save_weights(tmp_path / "weights", tokenizer=tokenizer)
    model, _, tokenizer = io.load_pretrained(str(weights))
    expected = model({"text": tokenizer(sentences[:2])})["vt"]["text"].numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    export.export_models(weights, tmp_path / "models", models=["text"])
    found = export.load(tmp_path / "models").embed_text(sentences[:2])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_log_mel_and_shared_space(tmp_path):
    weights = tiny.save_weights(tmp_path / "weights", head="shared", audio="log_mel")
    export.export_models(weights, tmp_path / "models", models=["audio"])
    found = export.load(tmp_path / "models")
    assert found.names == ("audio",)
    assert {space: set(parts) for space, parts in found.spaces.items()} == {
        "vat": {"video", "audio", "text"}
    }
    model, clip, _ = io.load_pretrained(str(weights))
    sound = examples.sound(2, clip.samples)
    mel = np.stack([audio_ops.log_mel(row, clip) for row in sound])[..., np.newaxis]
    expected = model({"audio": mel})["vat"]["audio"].numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    embedded = found.embed_audio(sound, sample_rate=clip.sample_rate)
    np.testing.assert_allclose(embedded, expected, atol=1e-5)


def test_classifier(tmp_path):
    weights = tiny.save_classifier(tmp_path / "weights")
    assert list(export.export_models(weights, tmp_path / "models")) == ["classifier"]
    found = export.load(tmp_path / "models")
    assert found.names == ("classifier",) and found.video is None
    assert found.classifier.description["labels"] == ["goal", "foul", "corner"]
    assert found.classifier.description["modality"] == "video"
    frames = examples.request("frames", tiny.CLIP, 3)
    outputs = found.classifier({"frames": frames})
    expected = io.load_classifier(str(weights)).model({"video": frames})
    for key in ("logits", "probabilities"):
        np.testing.assert_allclose(outputs[key], expected[key], atol=1e-5)
    with pytest.raises(UserError, match="no video model, only classifier"):
        found.embed_video(np.zeros((4, 16, 24, 3), np.uint8))


@pytest.fixture
def only_folders(monkeypatch):
    """Exports that write an empty SavedModel: what they do with folders is the same."""
    monkeypatch.setattr(
        writer, "_write", lambda _, folder: (folder / "saved_model.pb").write_bytes(b"")
    )


def test_versions_count_up_over_all_models(weights_folder, tmp_path, only_folders):
    out = tmp_path / "models"
    (out / "audio/0006").mkdir(parents=True)
    (out / "text/tmp_30").mkdir(parents=True)
    (out / "text/notes").mkdir()
    written = export.export_models(weights_folder, out, models=["audio", "text"])
    assert written == {name: out / name / "7" for name in ("audio", "text")}
    assert not (out / "video").exists()
    with pytest.raises(UserError, match=r"audio.7: exists already; choose another version"):
        export.export_models(weights_folder, out, version=7, models=["audio"])
    assert (out / "text/tmp_30").is_dir() and not (out / "video").exists()


def test_what_a_killed_export_left_is_removed(weights_folder, tmp_path, only_folders):
    ended = subprocess.Popen(["true"])
    ended.wait()
    killed, running, other = (tmp_path / f"text/tmp_3_{n}" for n in (ended.pid, os.getpid(), "x"))
    for folder in (killed, running, other):
        folder.mkdir(parents=True)
        (folder / ".vatt_tf_export").touch()
    (tmp_path / f"text/tmp_4_{ended.pid}").mkdir()  # no export made it
    export.export_models(weights_folder, tmp_path, models=["text"])
    names = {path.name for path in (tmp_path / "text").iterdir()}
    assert names == {"1", running.name, other.name, f"tmp_4_{ended.pid}"}


@pytest.mark.parametrize("name", ["novel.txt", "2024/film.mp4", "notes/a.txt"])
def test_a_folder_of_something_else_is_refused(weights_folder, tmp_path, only_folders, name):
    path = tmp_path / "text" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(UserError, match="text: holds something else than versions of a model"):
        export.export_models(weights_folder, tmp_path, models=["text"])
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize(("drift", "graphs"), [(2e-5, "the written one"), (2e-3, "all")])
def test_a_difference_leaves_nothing(weights_folder, tmp_path, monkeypatch, drift, graphs):
    """The text model's graph drifts away after the audio model was written."""
    real_write, real_check = writer._write, parity.check
    checking = []

    def write(servable, folder):
        if servable.name == "text":
            real_write(servable, folder)
        else:
            (folder / "saved_model.pb").write_bytes(b"")

    def check(servable, folder):
        checking.append(servable.name)
        return real_check(servable, folder)

    monkeypatch.setattr(writer, "_write", write)
    monkeypatch.setattr(parity, "check", check)
    drifting(monkeypatch, drift, lambda: graphs == "all" or not checking)
    out = tmp_path / "new" / "models"
    message = r"text model differs from the trained one by [\d.e-]+ in serving_default, output emb"
    with pytest.raises(UserError, match=message):
        export.export_models(weights_folder, out, models=["audio", "text"])
    assert not out.exists()


def test_a_graph_may_round_in_its_own_way(weights_folder, tmp_path, monkeypatch):
    drifting(monkeypatch, 2e-5, lambda: True)
    assert "text" in export.export_models(weights_folder, tmp_path, models=["text"])


def drifting(monkeypatch, drift, when):
    """Embeddings of graphs are off by ``drift``."""
    real_unit = servables._unit

    def unit(embedding):
        return real_unit(embedding) + (drift if not tf.executing_eagerly() and when() else 0.0)

    monkeypatch.setattr(servables, "_unit", unit)


def test_what_counts_as_a_difference():
    ones = np.ones((2, 3), np.float32)
    assert parity._difference("embedding", ones, ones + 1e-3) == pytest.approx(1e-3, rel=1e-3)
    assert parity._difference("features", 100 * ones, 100 * ones + 1e-3) < parity.TOLERANCE
    assert parity._difference("embedding", ones, ones[:1]) > parity.TOLERANCE
    assert not parity._difference("embedding", ones, ones * np.nan) <= parity.TOLERANCE


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_an_interruption_keeps_what_was_there(
    weights_folder, tmp_path, monkeypatch, only_folders, moment
):
    out = tmp_path / "models"
    (out / "text/1").mkdir(parents=True)
    (out / "text/1/saved_model.pb").write_bytes(b"old")
    before = everything_in(out)
    real = type(out).rename

    def interrupted(first, *rest):
        if moment == "write" or first.parent.name == "text":
            raise KeyboardInterrupt
        return real(first, *rest)

    if moment == "write":
        monkeypatch.setattr(writer, "_write", interrupted)
    else:
        monkeypatch.setattr(type(out), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.export_models(weights_folder, out)
    assert everything_in(out) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": ["classifier"]}, "models=classifier: .* has video, audio, text"),
        ({"models": []}, "models=none"),
        ({"version": 0}, "version=0: expected a whole number, at least 1"),
    ],
)
def test_mistakes(weights_folder, tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        export.export_models(weights_folder, tmp_path / "models", **arguments)
    assert not (tmp_path / "models").exists()


def test_text_needs_a_tokenizer(weights_folder, tmp_path):
    weights = shutil.copytree(weights_folder, tmp_path / "weights")
    description = json.loads((weights / "model.json").read_text())
    (weights / "model.json").write_text(json.dumps({**description, "tokenizer": None}))
    with pytest.raises(UserError, match="has video, audio .text needs a tokenizer"):
        export.export_models(weights, tmp_path / "models", models=["text"])


def test_out_is_a_file(weights_folder, tmp_path):
    (tmp_path / "models").write_text("")
    with pytest.raises(UserError, match="models: is a file, expected a folder"):
        export.export_models(weights_folder, tmp_path / "models")
