"""Second client in its own process: sends good requests and records their latencies.

Started by :mod:`vatt_tf.serving.fuzz`. The request comes serialised from a file, so that neither
TensorFlow nor its messages are loaded. It prints "ready" after the first answer, and all answers
when standard input ends.
"""

from __future__ import annotations

import json
import pathlib
import sys
import threading
import time

import grpc

from vatt_tf import cli

PREDICT = "/tensorflow.serving.PredictionService/Predict"
# Seconds between two requests: a light client, the load comes from elsewhere.
PAUSE = 0.02


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
