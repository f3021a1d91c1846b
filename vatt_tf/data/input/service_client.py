"""Training clips made by other processes: the trainer's side of the data services.

A data service (``python -m vatt_tf.data.service``) is a dispatcher and a worker of tf.data service
in one process, at one address. Batch ``n`` comes from address ``n % len(addresses)``: the trainer
gives each service a dataset with only its batches and takes them in turn. So the batches and their
order are those of reading locally, whatever the number of services and the step that a run resumes
from; and every trainer of a job asks the same services for its own rows. One dispatcher with many
workers would promise no order, and its coordinated reads no order that is known beforehand.

Only stock TensorFlow ops are sent: captions become tokens in the trainer, so services need no
vocabulary. Shards must be readable by trainers and services under the same paths.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from vatt_tf.errors import UserError

# How long a service may be silent.
ANSWER_SECONDS = 20.0
# A batch that takes longer than this makes the trainer ask whether the services are alive.
_PATIENCE_SECONDS = 5.0
# Any request without arguments that every dispatcher answers.
_PING = "/tensorflow.data.DispatcherService/GetVersion"
# What the client raises when a service no longer knows the job. A damaged record is another error.
_LOST = (
    tf.errors.NotFoundError,
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.FailedPreconditionError,
)


class ServiceLostError(UserError):
    """A data service does not answer, or no longer knows the job."""


def joined(
    batches: Callable[[int, int], tf.data.Dataset], addresses: Sequence[str]
) -> tf.data.Dataset:
    """The batches of an endless dataset, made by services.

    Args:
        batches: ``batches(part, parts)`` is the dataset of every ``parts``-th batch from number
            ``part`` on.
        addresses: ``host:port`` of each service.

    Raises:
        ServiceLostError: A service does not answer within 20 s.
    """
    check_services(addresses)
    parts = [
        batches(part, len(addresses)).apply(
            tf.data.experimental.service.distribute(
                processing_mode=tf.data.experimental.service.ShardingPolicy.OFF,
                service=f"grpc://{address}",
                # One request on the way to each service: a worker answers in its order.
                max_outstanding_requests=1,
                # Pictures do not get smaller, and compressing them takes as long as making them.
                compression=None,
            )
        )
        for part, address in enumerate(addresses)
    ]
    turns = tf.data.Dataset.range(len(parts)).repeat()
    return tf.data.Dataset.choose_from_datasets(parts, turns, stop_on_empty_dataset=True)


def check_services(addresses: Sequence[str]) -> None:
    """Asks each service for a sign of life, for 20 s in all.

    Raises:
        ServiceLostError: One does not answer, or is no data service.
    """
    import grpc

    end = time.monotonic() + ANSWER_SECONDS
    for address in addresses:
        with grpc.insecure_channel(address) as channel:
            ask = channel.unary_unary(_PING, lambda message: message, lambda message: message)
            try:
                left = max(0.1, end - time.monotonic())
                ask(b"", timeout=left, wait_for_ready=True)
            except grpc.RpcError as error:
                found = (
                    f"nothing answered within {ANSWER_SECONDS:g} s"
                    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
                    else f"what answers there is none ({error.code().name})"
                )
                host, _, port = address.rpartition(":")
                raise ServiceLostError(
                    f"no data service at {address}: {found}. Start it on that host with "
                    f"`python -m vatt_tf.data.service --port={port or 5050} "
                    f"--host={host or address} --allow_remote`, or leave the address out"
                ) from error


def watched(batches: Iterator[Any], addresses: Sequence[str]) -> Iterator[Any]:
    """Batches of an iterator that reads from services; a lost service is an error, not a hang.

    TensorFlow's client waits up to an hour for a service that has died. Here batches are fetched
    by another thread, and while one takes long the services are asked whether they are alive.

    Args:
        batches: Iterator over a dataset with ``services``, distributed or not.
        addresses: The services; none: the iterator is used as it is.

    Raises:
        ServiceLostError: A service has gone.
    """
    if not addresses:
        yield from batches
        return
    wanted: queue.Queue[bool] = queue.Queue()
    fetched: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

    def fetch() -> None:
        while wanted.get():
            try:
                fetched.put((next(batches), None))
            except BaseException as error:  # handed to the trainer's thread
                fetched.put((None, error))

    # A daemon: it may be stuck in TensorFlow's client for good.
    thread = threading.Thread(target=fetch, name="data-service", daemon=True)
    thread.start()
    try:
        while True:
            wanted.put(True)
            batch, error = _next(fetched, addresses)
            if isinstance(error, StopIteration):
                return
            if error is not None:
                if isinstance(error, _LOST):
                    check_services(addresses)
                    raise ServiceLostError(
                        f"a data service of {', '.join(addresses)} was started anew or has lost "
                        f"the job: {str(error).splitlines()[0]}"
                    ) from error
                raise error
            yield batch
    except GeneratorExit:
        # A thread that frees the iterator while the interpreter shuts down aborts the process.
        wanted.put(False)
        if not sys.is_finalizing():
            thread.join()
        raise
    finally:
        wanted.put(False)


def _next(fetched: queue.Queue, addresses: Sequence[str]) -> tuple[Any, BaseException | None]:
    while True:
        try:
            return fetched.get(timeout=_PATIENCE_SECONDS)
        except queue.Empty:
            check_services(addresses)
