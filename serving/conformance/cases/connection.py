"""Connection of the cases to the server under test: gRPC, HTTP, and its models folder."""

from __future__ import annotations

import dataclasses
import http.client
import json
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

# Replies of any size; the size limit of 4 MiB has its own case.
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@dataclasses.dataclass(frozen=True)
class Reply:
    """Outcome of a gRPC call: OK with a response, or a code with a message."""

    code: grpc.StatusCode
    message: str
    response: Any


@dataclasses.dataclass(frozen=True)
class HttpReply:
    """Outcome of an HTTP request; ``json`` is None where the body is none."""

    status: int
    content_type: str
    text: str
    json: Any


def _reply(call: Callable[[], Any]) -> Reply:
    try:
        return Reply(grpc.StatusCode.OK, "", call())
    except grpc.FutureTimeoutError:
        late = "no reply to a call without a deadline"
        return Reply(grpc.StatusCode.DEADLINE_EXCEEDED, late, None)
    except grpc.RpcError as error:
        return Reply(error.code(), error.details() or "", None)


class Server:
    """Server under test, any implementation.

    Args:
        target: ``host:port`` of its gRPC service.
        rest: ``host:port`` of its REST service, if any.
        models: Folder written by :mod:`vatt_tf.serving.conformance.models` that it serves, if the
            suite may change it.
        batching: Whether it batches, with the ``batching.config`` of that folder.
        patience: Seconds for a call, or for a change of versions to take effect.
    """

    def __init__(
        self,
        target: str,
        *,
        rest: str | None = None,
        models: pathlib.Path | None = None,
        batching: bool = False,
        patience: float = 30.0,
    ):
        self.target = target
        self.rest_target = rest
        self.models = models
        self.patience = patience
        features = {"rest": rest is not None, "models": models is not None, "batching": batching}
        self.features = {name for name, has in features.items() if has}
        if not batching:
            self.features.add("no batching")
        self.channel = grpc.insecure_channel(target, options=UNLIMITED)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.channel.close()

    def call(self, method: Callable[..., Any], request: Any, timeout: float | None = None) -> Reply:
        """Calls a method of a stub; a refusal is a result, not an exception.

        Without a timeout a call that succeeds is made in both forms, with a deadline and without
        one; the reply is that of the second.
        """
        limit = self.patience if timeout is None else timeout
        reply = _reply(lambda: method(request, timeout=limit))
        if timeout is not None or reply.code is not grpc.StatusCode.OK:
            return reply
        call = method.future(request)  # type: ignore[attr-defined]
        again = _reply(lambda: call.result(limit))
        call.cancel()
        return again

    def predict(self, request: predict_pb2.PredictRequest, timeout: float | None = None) -> Reply:
        """PredictionService.Predict."""
        return self.call(self._prediction.Predict, request, timeout)

    def predict_later(self, request: predict_pb2.PredictRequest) -> Any:
        """The same without waiting; a future."""
        return self._prediction.Predict.future(request, timeout=self.patience)

    def classify(self, request: Any) -> Reply:
        """PredictionService.Classify."""
        return self.call(self._prediction.Classify, request)

    def regress(self, request: Any) -> Reply:
        """PredictionService.Regress."""
        return self.call(self._prediction.Regress, request)

    def multi_inference(self, request: Any) -> Reply:
        """PredictionService.MultiInference."""
        return self.call(self._prediction.MultiInference, request)

    def metadata(self, request: Any) -> Reply:
        """PredictionService.GetModelMetadata."""
        return self.call(self._prediction.GetModelMetadata, request)

    def status(self, request: get_model_status_pb2.GetModelStatusRequest) -> Reply:
        """ModelService.GetModelStatus."""
        return self.call(self._model.GetModelStatus, request)

    def reload(self, request: Any, timeout: float | None = None) -> Reply:
        """ModelService.HandleReloadConfigRequest."""
        return self.call(self._model.HandleReloadConfigRequest, request, timeout)

    def versions(self, model: str) -> list[Any]:
        """ModelVersionStatus of every version that the server lists; [] for an unknown model."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        reply = self.status(request)
        return [] if reply.response is None else list(reply.response.model_version_status)

    def states(self, model: str) -> dict[int, str]:
        """State of every listed version, in the order of the list, e.g. {2: "AVAILABLE"}."""
        names = get_model_status_pb2.ModelVersionStatus.State.Name
        return {item.version: names(item.state) for item in self.versions(model)}

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Polls until the result is true or ``patience`` ends; returns the last result."""
        end = time.monotonic() + self.patience
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def http(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> HttpReply:
        """An HTTP request; a body that is no text is sent as JSON."""
        content = body if body is None or isinstance(body, str) else json.dumps(body)
        connection = http.client.HTTPConnection(self.rest_target or "", timeout=self.patience)
        try:
            sent = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None
        return HttpReply(response.status, response.headers.get("Content-Type", ""), text, parsed)


def floats(*numbers: float) -> np.ndarray:
    """Returns a float32 vector."""
    return np.array(numbers, np.float32)


def predict_request(
    model: str = "half",
    inputs: Mapping[str, Any] | None = None,
    *,
    signature: str = "",
    version: int | None = None,
    label: str | None = None,
    outputs: Iterable[str] = (),
) -> predict_pb2.PredictRequest:
    """Returns a PredictRequest; the input is {"x": [1.0]} unless others are given."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for name, value in ({"x": floats(1)} if inputs is None else inputs).items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    request.output_filter.extend(outputs)
    return request


def values(response: predict_pb2.PredictResponse) -> dict[str, list[Any]]:
    """Returns the outputs of a PredictResponse as lists."""
    return {name: tf.make_ndarray(proto).tolist() for name, proto in response.outputs.items()}
