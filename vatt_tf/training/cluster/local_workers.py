"""A cluster on this machine, to try several workers out: ``vatt_tf.train --workers=2``."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from vatt_tf.training.cluster import workers as cluster

# Seconds in which the other workers detect and report that one has failed.
_GRACE = 40.0
_PR_SET_PDEATHSIG = 1


def run_workers(command: Sequence[str], count: int) -> int:
    """Runs ``count`` processes of a command as the workers of one cluster, until all have ended.

    Worker 0 has this terminal, lines of the others begin with ``[worker 1]``. SIGTERM and SIGINT
    are forwarded to all. If one fails, the others are stopped.

    Args:
        command: Command of each worker; ``TF_CONFIG`` gives each its index.
        count: Number of workers.

    Returns:
        The exit code of the first one that failed, or 0.
    """
    hosts = ",".join(f"127.0.0.1:{port}" for port in free_ports(count))
    with contextlib.ExitStack() as stack:
        workers: list[subprocess.Popen] = []
        hand_on_early = stack.enter_context(_hand_on(workers, count))
        stack.callback(_kill, workers)
        for index in range(count):
            workers.append(_start(command, cluster.cluster_config(hosts, index), quiet=index > 0))
        hand_on_early()
        printers = [
            threading.Thread(target=_print, args=(index, worker.stdout), daemon=True)
            for index, worker in enumerate(workers)
            if worker.stdout is not None
        ]
        for printer in printers:
            printer.start()
        code = _wait(workers)
    for printer in printers:
        printer.join()
    return code


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def _start(command: Sequence[str], config: str, quiet: bool) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        env={**os.environ, "TF_CONFIG": config},
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C comes through this process, once
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )


def _die_with_parent() -> None:
    """Makes a worker end with its starter, else it would go on writing into the run's folder."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def _hand_on(workers: Sequence[subprocess.Popen], count: int) -> Iterator[Callable[[], None]]:
    """Forwards signals to the workers; yields a function that forwards those that came earlier."""
    early: list[int] = []

    def hand_on(number: int, frame: object = None) -> None:
        if len(workers) < count:  # each worker gets each signal once: a second one means at once
            early.append(number)
            return
        for worker in workers:
            worker.send_signal(number)

    def hand_on_early() -> None:
        for number in early:
            hand_on(number)

    before = {
        number: signal.signal(number, hand_on)
        for number in (signal.SIGTERM, signal.SIGINT)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield hand_on_early
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(workers: Sequence[subprocess.Popen]) -> int:
    """Waits for all workers, or after a failure at most ``_GRACE`` seconds for the others."""
    first_bad, deadline = 0, float("inf")
    running = list(workers)
    while running and time.monotonic() < deadline:
        time.sleep(0.1)
        for worker in [worker for worker in running if worker.poll() is not None]:
            running.remove(worker)
            if worker.returncode and not first_bad:
                first_bad, deadline = worker.returncode, time.monotonic() + _GRACE
    return first_bad if first_bad >= 0 else 128 - first_bad  # exit code of a shell for a signal


def _kill(workers: Sequence[subprocess.Popen]) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
            worker.wait()


def _print(index: int, lines: IO[str]) -> None:
    for line in lines:
        print(f"[worker {index}] {line}", end="", file=sys.stderr, flush=True)
