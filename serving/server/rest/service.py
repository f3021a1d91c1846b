"""REST API of the server: predict, classify, regress, status, metadata and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import threading
import time
import urllib.parse
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

from vatt_tf.serving.server.models.options import ServerOptions
from vatt_tf.serving.server.models.status import (
    HTTP_STATUS,
    Code,
    ServingError,
    from_exception,
    invalid,
)
from vatt_tf.serving.server.models.tls import server_context
from vatt_tf.serving.server.requests.handlers import REST, Handlers
from vatt_tf.serving.server.rest import examples as rest_examples
from vatt_tf.serving.server.rest import values as rest_json
from vatt_tf.serving.server.rest.bodies import Bodies, unpack
from vatt_tf.serving.server.rest.connections import Connections

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"{_MODEL}:(?P<method>classify|regress|predict)")
_GET = re.compile(rf"{_MODEL}(?P<metadata>/metadata)?")
_API = re.compile(r"/v1/.*", re.IGNORECASE)
_NOT_FOUND_PAGE = "<html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n"

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Bodies above this size become tensors one after another: as JSON they take many times their size.
_LARGE_BODY = 2**20
# A body that is refused is read and dropped for so long, in seconds, that its client gets to know.
_LINGER_SECONDS = 5.0
_HANDSHAKE_SECONDS = 5.0
_DIGITS = 20  # more than a version number has


class _Log(logging.LoggerAdapter):
    """The HTTP library's messages: a line each, one a second at most."""

    _next = 0.0

    def process(self, message: Any, details: Any) -> tuple[Any, Any]:
        error = details.pop("exc_info", None)
        words = " ".join(str(error).split())[:200].replace("%", "%%")
        return f"{message}: {words}" if isinstance(error, Exception) else message, details

    def log(self, level: int, msg: object, *args: Any, **details: Any) -> None:
        if level >= logging.WARNING and time.monotonic() >= self._next:
            self._next = time.monotonic() + 1.0
            super().log(level, msg, *args, **details)


_log: Any = _Log(logging.getLogger(__name__), {})


class RestServer:
    """HTTP server: listens in one thread and handles calls in others.

    Attributes:
        port: The port it listens on.
    """

    def __init__(
        self, handlers: Handlers, options: ServerOptions, max_connections: int, *, grace: float
    ) -> None:
        """Starts to listen.

        Args:
            handlers: Answer the calls.
            options: Address, limits, encryption.
            max_connections: Connections at a time.
            grace: Seconds that calls under way are given when the server stops.

        Raises:
            OSError: If the port is in use.
        """
        self._grace = grace
        self._timeout = options.rest_api_timeout_in_ms / 1000
        self._api = _RestApi(handlers, options.max_rest_body_bytes)
        self._bodies = Bodies(options.max_rest_body_bytes)
        self._metrics_path = options.metrics_path
        self._render_metrics = handlers.metrics.render
        self._pool = futures.ThreadPoolExecutor(options.rest_api_num_threads, "rest")
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _, context: _log.error("%s", context["message"]))
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)
        self._thread.start()
        try:
            self.port = self._call(self._listen(options, max_connections))
        except OSError:
            self._end()
            raise

    def stop(self) -> None:
        """Refuses new calls, waits for running ones, then ends."""
        self._call(self._stop())
        self._end()

    def _end(self) -> None:
        self._pool.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self, options: ServerOptions, max_connections: int) -> int:
        self._http = web.Server(
            self._answer,
            access_log=None,
            logger=_log,
            auto_decompress=False,  # it would unpack any amount, in the thread of all requests
            lingering_time=_LINGER_SECONDS,
        )
        self._connections = Connections(
            self._http, max_connections, options.connection_idle_seconds
        )
        tls = None if options.tls is None else server_context(options.tls)
        self._listener = await self._loop.create_server(
            self._connections,
            options.host,
            options.rest_port,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else _HANDSHAKE_SECONDS,
        )
        self._watch = self._loop.create_task(self._connections.watch())
        return self._listener.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._listener.close()
        self._watch.cancel()
        self._http.pre_shutdown()
        await self._http.shutdown(self._grace)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        try:
            return await self._reply(request)
        except TimeoutError:
            failure = ServingError(Code.DEADLINE_EXCEEDED, "the body of the request is late")
        except ServingError as error:
            failure = error
        finally:
            self._connections.wait(request.transport)
        return _json_response(HTTP_STATUS[failure.code], _error_text(failure))

    async def _reply(self, request: web.BaseRequest) -> web.Response:
        path = request.raw_path
        if path == self._metrics_path and request.method == "GET":
            return web.Response(
                body=self._render_metrics().encode(), headers={"Content-Type": _METRICS_TYPE}
            )
        is_metrics = path.partition("?")[0] == self._metrics_path
        if not _API.fullmatch(path) and not is_metrics:
            return web.Response(status=404, text=_NOT_FOUND_PAGE, content_type="text/html")
        match = _find(request.method, path)  # first: a body for nothing is not read
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        encoding = request.headers.get("Content-Encoding", "")
        end = self._loop.time() + self._timeout
        async with asyncio.timeout_at(end) as reading, self._bodies.of(request) as body:
            reading.reschedule(None)
            self._connections.work(request.transport)
            # In a thread: parsing a large body and running the model would block the event loop.
            status, text = await self._loop.run_in_executor(
                self._pool, self._api.answer, match, body, encoding, end - self._loop.time()
            )
        return _json_response(status, text)


