"""Classifiers of several modalities as SavedModels: all inputs in one signature."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.export import tiny
from vatt_tf import export
from vatt_tf.errors import UserError
from vatt_tf.export import examples
from vatt_tf.models import io

CLIP = tiny.CLIP


@pytest.fixture(scope="module")
def weights(made_once):
    options = {"fusion": "compact_bilinear", "fusion_dim": 64}
    return made_once("multimodal_weights", lambda folder: tiny.save_multimodal(folder, **options))


@pytest.fixture(scope="module")
def exported(weights, made_once):
    def make(folder):
        assert list(export.export_models(weights, folder)) == ["classifier"]

    return export.load(made_once("multimodal", make)).classifier


def sent(rows=2):
    return {name: examples.request(name, CLIP, rows) for name in ("frames", "waveform", "text")}


def test_signatures_and_description(exported):
    found = {
        name: {key: str(info) for key, info in content.inputs.items()}
        for name, content in exported.signatures.items()
    }
    plain, encoded = "float32 [?, ?]", "string [?]"
    assert found == {
        "serving_default": {
            "frames": "uint8 [?, ?, ?, ?, 3]",
            "waveform": plain,
            "text": "string [?]",
        },
        "encoded": {"frames_bytes": "string [?, ?]", "audio_bytes": encoded, "text": encoded},
        "describe": {"query": "string [?]"},
    }
    assert exported.description["modality"] == "video+audio+text"
    assert exported.description["labels"] == ["goal", "foul", "corner"]
    assert exported.description["any_size"] is True


def test_outputs_are_those_of_the_model(weights, exported):
    inputs, loaded = sent(3), io.load_classifier(str(weights))
    read = {
        "video": inputs["frames"],
        "audio": inputs["waveform"][..., np.newaxis],
        "text": loaded.tokenizer(inputs["text"]),
    }
    outputs = exported(inputs)
    expected = loaded.model(read)
    for name in ("logits", "probabilities"):
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-5)
    assert np.ptp(outputs["logits"], axis=0).min() > 1e-3
    alone = exported({name: value[1:2] for name, value in inputs.items()})
    np.testing.assert_allclose(alone["logits"], outputs["logits"][1:2], atol=1e-5)


def test_rows_must_be_equal_in_number(exported):
    inputs = {**sent(2), "text": examples.captions(3)}
    message = r"frames, waveform, text: \[2 2 3\] rows, expected equal numbers"
    with pytest.raises(UserError, match=message):
        exported(inputs)


def test_warm_up_has_all_inputs(exported):
    from tensorflow_serving.apis import prediction_log_pb2

    path = exported.path / "assets.extra/tf_serving_warmup_requests"
    requests = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(str(path))
    ]
    assert [request.model_spec.signature_name for request in requests] == [
        "serving_default",
        "encoded",
        "describe",
    ]
    for request in requests:
        values = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        exported(values, signature=request.model_spec.signature_name)


def test_text_needs_a_tokenizer(weights, tmp_path):
    broken = tmp_path / "weights"
    broken.mkdir()
    content = json.loads((weights / "model.json").read_text())
    (broken / "model.json").write_text(json.dumps({**content, "tokenizer": None}))
    (broken / io.WEIGHTS).write_bytes((weights / io.WEIGHTS).read_bytes())
    with pytest.raises(UserError, match="reads text, but the folder has no tokenizer"):
        export.export_models(broken, tmp_path / "models")
    assert not (tmp_path / "models").exists()
