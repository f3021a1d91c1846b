"""Dynamic batching: waiting requests of a signature run as one batch."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vatt_tf.serving.server.models.manager import LoadedModel
from vatt_tf.serving.server.models.options import BatchingOptions
from vatt_tf.serving.server.models.status import (
    LOOK_SECONDS,
    Code,
    ServingError,
    check_client_waits,
    from_exception,
    invalid,
)
from vatt_tf.serving.server.requests.metrics import Metrics

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class _Task:
    """Request in a queue."""

    feeds: Mapping[str, np.ndarray]
    rows: int
    deadline: float  # On the clock of time.monotonic(); infinite if there is none.
    enqueued: float
    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    results: list[Any] | None = None
    error: ServingError | None = None

    def finish(self, results: list[Any] | None, error: ServingError | None = None) -> None:
        self.results, self.error = results, error
        self.done.set()


@dataclasses.dataclass
class _Batch:
    """Tasks that run together."""

    started: float
    tasks: list[_Task] = dataclasses.field(default_factory=list)
    rows: int = 0

    def add(self, task: _Task) -> None:
        self.tasks.append(task)
        self.rows += task.rows


class BatchThreads:
    """Threads that run the batches of all models, the longest-waiting one first."""

    def __init__(self, count: int) -> None:
        self.changed = threading.Condition()  # Also the lock of the queues.
        self._queues: list[_Queue] = []
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True)
            for index in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, queue: _Queue) -> None:
        """Adds a queue."""
        with self.changed:
            self._queues.append(queue)

    def remove(self, queue: _Queue) -> None:
        """Removes a queue, which must be empty."""
        with self.changed:
            self._queues.remove(queue)

    def stop(self) -> None:
        """Ends the threads."""
        with self.changed:
            self._stopped = True
            self.changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self.changed:
                while True:
                    if self._stopped:
                        return
                    now = time.monotonic()
                    ready = [queue for queue in self._queues if queue.ready_at() <= now]
                    if ready:
                        queue = min(ready, key=lambda queue: queue.batches[0].started)
                        batch = queue.batches.popleft()
                        # This thread no longer waits for a timeout: wake another one that does.
                        self.changed.notify()
                        break
                    next_ready = min((q.ready_at() for q in self._queues), default=np.inf)
                    self.changed.wait(None if next_ready == np.inf else next_ready - now)
            queue.run(batch)
            # References in a waiting thread would keep the last batch and an unloaded model alive.
            del queue, batch, ready


class _Queue:
    """Waiting batches of a signature, oldest first; the last may still grow."""

    def __init__(
        self,
        model: LoadedModel,
        signature: str,
        fetches: Sequence[str],
        options: BatchingOptions,
        metrics: Metrics,
    ) -> None:
        self.batches: deque[_Batch] = deque()
        self._model = model
        self._signature = signature
        self._fetches = fetches
        self._options = options
        self._metrics = metrics

    def ready_at(self) -> float:
        """Time from which the oldest batch may run: at once if it is full."""
        if not self.batches:
            return np.inf
        oldest = self.batches[0]
        if len(self.batches) > 1 or oldest.rows >= self._options.max_batch_size:
            return 0.0
        return oldest.started + self._options.batch_timeout_micros / 1e6

    def put(self, task: _Task) -> None:
        """Adds a task to the last batch, or to a new one if it does not fit."""
        if not self.batches or self.batches[-1].rows + task.rows > self._options.max_batch_size:
            if len(self.batches) >= self._options.max_enqueued_batches:
                raise ServingError(
                    Code.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full; "
                    f"currently {len(self.batches)} batches enqueued and max_enqueued_batches is "
                    f"{self._options.max_enqueued_batches}",
                )
            self.batches.append(_Batch(task.enqueued))
        self.batches[-1].add(task)

    def run(self, batch: _Batch) -> None:
        """Runs a batch and distributes the results; never raises."""
        now = time.monotonic()
        tasks = []
        for task in batch.tasks:
            self._metrics.queuing_latency.observe(
                (now - task.enqueued) * 1e6, self._options.thread_pool_name
            )
            if task.deadline <= now:
                message = "Run() timeout exceeded while waiting in batching queue"
                task.finish(None, ServingError(Code.DEADLINE_EXCEEDED, message))
            else:
                tasks.append(task)
        if not tasks:
            return
        try:
            results = self._run_together(tasks)
        except Exception as error:  # Any exception: the threads of the tasks wait for a reply.
            failure = from_exception(error)
            if len(tasks) == 1 or failure.code == Code.DEADLINE_EXCEEDED:
                for task in tasks:
                    task.finish(None, failure)
                return
            # Retried one by one, so that a bad request does not fail the others.
            for task in tasks:
                try:
                    task.finish(self._run_together([task])[0])
                except Exception as alone:
                    task.finish(None, from_exception(alone))
            return
        for task, result in zip(tasks, results, strict=True):
            task.finish(result)

    def _run_together(self, tasks: list[_Task]) -> list[list[Any]]:
        """Joins the inputs, pads them to an allowed size, runs, and cuts the outputs apart."""
        rows = sum(task.rows for task in tasks)
        size = next((s for s in self._options.allowed_batch_sizes if s >= rows), rows)
        feeds = {
            name: _join([task.feeds[name] for task in tasks], size, self._options)
            for name in tasks[0].feeds
        }
        self._metrics.batch_size.observe(rows, self._model.name)
        self._metrics.padding_size.observe(size - rows, self._model.name)
        deadline = max(task.deadline for task in tasks)
        timeout = None if deadline == np.inf else deadline - time.monotonic()
        outputs = self._model.run(self._signature, feeds, self._fetches, timeout)
        for output in outputs:
            if not np.ndim(output):
                raise ServingError(
                    Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions"
                )
            if len(output) != size:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                    "dimension sizes of the input tensors",
                )
        results, start = [], 0
        for task in tasks:
            results.append([output[start : start + task.rows] for output in outputs])
            start += task.rows
        return results


def _join(arrays: list[np.ndarray], size: int, options: BatchingOptions) -> np.ndarray:
    """Concatenates along axis 0 and repeats the first row up to ``size`` rows."""
    if options.pad_variable_length_inputs and len({a.shape[1:] for a in arrays}) > 1:
        arrays = _pad_to_same_length(arrays)
    if len({(array.shape[1:], array.dtype) for array in arrays}) > 1:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            "Tensors with the same name from different tasks have different shapes and padding is "
            "turned off",
        )
    missing = size - sum(map(len, arrays))
    if missing:
        arrays = [*arrays, np.repeat(arrays[0][:1], missing, axis=0)]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _pad_to_same_length(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Appends zeros (empty strings) so that all have the largest size along every axis but 0."""
    if len({array.ndim for array in arrays}) > 1:
        return arrays
    target = np.max([array.shape[1:] for array in arrays], axis=0)
    padded = []
    for array in arrays:
        blank: Any = b"" if array.dtype == object else 0
        result = np.full((len(array), *target), blank, array.dtype)
        result[tuple(slice(size) for size in array.shape)] = array
        padded.append(result)
    return padded


