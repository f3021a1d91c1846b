"""Warm-up file: requests that a server replays before a version becomes available.

A missing op or a wrong input name then fails the load, and the old version keeps serving, instead
of failing the first request.
"""

from __future__ import annotations

import pathlib

import tensorflow as tf

from vatt_tf.data.text.known_words import VOCABULARY
from vatt_tf.export import examples
from vatt_tf.export.servables import DESCRIBE, Servable

FOLDER, FILE = "assets.extra", "tf_serving_warmup_requests"


def write(servable: Servable, folder: pathlib.Path) -> pathlib.Path:
    """Writes one request per signature beside a SavedModel; returns the file."""
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = folder / FOLDER / FILE
    path.parent.mkdir()
    names = {
        signature: [part.input.name for part in parts.values()]
        for signature, parts in servable.signatures.items()
    }
    names[DESCRIBE] = ["query"]
    if servable.counts_tokens:
        names[VOCABULARY] = ["text"]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, sent in names.items():
            request = predict_pb2.PredictRequest()
            request.model_spec.name = servable.name
            request.model_spec.signature_name = signature
            for name in sent:
                value = examples.request(name, servable.clip, 1)
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())
    return path
