"""REST API of the server: predict, classify, regress, status, metadata and metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import urllib.parse
from collections.abc import Callable
from concurrent import futures
from typing import Any

from aiohttp import web
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from vatt_tf.serving.server.models.status import HTTP_STATUS, from_exception, invalid
from vatt_tf.serving.server.requests.handlers import REST, Handlers
from vatt_tf.serving.server.rest import examples as rest_examples
from vatt_tf.serving.server.rest import values as rest_json

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"{_MODEL}:(?P<method>classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(rf"{_MODEL}(?P<metadata>/metadata)?", re.IGNORECASE)
_API = re.compile(r"/v1/.*", re.IGNORECASE)
_NOT_FOUND_PAGE = "<html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n"

_MAX_BODY_BYTES = 2**31 - 1
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

logger = logging.getLogger(__name__)


class RestServer:
    """HTTP server: listens in one thread and handles calls in others.

    Attributes:
        port: The port it listens on.
    """

    def __init__(
        self,
        handlers: Handlers,
        host: str,
        port: int,
        *,
        num_threads: int,
        timeout: float,
        grace: float,
        metrics_path: str | None,
    ) -> None:
        """Starts to listen.

        Args:
            handlers: Answer the calls.
            host: Address.
            port: Port; 0 takes a free one.
            num_threads: Calls answered at a time.
            timeout: Seconds that a call may take.
            grace: Seconds that calls under way are given when the server stops.
            metrics_path: Path of the metrics; None: none.

        Raises:
            OSError: If the port is in use.
        """
        self._grace = grace
        self._api = _RestApi(handlers, timeout)
        self._metrics_path = metrics_path
        self._render_metrics = handlers.metrics.render
        self._pool = futures.ThreadPoolExecutor(num_threads, "rest")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)
        self._thread.start()
        try:
            self._runner, self.port = self._call(self._listen(host, port))
        except OSError:
            self._end()
            raise

    def stop(self) -> None:
        """Refuses new calls, waits for running ones, then ends."""
        self._call(self._runner.cleanup())
        self._end()

    def _end(self) -> None:
        self._pool.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self, host: str, port: int) -> tuple[web.AppRunner, int]:
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=self._grace)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        return runner, runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.raw_path.partition("?")[0]
        if path == self._metrics_path and request.method == "GET":
            return web.Response(
                body=self._render_metrics().encode(), headers={"Content-Type": _METRICS_TYPE}
            )
        if not _API.fullmatch(path):
            return web.Response(status=404, text=_NOT_FOUND_PAGE, content_type="text/html")
        body = await request.read()
        # In a thread: parsing a large body and running the model would block the event loop.
        status, text = await asyncio.get_running_loop().run_in_executor(
            self._pool, self._api.answer, request.method, path, body
        )
        return web.Response(status=status, text=text, content_type="application/json")


class _RestApi:
    """Method, path and body -> HTTP status and JSON text."""

    def __init__(self, handlers: Handlers, timeout: float) -> None:
        self._handlers = handlers
        self._timeout = timeout

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        """Handles a call; never raises."""
        try:
            return 200, json.dumps(self._dispatch(method, path, body)) + "\n"
        except Exception as error:  # No exception of a request may end the server.
            failure = from_exception(error)
            return HTTP_STATUS[failure.code], json.dumps({"error": failure.message}) + "\n"

    def _dispatch(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        match = {"GET": _GET, "POST": _POST}.get(method, _GET).fullmatch(path)
        if match is None or method not in ("GET", "POST"):
            invalid(f"Malformed request: {method} {path}")
        spec = _model_spec(match)
        if method == "GET":
            return self._metadata(spec) if match["metadata"] else self._status(spec)
        answers: dict[str, Callable[[model_pb2.ModelSpec, dict], dict]] = {
            "predict": self._predict,
            "classify": self._classify,
            "regress": self._regress,
        }
        return answers[match["method"].lower()](spec, rest_json.parse(body))

    def _predict(self, spec: model_pb2.ModelSpec, document: dict[str, Any]) -> dict[str, Any]:
        request = predict_pb2.PredictRequest(model_spec=spec)
        rows = rest_json.fill_predict_request(
            request, document, lambda name: self._handlers.input_infos(spec, name)
        )
        response = self._handlers.predict(request, self._timeout, REST)
        return rest_json.predictions(response, rows)

    def _classify(self, spec: model_pb2.ModelSpec, document: dict[str, Any]) -> dict[str, Any]:
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        rest_examples.fill_request(request, document)
        return rest_examples.classifications(self._handlers.classify(request, self._timeout, REST))

    def _regress(self, spec: model_pb2.ModelSpec, document: dict[str, Any]) -> dict[str, Any]:
        request = regression_pb2.RegressionRequest(model_spec=spec)
        rest_examples.fill_request(request, document)
        return rest_examples.regressions(self._handlers.regress(request, self._timeout, REST))

    def _status(self, spec: model_pb2.ModelSpec) -> dict[str, Any]:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        response = self._handlers.model_status(request)
        return {
            "model_version_status": [
                {
                    "version": str(entry.version),
                    "state": type(entry).State.Name(entry.state),
                    "status": {
                        "error_code": _code_name(entry.status),
                        "error_message": entry.status.error_message,
                    },
                }
                for entry in response.model_version_status
            ]
        }

    def _metadata(self, spec: model_pb2.ModelSpec) -> dict[str, Any]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        response = self._handlers.model_metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return {
            "model_spec": _to_dict(response.model_spec),
            "metadata": {"signature_def": _to_dict(signatures)},
        }


def _model_spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(match["name"]))
    if match["version"]:
        if int(match["version"]) >= 2**63:
            invalid(f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = int(match["version"])
    elif match["label"]:
        spec.version_label = urllib.parse.unquote(match["label"])
    return spec


def _code_name(status: Any) -> str:
    field = status.DESCRIPTOR.fields_by_name["error_code"]
    return field.enum_type.values_by_number[status.error_code].name


def _to_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
