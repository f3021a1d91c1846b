"""Protocol of the measuring processes, which run one at a time on request.

A process holds one variant (a precision, or the reference) and serves requests one at a time: a
line of JSON in, a line of JSON out. While one measures, the others wait, so that variants can be
timed alternately in one run and the peak memory of one does not mix with that of another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from vatt_tf.benchmarking.memory import peak_bytes, reset_peak, tensor_bytes
from vatt_tf.errors import UserError

# Measured function: runs once per call and returns further values to report.
Part = Callable[[], Mapping[str, Any] | None]

# Prefix of replies: libraries print to standard output too.
_ANSWER = "answer: "
# Shortest measurement in seconds: a faster part is repeated and its mean reported.
LEAST_SECONDS = 0.5
# A part that takes longer needs no second warm-up run.
_LONG_SECONDS = 60.0


class Subject:
    """A process that measures.

    Args:
        module: Module to run; it calls :func:`serve`.
        arguments: Its command line.
        python: The interpreter; None for this one.
        folder: The folder to run in, whose packages come first; None for this one.

    Raises:
        UserError: From :meth:`ask`, when the process fails; with its message.
    """

    def __init__(
        self,
        module: str,
        arguments: list[str],
        python: str | None = None,
        folder: str | None = None,
    ) -> None:
        self._name = module
        self._process = subprocess.Popen(
            [python or sys.executable, "-m", module, *arguments],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for the reply."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = next((x for x in self._process.stdout if x.startswith(_ANSWER)), "")
        except BrokenPipeError:
            answer = ""
        if not answer:
            code = self._process.wait()
            why = f"ended with {code}" + (" (out of memory?)" if code == -9 else "")
            raise UserError(f"{self._name} {why} during the request {request}")
        found = json.loads(answer.removeprefix(_ANSWER))
        if "error" in found:
            raise UserError(found["error"])
        return found

    def prepare(self, part: str) -> dict[str, Any]:
        """Builds a part and warms it up by one or two runs, so that it is compiled.

        Returns:
            ``wall_seconds`` that it took, and the number of ``runs``.
        """
        start = time.perf_counter()
        answer = self.ask(do="prepare", part=part)
        return {**answer, "wall_seconds": time.perf_counter() - start}

    def measure(self, part: str, least_seconds: float = LEAST_SECONDS) -> dict[str, Any]:
        """Measures one run of a part; returns the measurements and values of the part.

        ``seconds``, ``peak_bytes``, and ``passing_bytes``: how much larger than before the run
        all tensors were at its peak.
        """
        return self.ask(do="measure", part=part, least_seconds=least_seconds)


def serve(parts: Mapping[str, Callable[[], Part]], others: Mapping[str, Callable[..., Any]]) -> int:
    """Serves requests from standard input until it is closed.

    Args:
        parts: Functions that build what can be measured, by name.
        others: Functions for other requests, by name; they get the request's other entries and
            return what JSON can hold.

    Returns:
        The exit code.
    """
    ready: dict[str, Part] = {}
    for line in sys.stdin:
        request = json.loads(line)
        what = request.pop("do")
        try:
            if what == "prepare":
                name = request["part"]
                ready[name] = parts[name]()
                start = time.perf_counter()
                ready[name]()
                answer: Any = {"runs": 1}
                if time.perf_counter() - start < _LONG_SECONDS:
                    ready[name]()
                    answer = {"runs": 2}
            elif what == "measure":
                answer = _measure(ready[request["part"]], request["least_seconds"])
            else:
                answer = others[what](**request)
        except UserError as error:
            answer = {"error": str(error)}
        print(_ANSWER + json.dumps(answer), flush=True)
    return 0


def _measure(part: Part, least_seconds: float) -> dict[str, Any]:
    reset_peak()
    before = tensor_bytes()["current"]
    count, start = 0, time.perf_counter()
    while True:
        report = part()
        count += 1
        seconds = time.perf_counter() - start
        if seconds >= least_seconds:
            break
    return {
        **(report or {}),
        "seconds": seconds / count,
        "peak_bytes": peak_bytes(),
        "passing_bytes": tensor_bytes()["peak"] - before,
    }
