"""Hostile clients beside a good one: short requests that cost much, clients that hold on.

The good client sends a text over and over, first alone, then beside the others. None of its
requests may fail; what the server takes in memory is given back.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import pathlib
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import model_management_pb2

from vatt_tf.atomic import write_json
from vatt_tf.serving.benchmarks import tools
from vatt_tf.serving.client.protocol import PREDICT
from vatt_tf.serving.conformance import bystander
from vatt_tf.serving.server.models import model_config

RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
# More than the usual limit of open files.
IDLE_CONNECTIONS = 1100
NAME_BYTES = 5_000_000
UNPACKED_BYTES = 10**9
SCANS = 150
# Seconds until allocators have given back what they will, and connections are closed.
SETTLE_SECONDS = 30.0


def run(models: str, out: pathlib.Path, *, seconds: float) -> dict[str, Any]:
    """Runs the hostile clients.

    Args:
        models: Export folder with a text and a video model.
        out: Folder for hostile.json.
        seconds: Length of each of the two phases.

    Returns:
        Latencies of the good client alone and beside them, its failures, memory before, at the
        peak and after, and how many hostile requests were answered with which status.
    """
    tools.version_folder(models, "text")
    good = tools.predict_request("text", "text", tools.texts(1)).SerializeToString()
    statuses: dict[str, dict[str, int]] = {}
    peak = [0.0]
    with (
        tools.ServerProcess(models, "--rest_port=0") as server,
        bystander.running(server.address, good) as client,
        _watching(server, peak),
    ):
        clients = _clients(server, models)
        client.wait_until_ready()
        time.sleep(min(seconds, 5.0))  # warms up
        times = [time.monotonic()]
        time.sleep(seconds)
        times.append(time.monotonic())
        before = server.rss_mb()
        with _hostile(clients, statuses):
            time.sleep(seconds)
            times.append(time.monotonic())
        time.sleep(min(SETTLE_SECONDS, seconds))
        after = server.rss_mb()
        client.finish()
    figures: dict[str, Any] = {}
    for name, start, end in zip(("alone", "beside"), times[:-1], times[1:], strict=True):
        latencies = client.latencies(start, end)
        figures[name] = {
            "requests": len(latencies),
            "p50_ms": round(tools.percentile(latencies, 50) * 1e3, 3),
            "p99_ms": round(tools.percentile(latencies, 99) * 1e3, 3),
        }
    figures["failures"] = client.failures()
    figures["p99_ratio"] = round(figures["beside"]["p99_ms"] / figures["alone"]["p99_ms"], 2)
    figures["rss_mb"] = {"before": round(before), "peak": round(peak[0]), "after": round(after)}
    figures["hostile"] = statuses
    write_json(out / "hostile.json", figures)
    return figures


@contextlib.contextmanager
def _watching(server: tools.ServerProcess, peak: list[float]) -> Iterator[None]:
    """Keeps the largest memory of the server in ``peak``, in MB."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            peak[0] = max(peak[0], server.rss_mb())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _hostile(
    clients: dict[str, Callable[[], str]], statuses: dict[str, dict[str, int]]
) -> Iterator[None]:
    """All hostile clients at once, each over and over, until the block ends."""
    stop = threading.Event()

    def repeat(name: str, client: Callable[[], str]) -> None:
        counts = statuses.setdefault(name, {})
        while not stop.is_set():
            try:
                status = client()
            except OSError as error:
                status = type(error).__name__
            counts[status] = counts.get(status, 0) + 1

    threads = [threading.Thread(target=repeat, args=client) for client in clients.items()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _clients(server: tools.ServerProcess, models: str) -> dict[str, Callable[[], str]]:
    """Name -> sends one hostile request and returns the status of its answer."""
    channel = grpc.insecure_channel(server.address, options=tools.CHANNEL_OPTIONS)

    def status(call: Callable[[], Any]) -> str:
        try:
            call()
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    def ask(message: Any, timeout: float | None = None) -> str:
        content = message.SerializeToString()
        return status(lambda: channel.unary_unary(PREDICT)(content, timeout=timeout))

    empty = tools.predict_request("text", "text", tools.texts(1))
    tensor = empty.inputs["text"]
    del tensor.string_val[:]
    tensor.tensor_shape.dim[0].size = 400_000
    named = tools.predict_request("n" * NAME_BYTES, "text", tools.texts(1))
    scans = tools.predict_request("video", "frames_bytes", _scanned_frames())
    scans.model_spec.signature_name = "encoded"
    bomb = _bomb()
    served = {**model_config.find_models(models), "late": "/no/such/folder"}
    config = model_config.models_config(served)
    late = model_management_pb2.ReloadConfigRequest(config=config).SerializeToString()
    number = [0]

    def unknown_name() -> str:
        number[0] += 1
        named.model_spec.name = f"{number[0]}{'n' * NAME_BYTES}"
        return ask(named)

    def reload() -> str:
        calls = [channel.unary_unary(RELOAD).future(late) for _ in range(8)]
        time.sleep(1.0)
        for call in calls:
            call.cancel()
        return "cancelled"

    def no_message() -> str:
        stop = threading.Event()

        def nothing() -> Iterator[bytes]:
            stop.wait(3.0)
            yield from ()

        calls = [channel.stream_unary(PREDICT).future(nothing()) for _ in range(50)]
        codes = {status(call.result) for call in calls}
        stop.set()
        return " ".join(sorted(codes))

    return {
        "text without values": lambda: ask(empty),
        "name of 5 MB": unknown_name,
        "body that unpacks to 1 GB": lambda: _post(server.rest_address, "text:predict", bomb),
        "the same to no path": lambda: _post(server.rest_address, "text:nothing", bomb),
        "frames of 150 scans": lambda: ask(scans),
        "idle connections to gRPC": lambda: _idle(server.address),
        "idle connections to REST": lambda: _idle(server.rest_address),
        "calls without a message": no_message,
        "reloads that wait": reload,
    }


def _scanned_frames() -> np.ndarray:
    """A frame whose JPEG has hundreds of scans over 33 million pixels: strings [1, 1]."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (7680, 4320)).save(buffer, "JPEG", progressive=True, quality=1)
    encoded = buffer.getvalue()
    last = encoded[encoded.rindex(b"\xff\xda") : -2]
    frames = np.empty((1, 1), object)
    frames[0, 0] = encoded[:-2] + last * SCANS + encoded[-2:]
    return frames


def _bomb() -> bytes:
    """A gzip body of a megabyte that unpacks to a gigabyte."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9) as file:
        for _ in range(UNPACKED_BYTES // 10**6):
            file.write(bytes(10**6))
    return buffer.getvalue()


def _post(address: str, path: str, body: bytes) -> str:
    import http.client

    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("POST", f"/v1/models/{path}", body, {"Content-Encoding": "gzip"})
        return str(connection.getresponse().status)
    finally:
        connection.close()


def _idle(address: str) -> str:
    """Holds connections without a word for some seconds; returns "open"."""
    host, _, port = address.rpartition(":")
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with contextlib.ExitStack() as stack:
        for _ in range(min(IDLE_CONNECTIONS, (files - 200) // 2)):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
        time.sleep(3.0)
    return "open"
