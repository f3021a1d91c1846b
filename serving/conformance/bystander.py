"""Second client in its own process: sends good requests and records their latencies.

Fuzzing and benchmarks run it beside others. The request comes serialised from a file, so that
neither TensorFlow nor its messages are loaded. It prints "ready" after the first answer, and all
answers when standard input ends.
"""

from __future__ import annotations

import collections
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import grpc

from vatt_tf import cli
from vatt_tf.errors import UserError

PREDICT = "/tensorflow.serving.PredictionService/Predict"
# Seconds between two requests: a light client, the load comes from elsewhere.
PAUSE = 0.02


class Bystander:
    """Second client; ``latencies`` splits its replies by the times of the phases."""

    def __init__(self, process: subprocess.Popen):
        self._process = process
        self.answers: list[tuple[float, float, str]] = []

    def wait_until_ready(self) -> None:
        """Waits for the first answer, so that no phase counts the start of the process."""
        if self._process.stdout is None or self._process.stdout.readline() != "ready\n":
            raise UserError("the second client ended at its start; its messages are above")

    def finish(self) -> None:
        """Ends the client and fetches its replies."""
        printed, _ = self._process.communicate()
        self.answers = [tuple(answer) for answer in json.loads(printed)]

    def latencies(self, start: float, end: float) -> list[float]:
        """Seconds of the good requests that began between two times."""
        return sorted(seconds for at, seconds, _ in self.answers if start <= at < end)

    def failures(self) -> dict[str, int]:
        """Codes of the good requests that failed, with their number."""
        return dict(collections.Counter(code for *_, code in self.answers if code != "OK"))


@contextlib.contextmanager
def running(target: str, request: bytes) -> Iterator[Bystander]:
    """Runs the client; it sends ``request`` to ``target``."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "request"
        path.write_bytes(request)
        module = "vatt_tf.serving.conformance.bystander"
        command = [sys.executable, "-m", module, f"--server={target}", f"--request={path}"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield Bystander(process)
        finally:
            process.kill()
            process.wait()


def main(argv: list[str] | None = None) -> int:
    """Prints a JSON list of [start, seconds, code]; a start is a time.monotonic()."""
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--request", required=True, type=pathlib.Path)
    parser.add_argument("--timeout", type=float, default=30.0)
    args = parser.parse_args(argv)
    request = args.request.read_bytes()
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    answers = []
    with grpc.insecure_channel(args.server) as channel:
        predict = channel.unary_unary(PREDICT)
        while not stop.wait(PAUSE):
            start = time.monotonic()
            try:
                predict(request, timeout=args.timeout)
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
            answers.append([start, time.monotonic() - start, code])
            if len(answers) == 1:
                print("ready", flush=True)
    json.dump(answers, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
