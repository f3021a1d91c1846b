"""gRPC API of the server: PredictionService, ModelService and health.

Every call has its own thread. An event loop for the calls that wait for a batch has the same
throughput on two cores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from vatt_tf.serving.server.models.status import Code, ServingError, from_exception
from vatt_tf.serving.server.requests.handlers import Handlers

_HEALTH_SERVICES = ("", "PredictionService", "ModelService")
# Largest messages of gRPC; the limit of replies is the client's choice.
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_send_message_length", -1),
    # Without SO_REUSEPORT: two servers on one port would share its requests at random.
    ("grpc.so_reuseport", 0),
)
# A call without a deadline has until the end of gRPC's clock, which no lock can wait for.
_LONGEST_DEADLINE = 365 * 86400.0  # seconds
# Further threads, which refuse calls while all others are busy.
_REFUSING_THREADS = 2
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

    def __init__(
        self, handlers: Handlers, address: str, *, max_threads: int, health_service: bool
    ) -> None:
        """Starts to listen.

        Args:
            handlers: Answer the calls.
            address: ``host:port``; port 0 takes a free one.
            max_threads: Calls answered at a time.
            health_service: Also answer grpc.health.v1.

        Raises:
            OSError: If the address is in use.
        """
        self._slots = threading.Semaphore(max_threads)
        pool = futures.ThreadPoolExecutor(max_threads + _REFUSING_THREADS, "grpc")
        self._server = grpc.server(pool, options=_CHANNEL_OPTIONS)
        for service, table in _SERVICES.items():
            methods = {
                name: self._handler(request, self._method(getattr(handlers, answer)))
                for name, (request, answer) in table.items()
            }
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, methods),)
            )
        self._health = _Health() if health_service else None
        if self._health is not None:
            for service in _HEALTH_SERVICES:
                self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        self._server.start()

    def stop(self, grace: float) -> None:
        """Refuses new calls, waits up to ``grace`` seconds for running ones, then ends."""
        if self._health is not None:
            self._health.enter_graceful_shutdown()
        self._server.stop(grace).wait()

    @staticmethod
    def _handler(request: type, call: Callable) -> grpc.RpcMethodHandler:
        def parse(content: bytes) -> Any:
            # An invalid message gives an error reply, not a traceback in the log.
            try:
                return request.FromString(content)  # type: ignore[attr-defined]
            except DecodeError:
                return None

        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=parse, response_serializer=lambda r: r.SerializeToString()
        )

    def _method(self, answer: Answer) -> Callable[[Any, Any], Any]:
        """Wraps a method of :class:`Handlers` as gRPC method."""

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            if not self._slots.acquire(blocking=False):
                failure = _EXHAUSTED
            else:
                try:
                    return answer(_parsed(request), _seconds_left(context))
                except Exception as error:  # No exception of a request may end the server.
                    failure = from_exception(error)
                finally:
                    self._slots.release()
            return context.abort(failure.code, failure.wire_message)

        return call


def _seconds_left(context: grpc.ServicerContext) -> float | None:
    """Time to the deadline of a call, or None if it has none."""
    seconds = context.time_remaining()
    return None if seconds is None or seconds > _LONGEST_DEADLINE else seconds


def _parsed(request: Any) -> Any:
    if request is None:
        raise ServingError(Code.INTERNAL, "Exception deserializing request!")
    return request


class _Health(health.HealthServicer):
    """Health service that replies to unknown names as TensorFlow Serving does."""

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.service not in _HEALTH_SERVICES:
            context.abort(Code.NOT_FOUND, "service name unknown")
        return super().Check(request, context)
