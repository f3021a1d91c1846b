"""Worker processes of one run: their addresses, and detection of a lost one.

Nothing here imports TensorFlow.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping

from vatt_tf.errors import UserError

EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)
# Exit code of a worker that stopped because another one is gone.
WORKER_LOST = 3
# Seconds between two connection attempts to the other workers, and their timeout.
_INTERVAL, _PATIENCE = 2.0, 5.0
# Failed attempts in a row after which a worker is lost; seconds in which it has to appear at all.
_MISSES, _START = 5, 900.0


def cluster_config(hosts: str, index: int | None) -> str:
    """The value of ``TF_CONFIG`` for ``--worker_hosts`` and ``--worker_index``.

    Raises:
        UserError: If the two do not describe a cluster.
    """
    addresses = [address.strip() for address in hosts.split(",")]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise UserError(f"--worker_hosts: found {address!r}, expected HOST:PORT,HOST:PORT,...")
    if len(set(addresses)) < len(addresses):
        raise UserError(f"--worker_hosts={hosts}: an address is there twice")
    if index is None or not 0 <= index < len(addresses):
        raise UserError(
            f"--worker_index={index}: expected the place of this host in --worker_hosts, "
            f"0 to {len(addresses) - 1}"
        )
    return json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    )


def workers_in_environment() -> tuple[dict[str, str], str]:
    """Addresses of the workers that ``TF_CONFIG`` names, by names such as ``"worker 0"``.

    Returns:
        All of them in order, and the name of this process; nothing and ``""`` if there is no
        cluster.

    Raises:
        UserError: If the variable cannot be read.
    """
    text = os.environ.get("TF_CONFIG")
    try:
        config = json.loads(text or "{}")
        jobs, task = config.get("cluster", {}), config.get("task", {})
        workers = {
            f"{job} {number}": address
            for job in ("chief", "worker")
            for number, address in enumerate(jobs.get(job, ()))
        }
        own = f"{task['type']} {task['index']}" if workers else ""
        if workers and own not in workers:
            raise ValueError(f"task {own} is not in the cluster")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"TF_CONFIG={text}: cannot be read ({type(error).__name__}: {error}); expected for "
            f"example {EXAMPLE}"
        ) from error
    return workers, own


class PeerWatch:
    """Ends this process when another worker is lost, instead of waiting for it for ever.

    A collective operation waits for all workers and cannot be interrupted, so a thread
    connects to the port of each other worker, which is open as long as its process lives.
    What was computed since the newest checkpoint is lost, as if this worker were killed too.

    Args:
        workers: Name -> ``"host:port"`` of all workers.
        own: Name of this one.
        run_dir: Folder of the run, for the message.
    """

    def __init__(self, workers: Mapping[str, str], own: str, run_dir: str) -> None:
        self._others = {name: address for name, address in workers.items() if name != own}
        self._run_dir = run_dir
        self._started = time.monotonic()
        self._seen: set[str] = set()
        self._missed = dict.fromkeys(self._others, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_after, daemon=True)

    def __enter__(self) -> PeerWatch:
        if self._others:
            self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        """Stops the thread; an error of TensorFlow leaves it time to find a lost worker."""
        if self._others and isinstance(error, Exception) and not isinstance(error, UserError):
            # TensorFlow may notice first. The thread needs this long to be sure.
            self._seen.update(self._others)
            self._stop.wait(_MISSES * (_INTERVAL + _PATIENCE))
        self._stop.set()

    def _look_after(self) -> None:
        while not self._stop.wait(_INTERVAL):
            for name, address in self._others.items():
                if _is_reachable(address):
                    self._seen.add(name)
                    self._missed[name] = 0
                else:
                    self._missed[name] += 1
            message = self._lost()
            if message and not self._stop.is_set():
                leave(f"error: {message}", WORKER_LOST)

    def _lost(self) -> str | None:
        """Message about a worker that is lost or has not appeared in time; None without one."""
        again = (
            "start the same command on all hosts again: the run continues from the newest "
            f"checkpoint in {self._run_dir}"
        )
        for name, address in self._others.items():
            if name in self._seen and self._missed[name] >= _MISSES:
                return f"{name} ({address}) is gone: look at its output, then {again}"
            if name not in self._seen and time.monotonic() - self._started > _START:
                return (
                    f"{name} ({address}) has not come within {_START / 60:.0f} minutes: see "
                    f"whether it runs and its port can be reached, then {again}"
                )
        return None


def _is_reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except OSError:
        return False
    return True


def leave(message: str, code: int) -> None:
    """Ends the process at once: an ordinary exit would wait for the lost worker."""
    print(f"\n{message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)
