"""The gRPC side of the server: PredictionService, ModelService and health."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from vatt_tf.serving.handlers import Handlers
from vatt_tf.serving.status import Code, from_exception

_HEALTH_SERVICES = ("", "PredictionService", "ModelService")
# A server takes messages as large as gRPC can carry; what a client takes is the client's choice.
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_send_message_length", -1),
    # Two servers on one port would share its requests at random.
    ("grpc.so_reuseport", 0),
)
# Threads that only refuse calls when all others are busy.
_REFUSING_THREADS = 2


class GrpcServer:
    """Listens, answers, and stops in an orderly way.

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
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _servicer(
                prediction_service_pb2_grpc.PredictionServiceServicer,
                Predict=self._method(handlers.predict),
                Classify=self._method(handlers.classify),
                Regress=self._method(handlers.regress),
                MultiInference=self._method(handlers.multi_inference),
                GetModelMetadata=self._method(handlers.model_metadata),
            ),
            self._server,
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            _servicer(
                model_service_pb2_grpc.ModelServiceServicer,
                GetModelStatus=self._method(handlers.model_status),
                HandleReloadConfigRequest=self._method(handlers.reload_config),
            ),
            self._server,
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
        """Takes no more calls, waits up to ``grace`` seconds for those under way, then ends."""
        if self._health is not None:
            self._health.enter_graceful_shutdown()
        self._server.stop(grace).wait()

    def _method(self, answer: Callable[[Any, float | None], Any]) -> Callable[[Any, Any], Any]:
        """Makes a gRPC method of a method of :class:`Handlers`."""

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            if not self._slots.acquire(blocking=False):
                context.abort(Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
            try:
                return answer(request, context.time_remaining())
            except Exception as error:  # A request must never take the server down.
                failure = from_exception(error)
                context.abort(failure.code, failure.wire_message)
            finally:
                self._slots.release()

        return call


class _Health(health.HealthServicer):
    """Health service with the answer of a model server for a name that it does not know."""

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.service not in _HEALTH_SERVICES:
            context.abort(Code.NOT_FOUND, "service name unknown")
        return super().Check(request, context)


def _servicer(base: type, **methods: Callable) -> Any:
    """An object with these methods; all others answer UNIMPLEMENTED."""
    servicer = base()
    for name, method in methods.items():
        setattr(servicer, name, method)
    return servicer
