"""gRPC overhead without model work: the embedded server beside a plain synchronous gRPC server.

The plain server has as many threads, parses the Predict request and returns its tensors.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile
import time
from concurrent import futures
from typing import Any

import grpc
import numpy as np

from vatt_tf.atomic import write_json
from vatt_tf.serving.benchmarks import tools
from vatt_tf.serving.client.protocol import PREDICT

THREADS = 8
WARM_UP_CALLS = 100


def run(models: str, out: pathlib.Path, *, calls: int) -> dict[str, Any]:
    """Compares one call after the other, in turns to both servers.

    Args:
        models: Export folder; not read, the model halves a number.
        out: Folder for transport.json.
        calls: Calls to each.

    Returns:
        Percentiles of both, and the ratio of the medians.
    """
    from vatt_tf.serving.conformance.models import write_half

    del models
    message = tools.predict_request("half", "x", np.ones(1, np.float32)).SerializeToString()
    times: dict[str, list[float]] = {"embedded": [], "plain": []}
    with tempfile.TemporaryDirectory(prefix="vatt-transport-") as folder:
        write_half(pathlib.Path(folder) / "half" / "1", bias=1.0)
        with (
            tools.ServerProcess(folder, f"--grpc_max_threads={THREADS}") as server,
            _Plain() as plain,
        ):
            channels = [
                grpc.insecure_channel(address, options=tools.CHANNEL_OPTIONS)
                for address in (server.address, plain.address)
            ]
            methods = dict(zip(times, [one.unary_unary(PREDICT) for one in channels], strict=True))
            for turn in range(calls + WARM_UP_CALLS):
                for name, method in methods.items():
                    started = time.perf_counter()
                    method(message, timeout=60)
                    if turn >= WARM_UP_CALLS:
                        times[name].append(time.perf_counter() - started)
            for channel in channels:
                channel.close()
    figures: dict[str, Any] = {"calls": calls, "threads": THREADS}
    for name, seconds in times.items():
        for q in (50, 95):
            figures[f"{name}_p{q}_ms"] = round(tools.percentile(seconds, q) * 1e3, 3)
    figures["ratio_of_p50"] = round(figures["embedded_p50_ms"] / figures["plain_p50_ms"], 3)
    write_json(out / "transport.json", figures)
    return figures


class _Plain:
    """The plain server in a process of its own; ends with the ``with`` block."""

    def __enter__(self) -> _Plain:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = f"localhost:{self._process.stdout.readline().strip()}"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.communicate()


def _serve_plainly() -> None:
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Echo(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request: Any, context: Any) -> Any:
            response = predict_pb2.PredictResponse(model_spec=request.model_spec)
            response.outputs["y"].CopyFrom(request.inputs["x"])
            return response

    server = grpc.server(futures.ThreadPoolExecutor(THREADS))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Echo(), server)
    print(server.add_insecure_port("localhost:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    _serve_plainly()
