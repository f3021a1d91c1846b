"""Running independent tasks in processes of their own: one task, one process, N at a time.

A process for each task keeps a crash inside FFmpeg (or the out-of-memory killer) from taking the
others along, and returns all memory after each shard. The processes are forked from a server that
has imported TensorFlow once, so that starting one costs milliseconds. A worker whose parent is
gone stops at its next report.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from vatt_tf.errors import UserError

PRELOAD = ["vatt_tf.data.prepare.runners.preload", "PIL.Image", "vatt_tf.data.prepare.shards"]
# One thread a process: the processes are the parallelism, and a fork wants no other threads.
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
REPORT_SECONDS = 0.5


class WorkerError(RuntimeError):
    """A task failed by a mistake in the program; the message holds the worker's traceback."""


class Crash(Exception):
    """A worker process died.

    Attributes:
        index: Number of its task.
        cause: Signal or exit code in words.
        report: The last thing it reported.
        killed: Whether it was killed from outside, as when memory runs out.
    """

    def __init__(self, index: int, cause: str, report: tuple | None, killed: bool):
        super().__init__(cause)
        self.index, self.cause, self.report, self.killed = index, cause, report, killed


def run_tasks(
    work: Callable[..., Any],
    tasks: Sequence[tuple],
    jobs: int,
    on_report: Callable[[int, tuple], None] | None = None,
    on_crash: Callable[[Crash], tuple | None] | None = None,
) -> Iterator[tuple[int, Any]]:
    """Runs ``work(*task, report)`` for every task and yields (index, result) as they finish.

    Args:
        work: Function at the top level of a module; its last argument takes ("event", ...).
        tasks: Arguments of each call.
        jobs: Processes at a time.
        on_report: Called with (index, what the task reported).
        on_crash: Called when a process dies; returns the arguments to try again with, or None to
            give up. Without it a crash is an error.

    Raises:
        UserError: A task raised one; the others are stopped.
        WorkerError: A task raised anything else, or died for good.
    """
    context = _context()
    waiting = list(enumerate(tasks))[::-1]
    running: dict[Any, _Worker] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                index, arguments = waiting.pop()
                worker = _Worker(context, index, work, arguments)
                running[worker.pipe] = worker
            ready: list[Any] = wait(list(running))
            for pipe in ready:
                worker = running[pipe]
                try:
                    kind, content = pipe.recv()
                except (EOFError, OSError):
                    del running[pipe]
                    crash = Crash(worker.index, worker.died(), worker.last, worker.killed)
                    again = on_crash(crash) if on_crash else None
                    if again is None:
                        raise WorkerError(
                            f"a worker process died ({crash.cause}); last report: {crash.report}"
                        ) from None
                    waiting.append((worker.index, again))
                    continue
                if kind == "report":
                    worker.last = content
                    if on_report:
                        on_report(worker.index, content)
                elif kind == "result":
                    del running[pipe]
                    worker.join()
                    yield worker.index, content
                elif kind == "user error":
                    raise UserError(content)
                else:
                    raise WorkerError(content)
    finally:
        for worker in running.values():
            worker.stop()


def _context() -> Any:
    """The fork server where there is one (Linux, macOS), else fresh processes."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    from multiprocessing import forkserver

    with _environment():
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Sets the workers' environment while the fork server starts, then puts it back."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Worker:
    """One process and the pipe from it."""

    def __init__(self, context: Any, index: int, work: Callable, arguments: tuple):
        self.index = index
        self.last: tuple | None = None
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_main, args=(theirs, work, arguments), daemon=True)
        with _environment():
            self.process.start()
        theirs.close()

    def join(self) -> None:
        self.pipe.close()
        self.process.join()

    def died(self) -> str:
        """Waits for the dead process; the cause in words."""
        self.join()
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"signal {-code}, {signal.Signals(-code).name}"
        return f"exit code {code}"

    @property
    def killed(self) -> bool:
        return self.process.exitcode == -signal.SIGKILL

    def stop(self) -> None:
        self.process.terminate()
        self.join()


def _main(pipe: Any, work: Callable, arguments: tuple) -> None:
    """Life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, _terminate)
    last = 0.0
    message: tuple[str, Any]

    def report(event: str, *details: Any) -> None:
        nonlocal last
        now = time.monotonic()
        if event != "read" or now - last > REPORT_SECONDS:
            last = now
            pipe.send(("report", (event, *details)))

    try:
        message = ("result", work(*arguments, report))
    except BrokenPipeError:
        os._exit(1)  # the parent is gone
    except UserError as error:
        message = ("user error", str(error))
    except Exception:
        message = ("failure", traceback.format_exc())
    with contextlib.suppress(BrokenPipeError):
        pipe.send(message)


def _terminate(*_: Any) -> None:
    raise SystemExit(1)  # unwinds, so that temporary files are removed
