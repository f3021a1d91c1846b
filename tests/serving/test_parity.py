"""Every signature gives the same in process, over gRPC and over REST.

That the SavedModel gives what the trained model gives is checked by every export.
"""

from __future__ import annotations

import base64
import json
import shutil
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.export import tiny
from vatt_tf import export
from vatt_tf.export import examples
from vatt_tf.serving.benchmarks.tools import predict_request
from vatt_tf.serving.server.embedded import start_server
from vatt_tf.serving.server.models.options import BatchingOptions
from vatt_tf.serving.server.requests import tensors

SIGNATURES = [
    ("video", "serving_default", "frames"),
    ("video", "encoded", "frames_bytes"),
    ("audio", "serving_default", "waveform"),
    ("audio", "encoded", "audio_bytes"),
    ("text", "serving_default", "text"),
    ("text", "describe", "query"),
    ("text", "vocabulary", "text"),
    ("classifier", "serving_default", "frames"),
    ("classifier", "encoded", "frames_bytes"),
]


@pytest.fixture(scope="module")
def models(exported_models, made_once):
    def make(folder):
        shutil.copytree(exported_models, folder)
        export.export_models(tiny.save_classifier(folder.with_name("weights")), folder)

    return made_once("towers_and_classifier", make)


@pytest.fixture(scope="module", params=["plain", "batched"])
def served(models, request):
    batching = BatchingOptions(max_batch_size=8) if request.param == "batched" else None
    with start_server(models, batching=batching) as server:
        yield server


@pytest.fixture(scope="module")
def in_process(models):
    return {path.name: tf.saved_model.load(str(path / "1")) for path in models.iterdir()}


def over_rest(port, model, signature, alias, value):
    def as_json(item):
        if isinstance(item, list):
            return [as_json(part) for part in item]
        return {"b64": base64.b64encode(item).decode()} if isinstance(item, bytes) else item

    rows = as_json(value.tolist())
    body = json.dumps({"signature_name": signature, "inputs": {alias: rows}}).encode()
    url = f"http://localhost:{port}/v1/models/{model}:predict"
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as reply:
        return json.load(reply)["outputs"]


@pytest.mark.parametrize(("model", "signature", "alias"), SIGNATURES)
def test_same_everywhere(served, in_process, model, signature, alias):
    value = examples.request(alias, tiny.CLIP, 2)
    outputs = in_process[model].signatures[signature](**{alias: tf.constant(value)})
    request = predict_request(model, alias, value)
    request.model_spec.signature_name = signature
    with grpc.insecure_channel(f"localhost:{served.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        replied = stub.Predict(request, timeout=60).outputs
        without_deadline = stub.Predict(request).outputs
    assert without_deadline == replied
    rest = over_rest(served.rest_port, model, signature, alias, value)
    if len(outputs) == 1:
        rest = {next(iter(outputs)): rest}
    assert set(replied) == set(rest) == set(outputs)
    for name, expected in outputs.items():
        expected = expected.numpy()
        found = tensors.to_array(replied[name])
        if expected.dtype == object:
            assert found.tolist() == expected.tolist()
            assert [text.encode() for text in rest[name]] == expected.tolist()
            continue
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(rest[name], expected, rtol=0, atol=1e-5)