def _json_response(status: int, text: str) -> web.Response:
    # Without a charset, as TensorFlow Serving.
    headers = {"Content-Type": "application/json"}
    return web.Response(status=status, body=text.encode(), headers=headers)


def _error_text(failure: ServingError) -> str:
    return json.dumps({"error": failure.message}) + "\n"


def _find(method: str, path: str) -> re.Match[str]:
    """Match of a path, of which the query string is a part, as in TensorFlow Serving."""
    pattern = {"GET": _GET, "POST": _POST}.get(method)
    match = None if pattern is None else pattern.fullmatch(path)
    if match is None:
        invalid(f"Malformed request: {method} {path}")
    return match


class _RestApi:
    """Path and body -> HTTP status and JSON text."""

    def __init__(self, handlers: Handlers, max_body_bytes: int) -> None:
        self._handlers = handlers
        self._max_body_bytes = max_body_bytes
        self._large = threading.Lock()

    def answer(
        self, match: re.Match[str], body: bytes, encoding: str, timeout: float
    ) -> tuple[int, str]:
        """Handles a call; never raises."""
        try:
            return 200, json.dumps(self._dispatch(match, body, encoding, timeout)) + "\n"
        except UnicodeError as error:
            failure = ServingError(Code.INVALID_ARGUMENT, f"JSON Parse error: {error}")
        except Exception as error:  # No exception of a request may end the server.
            failure = from_exception(error)
        return HTTP_STATUS[failure.code], _error_text(failure)

    def _dispatch(
        self, match: re.Match[str], body: bytes, encoding: str, timeout: float
    ) -> dict[str, Any]:
        spec = _model_spec(match)
        method = match.groupdict().get("method")
        if method is None:
            return self._metadata(spec) if match["metadata"] else self._status(spec)
        body = unpack(body, encoding, self._max_body_bytes)
        handlers = self._handlers
        if method == "predict":
            request = predict_pb2.PredictRequest(model_spec=spec)
            with self._reading(body):
                rows = rest_json.fill_predict_request(
                    request, rest_json.parse(body), lambda name: handlers.input_infos(spec, name)
                )
            return rest_json.predictions(handlers.predict(request, timeout, REST), rows)
        if method == "classify":
            request = classification_pb2.ClassificationRequest(model_spec=spec)
            with self._reading(body):
                rest_examples.fill_request(request, rest_json.parse(body))
            return rest_examples.classifications(handlers.classify(request, timeout, REST))
        request = regression_pb2.RegressionRequest(model_spec=spec)
        with self._reading(body):
            rest_examples.fill_request(request, rest_json.parse(body))
        return rest_examples.regressions(handlers.regress(request, timeout, REST))

    def _reading(self, body: bytes) -> contextlib.AbstractContextManager[Any]:
        return self._large if len(body) > _LARGE_BODY else contextlib.nullcontext()

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
        if len(match["version"]) > _DIGITS or int(match["version"]) >= 2**63:
            invalid(f"Failed to convert version: {match['version'][:64]} to numeric.")
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
