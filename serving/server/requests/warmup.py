"""Warm-up: the recorded requests of a version are replayed before it is announced."""

from __future__ import annotations

import os
from collections.abc import Callable

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from vatt_tf.serving.server.models.manager import LoadedModel
from vatt_tf.serving.server.models.status import Code, ServingError, from_exception, invalid
from vatt_tf.serving.server.requests import inference, predict

WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
MAX_RECORDS = 1000


def replay(model: LoadedModel, path: str) -> int:
    """Runs the warm-up requests of a version; the model of their model_spec is ignored.

    Args:
        model: The loaded version.
        path: Its folder; without a warm-up file nothing happens.

    Returns:
        Number of requests that were run.

    Raises:
        ServingError: If the file cannot be read, holds too many records, or a request fails.
    """
    file = os.path.join(path, WARMUP_FILE)
    if not os.path.exists(file):
        return 0
    count = 0
    try:
        for record in tf.data.TFRecordDataset(file):
            if count == MAX_RECORDS:
                invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}")
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            _run(model, log)
            count += 1
    except DecodeError as error:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"Failed to parse warmup record: record {count} at {file}"
        ) from error
    except tf.errors.OpError as error:
        raise from_exception(error) from error
    return count


def _run(model: LoadedModel, log: prediction_log_pb2.PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    run: dict[str, Callable] = {
        "predict_log": predict.predict,
        "classify_log": inference.classify,
        "regress_log": inference.regress,
        "multi_inference_log": inference.multi_inference,
    }
    if kind not in run:
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")
    run[kind](model, getattr(log, kind).request, None)
