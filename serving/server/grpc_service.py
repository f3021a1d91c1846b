"""gRPC API of the server: PredictionService, ModelService and health.

Every call has its own thread. An event loop takes about a fifth more time for a call without work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from vatt_tf.serving.server.models.options import ServerOptions, TlsOptions
from vatt_tf.serving.server.models.status import (
    CLIENT_WAITS,
    LOOK_SECONDS,
    Code,
    ServingError,
    from_exception,
)
from vatt_tf.serving.server.requests.handlers import Handlers

_HEALTH_SERVICES = ("", "PredictionService", "ModelService")
# Most seconds that a connection has for its first bytes, or its TLS handshake.
_HANDSHAKE_SECONDS = 5.0
# Calls whose message may be under way at a time: a thread waits for each. When half of them are,
# a call has less time.
_MOST_ARRIVING = 512
_CROWDED_SECONDS = 0.5
# Further threads: those that wait after a reload of the configuration, and for what is refused.
_OTHER_THREADS = 48
_MOST_WATCHERS = 16
_EXHAUSTED = ServingError(Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")

# Service -> method -> (its request, the method of Handlers).
_SERVICES: dict[str, dict[str, tuple[type, str]]] = {
    "tensorflow.serving.PredictionService": {
        "Predict": (predict_pb2.PredictRequest, "predict"),
        "Classify": (classification_pb2.ClassificationRequest, "classify"),
        "Regress": (regression_pb2.RegressionRequest, "regress"),
        "MultiInference": (inference_pb2.MultiInferenceRequest, "multi_inference"),
        "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, "model_metadata"),
    },
    "tensorflow.serving.ModelService": {
        "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, "model_status"),
        "HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest, "reload_config"),
    },
}

# From a request and the seconds left to the reply.
Answer = Callable[[Any, float | None], Any]


class GrpcServer:
    """gRPC server with graceful shutdown.

    Attributes:
        port: The port it listens on.
    """

    def __init__(self, handlers: Handlers, options: ServerOptions, max_connections: int) -> None:
        """Starts to listen.

        Args:
            handlers: Answer the calls.
            options: Address, limits, encryption.
            max_connections: Connections at a time.

        Raises:
            OSError: If the address is in use.
        """
        self._slots = threading.Semaphore(options.grpc_max_threads)
        self._longest = options.max_call_seconds
        idle = options.connection_idle_seconds
        self._arriving = _Arriving(idle)
        threads = options.grpc_max_threads + _MOST_ARRIVING + _OTHER_THREADS
        self._server = grpc.server(
            futures.ThreadPoolExecutor(threads, "grpc"),
            options=(
                ("grpc.max_receive_message_length", options.max_request_bytes),
                ("grpc.max_send_message_length", -1),  # the limit of replies is the client's choice
                # Without SO_REUSEPORT: two servers on one port would share its requests at random.
                ("grpc.so_reuseport", 0),
                ("grpc.max_allowed_incoming_connections", max_connections),
                ("grpc.max_connection_idle_ms", int(idle * 1000)),
                ("grpc.server_handshake_timeout_ms", int(min(_HANDSHAKE_SECONDS, idle) * 1000)),
            ),
        )
        for service, table in _SERVICES.items():
            methods = {
                name: self._unary(request, getattr(handlers, answer), answer != "reload_config")
                for name, (request, answer) in table.items()
            }
            self._add(service, **methods)
        self._health = _Health()
        if options.enable_grpc_healthcheck_service:
            self._add(
                "grpc.health.v1.Health",
                Check=self._unary(health_pb2.HealthCheckRequest, self._health.check, False),
                Watch=grpc.stream_stream_rpc_method_handler(
                    self._watch_health, response_serializer=_serialize
                ),
            )
        host = f"[{options.host}]" if ":" in options.host else options.host
        address = f"{host}:{options.port}"
        try:
            if options.tls is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, _credentials(options.tls))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        self._server.start()

    def stop(self, grace: float) -> None:
        """Refuses new calls, waits up to ``grace`` seconds for running ones, then ends."""
        self._health.ended.set()
        self._server.stop(grace).wait()
        self._arriving.stop()

    def _add(self, service: str, **methods: grpc.RpcMethodHandler) -> None:
        handler = grpc.method_handlers_generic_handler(service, methods)
        self._server.add_generic_rpc_handlers((handler,))

    def _unary(self, message: type, answer: Answer, takes_slot: bool) -> grpc.RpcMethodHandler:
        """Makes a gRPC method of one that answers a message.

        On the wire a stream of one message is a unary call. It starts before the message is there,
        so that a client that announces calls and sends nothing can be sent away.
        """

        def call(messages: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            content = self._arriving.wait_for(messages, context)
            if takes_slot and not self._slots.acquire(blocking=False):
                failure = _EXHAUSTED
            else:
                try:
                    CLIENT_WAITS.set(context.is_active)
                    left = context.time_remaining()
                    seconds = self._longest if left is None else min(left, self._longest)
                    return answer(_parse(message, content), seconds)
                except Exception as error:  # No exception of a request may end the server.
                    failure = from_exception(error)
                finally:
                    if takes_slot:
                        self._slots.release()
            return context.abort(failure.code, failure.wire_message)

        return grpc.stream_unary_rpc_method_handler(call, response_serializer=_serialize)

    def _watch_health(
        self, messages: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        content = self._arriving.wait_for(messages, context)
        try:
            service = _parse(health_pb2.HealthCheckRequest, content).service
            yield from self._health.watch(service, context.is_active)
        except ServingError as error:
            context.abort(error.code, error.wire_message)


class _Arriving:
    """Calls whose message is not there yet; those that wait too long are cancelled."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._calls: dict[grpc.ServicerContext, float] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="grpc-arriving", daemon=True).start()

    def wait_for(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """Returns the message of a call, or aborts the call."""
        with self._lock:
            self._calls[context] = time.monotonic()
        try:
            return next(messages)
        except (StopIteration, grpc.RpcError):
            return context.abort(Code.CANCELLED, "the message of the call did not come")
        finally:
            with self._lock:
                del self._calls[context]

    def stop(self) -> None:
        """Ends the thread that looks for calls that wait too long."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(_CROWDED_SECONDS / 2):
            with self._lock:
                crowded = len(self._calls) > _MOST_ARRIVING // 2
                limit = time.monotonic() - (_CROWDED_SECONDS if crowded else self._seconds)
                late = [context for context, since in self._calls.items() if since < limit]
            for context in late:
                context.cancel()


def _parse(message: type, content: bytes) -> Any:
    try:
        return message.FromString(content)  # type: ignore[attr-defined]
    except DecodeError as error:
        raise ServingError(Code.INTERNAL, "Exception deserializing request!") from error


def _credentials(tls: TlsOptions) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)], tls.client_ca, require_client_auth=tls.client_verify
    )


class _Health:
    """grpc.health.v1: all services serve, until the server ends.

    The library's own service waits in a thread for a message that may never come.
    """

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._watchers = threading.Semaphore(_MOST_WATCHERS)

    def check(
        self, request: health_pb2.HealthCheckRequest, timeout: float | None
    ) -> health_pb2.HealthCheckResponse:
        """Status of a service."""
        del timeout  # Nothing is waited for.
        if request.service not in _HEALTH_SERVICES:
            raise ServingError(Code.NOT_FOUND, "service name unknown")
        return self._status(request.service)

    def watch(
        self, service: str, client_waits: Callable[[], bool]
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        """Status of a service now, and when the server ends."""
        if not self._watchers.acquire(blocking=False):
            raise ServingError(Code.RESOURCE_EXHAUSTED, "too many clients watch the health")
        try:
            yield self._status(service)
            while client_waits() and not self.ended.wait(LOOK_SECONDS):
                pass
            yield self._status(service)
        finally:
            self._watchers.release()

    def _status(self, service: str) -> health_pb2.HealthCheckResponse:
        states = health_pb2.HealthCheckResponse
        if service not in _HEALTH_SERVICES:
            return states(status=states.SERVICE_UNKNOWN)
        return states(status=states.NOT_SERVING if self.ended.is_set() else states.SERVING)


def _serialize(message: Any) -> bytes:
    return message.SerializeToString()
