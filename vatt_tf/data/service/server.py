"""Makes clips for trainers: ``python -m vatt_tf.data.service --port=5050 --workers=4``.

Starts data services on this host, one process each: ``--workers=4`` makes four services at the
ports 5050 to 5053, which send batches through the ports 5054 to 5057. Trainers get the addresses
of all services of all hosts. The ports listen on all interfaces of the host, whatever --host says,
and whoever reaches them can read and write the host's files as this user: let a firewall open them
to the trainers alone. See docs/scaling.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from vatt_tf import cli, keras_imports, native_log
from vatt_tf.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

# A job that no trainer asks for any more is forgotten after this time.
_FORGET_MILLISECONDS = 60_000
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    flags = cli.ArgumentParser(prog="python -m vatt_tf.data.service", description=__doc__)
    flags.add_argument(
        "--port", type=cli.positive, default=5050, help="port of the first service (default: 5050)"
    )
    flags.add_argument(
        "--workers", type=cli.positive, default=1, help="services on this host (default: 1)"
    )
    flags.add_argument(
        "--host",
        default="localhost",
        help="name or IP address by which the trainers find this host (default: localhost); the "
        "ports listen on all interfaces in any case",
    )
    flags.add_argument(
        "--allow_remote",
        action="store_true",
        help="trainers on other hosts may use the services: needed for another --host, once a "
        "firewall opens the ports to the trainers alone",
    )
    return flags


def service_dataset(addresses: Sequence[str], **arguments: Any) -> tf.data.Dataset:
    """Training batches made by services, the same as ``training_dataset`` makes them.

    Args:
        addresses: ``host:port`` of each service.
        **arguments: Those of :func:`vatt_tf.data.input.pipeline.training_dataset`.

    Raises:
        ServiceLostError: A service does not answer within 20 s.
    """
    from vatt_tf.data.input.pipeline import training_dataset

    return training_dataset(**arguments, services=addresses)


def start_server(host: str, port: int = 0, worker_port: int = 0) -> tuple[Any, Any]:
    """Starts a data service in this process.

    Args:
        host: Name of this host for the trainers.
        port: Port for its address; 0 takes a free one.
        worker_port: Port that batches are sent through; 0 takes a free one.

    Returns:
        Dispatcher and worker; they stop when they are deleted. ``dispatcher.target`` ends with
        the port.

    Raises:
        UserError: A port cannot be used.
    """
    import tensorflow as tf

    native_log.limit_abseil()
    service = tf.data.experimental.service
    try:
        dispatcher = service.DispatchServer(
            service.DispatcherConfig(
                port=port,
                job_gc_check_interval_ms=_FORGET_MILLISECONDS // 3,
                job_gc_timeout_ms=_FORGET_MILLISECONDS,
            )
        )
        worker = service.WorkerServer(
            service.WorkerConfig(
                dispatcher_address=dispatcher.target.split("://")[1],
                worker_address=f"{host}:%port%",
                port=worker_port,
            )
        )
    except (tf.errors.OpError, RuntimeError) as error:
        raise UserError(
            f"no data service at the ports {port} and {worker_port}: {error}; choose another --port"
        ) from error
    return dispatcher, worker


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = parser().parse_args(argv)
    if flags.port + 2 * flags.workers > 65_536:
        parser().error(f"--port={flags.port}: there are no {2 * flags.workers} ports from there on")
    if flags.host not in LOOPBACK and not flags.allow_remote:
        parser().error(
            f"--host={flags.host}: whoever reaches the ports can read and write this host's files; "
            "let a firewall open them to the trainers alone (docs/scaling.md), then add "
            "--allow_remote"
        )
    return cli.run(lambda: _serve(flags))


def _check_free(port: int) -> None:
    """Refuses a port on which another program listens: gRPC would share it, call by call."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(
                f"the port {port} cannot be used ({error.strerror}); choose another --port, or end "
                "the program that has it"
            ) from error


def _serve(flags: argparse.Namespace) -> int:
    for port in range(flags.port, flags.port + 2 * flags.workers):
        _check_free(port)
    signal.signal(signal.SIGTERM, _stop)
    context = multiprocessing.get_context("spawn")
    ports = range(flags.port, flags.port + flags.workers)
    processes, ready = [], []
    try:
        for port in ports:
            receiver, sender = context.Pipe(duplex=False)
            arguments = (flags.host, port, port + flags.workers, sender)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            sender.close()
            processes.append(process)
            ready.append(receiver)
        for port, receiver in zip(ports, ready, strict=True):
            problem = _answer(receiver)
            if problem:
                raise UserError(f"the data service at port {port} did not start: {problem}")
        addresses = ",".join(f"{flags.host}:{port}" for port in ports)
        print(f"data services: {addresses} (stop with Ctrl-C)", flush=True)
        last = flags.port + 2 * flags.workers - 1
        print(
            f"warning: the ports {flags.port} to {last} listen on all interfaces, and whoever "
            "reaches them can read and write this host's files: see docs/scaling.md",
            file=sys.stderr,
            flush=True,
        )
        connection.wait([process.sentinel for process in processes])
        ended = [port for port, p in zip(ports, processes, strict=True) if not p.is_alive()]
        print(f"error: the data service at port {ended[0]} has ended: stopping", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):
        print("data services: stopped", flush=True)
        return 0
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _stop(*_: Any) -> None:
    raise SystemExit


def _answer(receiver: connection.Connection) -> str:
    try:
        return receiver.recv()
    except EOFError:
        return "the process has ended"


def _work(host: str, port: int, worker_port: int, ready: connection.Connection) -> None:
    """One service, in a process of its own; ends with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cli.before_tensorflow()
    # Clips are made on the processor; the accelerators belong to the trainers.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    keras_imports.import_lean("tensorflow")  # It brings Keras.
    try:
        servers = start_server(host, port, worker_port)
    except UserError as error:
        ready.send(str(error))
        return
    ready.send("")
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    del servers
