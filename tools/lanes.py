"""Runs commands of the package in parallel, each on its own processor."""

from __future__ import annotations

import os
import pathlib
import queue
import shutil
import subprocess
import sys
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
        """Runs ``python -m vatt_tf.MODULE``; returns the processor seconds that it took.

        These do not depend on what else the machine does.
        """
        processor = self._free.get()
        command = [sys.executable, "-m", f"vatt_tf.{module}", *arguments]
        if shutil.which("taskset"):
            command = ["taskset", "--cpu-list", str(processor), *command]
        try:
            with (
                open(log, "a", encoding="utf-8") as output,
                subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
            ):
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            self._free.put(processor)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return usage.ru_utime + usage.ru_stime
