"""Helpers of the benchmarks: a server process, lightweight clients, statistics."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2

from vatt_tf.errors import UserError
from vatt_tf.serving.server.models import model_config
from vatt_tf.serving.server.requests import tensors

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # One connection per channel, also to the same server.
    ("grpc.use_local_subchannel_pool", 1),
)
_START_SECONDS = 300
_TEXTS = (
    "a red circle moves left",
    "two dogs play on the beach",
    "someone cuts an onion and talks about it",
    "a train passes a bridge in the rain",
)


class ServerProcess:
    """``python -m vatt_tf.serving`` on a free port; ends with the ``with`` block.

    Attributes:
        address: ``localhost:port`` of gRPC.
        rest_address: That of REST, where a flag asks for it.
        pid: Process id.
    """

    def __init__(self, models: str | os.PathLike, *flags: str) -> None:
        self._command = [sys.executable, "-m", "vatt_tf.serving", f"--models={models}"]
        self._command += ["--port=0", *flags]
        self._has_rest = any(flag.startswith("--rest_port") for flag in flags)

    def __enter__(self) -> ServerProcess:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self.pid = self._process.pid
        for line in self._process.stdout:
            if line.startswith("Running gRPC ModelServer at "):
                self.address = line.split(" at ")[1].split()[0]
                if not self._has_rest:
                    return self
            if line.startswith("Exporting HTTP/REST API at:"):
                self.rest_address = line.split(" at:")[1].split()[0]
                return self
        raise UserError(
            f"the server did not start (exit code {self._process.wait()}): try "
            f"{' '.join(self._command[1:])}"
        )

    def __exit__(self, *exc_info: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=_START_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def rss_mb(self) -> float:
        """Memory of the process in MB (10^6 bytes)."""
        fields = pathlib.Path(f"/proc/{self.pid}/statm").read_text("ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def version_folder(models: str, name: str) -> pathlib.Path:
    """Newest version of an exported model.

    Raises:
        UserError: If there is none.
    """
    versions = model_config.list_versions(os.path.join(models, name))
    if not versions:
        raise UserError(
            f"--models={models}: expected a model {name!r}, found none; write one with "
            "python -m vatt_tf.export"
        )
    return pathlib.Path(versions[max(versions)]).resolve()


def texts(count: int) -> np.ndarray:
    """Text queries: strings [count]."""
    result = np.empty(count, object)
    result[:] = [_TEXTS[index % len(_TEXTS)].encode() for index in range(count)]
    return result


def predict_request(model: str, alias: str, value: np.ndarray) -> predict_pb2.PredictRequest:
    """A Predict request with one input."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    tensors.fill_proto(request.inputs[alias], value, as_content=value.dtype != object)
    return request


@dataclasses.dataclass
class Calls:
    """Measurements of a group of clients: start and duration of each call in seconds, failures."""

    starts: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)

    def summary(self, wall: float) -> dict[str, float]:
        """Throughput in calls per second, and latencies in ms."""
        return {
            "calls": len(self.seconds),
            "failures": len(self.failures),
            "calls_per_second": round(len(self.seconds) / wall, 1),
            "p50_ms": round(percentile(self.seconds, 50) * 1e3, 3),
            "p99_ms": round(percentile(self.seconds, 99) * 1e3, 3),
        }


async def call_for(
    address: str,
    messages: Sequence[bytes],
    clients: int,
    running: Callable[[], bool],
    calls: Calls,
    deadlines: Sequence[float | None] = (60.0,),
) -> None:
    """Sends requests from several clients, each waiting for its answer, over and over.

    Args:
        address: Server.
        messages: The serialized Predict requests, in turns; answers are not parsed: on one machine
            the clients' work slows the server.
        clients: Number of clients, each with its own connection.
        running: Clients stop when it returns False.
        calls: Receives the measurements.
        deadlines: Seconds allowed to a call, in turns.
    """

    async def client(index: int) -> None:
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            predict = channel.unary_unary(PREDICT)
            for turn in itertools.count(index):
                if not running():
                    return
                message = messages[turn % len(messages)]
                # Each message with each deadline.
                deadline = deadlines[turn // len(messages) % len(deadlines)]
                started = time.perf_counter()
                try:
                    await predict(message, timeout=deadline)
                except grpc.aio.AioRpcError as error:
                    calls.failures.append(f"{error.code().name}: {error.details()}")
                    continue
                calls.starts.append(started)
                calls.seconds.append(time.perf_counter() - started)

    await asyncio.gather(*map(client, range(clients)))


def percentile(values: Sequence[float], q: float) -> float:
    """Percentile of values; nan without values."""
    return float(np.percentile(values, q)) if len(values) else float("nan")