class BatchedModel:
    """Loaded model whose runs are batched, with the interface of the model itself."""

    def __init__(
        self, model: LoadedModel, threads: BatchThreads, options: BatchingOptions, metrics: Metrics
    ) -> None:
        self.name = model.name
        self.version = model.version
        self.signatures = model.signatures
        self._model = model
        self._threads = threads
        self._options = options
        self._metrics = metrics
        self._queues: dict[tuple[str, ...], _Queue] = {}

    def run(
        self,
        signature: str,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[Any]:
        """Runs as :meth:`Servable.run`, in a batch with others that fetch the same outputs.

        Raises:
            ServingError: Also if an input has no batch axis, has more rows than a batch, or the
                queue is full.
        """
        rows = self._count_rows(feeds)
        if not rows:
            # TensorFlow Serving keeps the call, and its thread, to the deadline.
            raise ServingError(
                Code.DEADLINE_EXCEEDED, "Batching Run() of 0 rows never fills a batch"
            )
        now = time.monotonic()
        deadline = np.inf if timeout is None else now + timeout
        task = _Task(feeds, rows, deadline, now)
        with self._threads.changed:
            self._queue(signature, fetches).put(task)
            self._threads.changed.notify()
        try:
            while not task.done.wait(min(LOOK_SECONDS, deadline - time.monotonic())):
                check_client_waits()
                if time.monotonic() >= deadline:
                    break
        except ServingError:
            task.deadline = 0.0  # is not run any more
            raise
        if task.error is not None:
            raise task.error
        if task.results is None:
            message = "Run() timeout exceeded while waiting in batching queue"
            raise ServingError(Code.DEADLINE_EXCEEDED, message)
        return task.results

    def close(self) -> None:
        """Frees the model; no run may be under way."""
        for queue in self._queues.values():
            self._threads.remove(queue)
        self._queues.clear()
        self._model.close()

    def _count_rows(self, feeds: Mapping[str, np.ndarray]) -> int:
        if any(not value.ndim for value in feeds.values()):
            invalid("Batching Run() input tensors must have at least one dimension")
        sizes = {len(value) for value in feeds.values()}
        if len(sizes) != 1:
            invalid("Batching Run() input tensors must have equal 0th-dimension size")
        (rows,) = sizes
        if rows > self._options.max_batch_size:
            invalid(
                f"Task size {rows} is larger than maximum input batch size "
                f"{self._options.max_batch_size}"
            )
        return rows

    def _queue(self, signature: str, fetches: Sequence[str]) -> _Queue:
        key = (signature, *fetches)
        queue = self._queues.get(key)
        if queue is None:
            queue = _Queue(self._model, signature, fetches, self._options, self._metrics)
            self._queues[key] = queue
            self._threads.add(queue)
        return queue
