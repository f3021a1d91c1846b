"""A model that doubles its input, and calls to a server of it."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from vatt_tf.serving.server.requests import tensors

PATIENCE = 60.0


class Double(tf.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = tf.Variable(float(factor))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(self, x):
        return {"y": x * self.factor}


def save(folder):
    """Saves it with the factors 2 and 3 as FOLDER/2 and FOLDER/3."""
    for factor in (2, 3):
        module = Double(factor)
        signatures = {"serving_default": module.double}
        tf.saved_model.save(module, str(folder / str(factor)), signatures)


def put(saved, models, version, factor):
    temporary = models / "double" / f"tmp_{version}"
    shutil.copytree(saved / str(factor), temporary)
    temporary.rename(models / "double" / str(version))


def request(*values, version=None):
    result = predict_pb2.PredictRequest()
    result.model_spec.name = "double"
    if version:
        result.model_spec.version.value = version
    tensors.fill_proto(result.inputs["x"], np.float32(values))
    return result


def stub(server):
    channel = grpc.insecure_channel(f"localhost:{server.port}")
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def post(server, path, document, headers=None):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    url = f"http://localhost:{server.rest_port}{path}"
    try:
        sent = urllib.request.Request(url, body, headers or {})
        with urllib.request.urlopen(sent, timeout=PATIENCE) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.01)
