"""Runs commands of the package side by side, each on a processor of its own."""

from __future__ import annotations

import pathlib
import queue
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence


class Lanes:
    """Runs commands, at most one on each processor.

    Args:
        count: Processors.
    """

    def __init__(self, count: int) -> None:
        self._free: queue.Queue[int] = queue.Queue()
        for processor in range(count):
            self._free.put(processor)

    def run(self, module: str, arguments: Sequence[str], log: pathlib.Path) -> float:
        """Runs ``python -m vatt_tf.MODULE`` and returns its seconds."""
        processor = self._free.get()
        command = [sys.executable, "-m", f"vatt_tf.{module}", *arguments]
        if shutil.which("taskset"):
            command = ["taskset", "--cpu-list", str(processor), *command]
        start = time.perf_counter()
        try:
            with open(log, "a", encoding="utf-8") as output:
                subprocess.run(command, check=True, stdout=output, stderr=subprocess.STDOUT)
        finally:
            self._free.put(processor)
        return time.perf_counter() - start
