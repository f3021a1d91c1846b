"""Batching with a model that only remembers what it was given."""

from __future__ import annotations

import contextvars
import threading
import time
from concurrent import futures

import numpy as np
import pytest

from vatt_tf.serving.server.batching import BatchedModel, BatchThreads
from vatt_tf.serving.server.models.options import BatchingOptions
from vatt_tf.serving.server.models.status import CLIENT_WAITS, Code, ServingError
from vatt_tf.serving.server.requests.metrics import Metrics

PATIENCE = 20.0


class Doubler:
    """Doubles its input; refuses negative numbers; waits while its gate is closed."""

    name, version = "m", 1
    signatures = {}

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def run(self, signature, feeds, fetches, timeout=None):
        self.batches.append(feeds["x:0"])
        assert self.gate.wait(PATIENCE)
        if feeds["x:0"].dtype != object and (feeds["x:0"] < 0).any():
            raise ServingError(Code.INVALID_ARGUMENT, "negative")
        return [feeds["x:0"] * 2 for _ in fetches]

    def close(self):
        self.closed = True


@pytest.fixture
def doubler():
    return Doubler()


@pytest.fixture
def batched(doubler, request):
    metrics = Metrics()
    threads = BatchThreads(1)
    options = {"max_batch_size": 4, **getattr(request, "param", {})}
    model = BatchedModel(doubler, threads, BatchingOptions(**options), metrics)
    yield model
    doubler.gate.set()
    model.close()
    threads.stop()


def run(model, *values, fetches=("y:0",), timeout=PATIENCE):
    return model.run("sig", {"x:0": np.array(values, np.float32)}, fetches, timeout)


def together(model, *tasks):
    """Puts tasks into the queue while the only thread is busy; their results or errors."""
    model._model.gate.clear()
    with futures.ThreadPoolExecutor(len(tasks) + 1) as pool:
        busy = pool.submit(run, model, 0.0)
        wait_for(lambda: model._model.batches)
        queue = next(iter(model._queues.values()))
        waiting = []
        for count, task in enumerate(tasks, 1):
            waiting.append(pool.submit(run, model, *task))
            wait_for(lambda count=count: sum(len(b.tasks) for b in queue.batches) >= count)
        model._model.gate.set()
        busy.result(PATIENCE)
        return [future.exception(PATIENCE) or future.result()[0].tolist() for future in waiting]


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.002)


def error_of(function, *args, **kwargs):
    with pytest.raises(ServingError) as caught:
        function(*args, **kwargs)
    return caught.value.code, caught.value.message


def test_waiting_tasks_run_together_and_get_their_own_rows(batched, doubler):
    assert together(batched, [1.0], [2.0, 3.0], [4.0]) == [[2.0], [4.0, 6.0], [8.0]]
    assert [len(batch) for batch in doubler.batches] == [1, 4]


def test_task_that_does_not_fit_starts_the_next_batch(batched, doubler):
    together(batched, [1.0, 1.0, 1.0], [2.0, 2.0], [3.0])
    assert [batch.tolist() for batch in doubler.batches[1:]] == [[1, 1, 1], [2, 2, 3]]


@pytest.mark.parametrize("batched", [{"allowed_batch_sizes": (2, 4)}], indirect=True)
def test_padding_repeats_the_first_row_and_is_cut_off(batched, doubler):
    assert together(batched, [1.0], [2.0, 3.0]) == [[2.0], [4.0, 6.0]]
    assert [batch.tolist() for batch in doubler.batches] == [[0, 0], [1, 2, 3, 1]]


def test_bad_task_does_not_fail_its_neighbours(batched):
    good, bad, other = together(batched, [1.0], [-1.0], [2.0])
    assert (good, other) == ([2.0], [4.0])
    assert (bad.code, bad.message) == (Code.INVALID_ARGUMENT, "negative")


def test_other_outputs_wait_in_another_queue(batched, doubler):
    assert len(run(batched, 1.0, fetches=("y:0", "z:0"))) == 2
    assert len(run(batched, 1.0)) == 1
    assert len(batched._queues) == 2


@pytest.mark.parametrize("batched", [{"batch_timeout_micros": 10**8}], indirect=True)
def test_full_batch_does_not_wait_for_the_timeout(batched, doubler):
    with futures.ThreadPoolExecutor(2) as pool:
        halves = [pool.submit(run, batched, 1.0, 2.0) for _ in range(2)]
        assert [half.result(PATIENCE)[0].tolist() for half in halves] == [[2, 4]] * 2
    assert len(doubler.batches) == 1


@pytest.mark.parametrize("batched", [{"max_enqueued_batches": 1}], indirect=True)
def test_full_queue(batched):
    good, full = together_with_overflow(batched)
    assert good == [2.0] * 4
    assert full[0] == Code.UNAVAILABLE and "queue" in full[1]


def together_with_overflow(model):
    """One batch runs, one waits, a third finds no place."""
    model._model.gate.clear()
    with futures.ThreadPoolExecutor(2) as pool:
        pool.submit(run, model, 0.0)
        wait_for(lambda: model._model.batches)
        queue = next(iter(model._queues.values()))
        waiting = pool.submit(run, model, 1.0, 1.0, 1.0, 1.0)
        wait_for(lambda: queue.batches)
        full = error_of(run, model, 1.0)
        model._model.gate.set()
        return waiting.result(PATIENCE)[0].tolist(), full


def test_what_cannot_be_batched(batched):
    assert error_of(run, batched, *[1.0] * 5) == (
        Code.INVALID_ARGUMENT,
        "Task size 5 is larger than maximum input batch size 4",
    )
    scalar = {"x:0": np.float32(1)}
    assert error_of(batched.run, "sig", scalar, ["y:0"], 1.0) == (
        Code.INVALID_ARGUMENT,
        "Batching Run() input tensors must have at least one dimension",
    )
    uneven = {"x:0": np.zeros(2), "z:0": np.zeros(3)}
    assert error_of(batched.run, "sig", uneven, ["y:0"], 1.0)[0] == Code.INVALID_ARGUMENT


@pytest.mark.parametrize("timeout", [PATIENCE, None])
def test_no_rows_never_fill_a_batch(batched, timeout):
    """The status of a wait to the deadline, without the wait."""
    assert error_of(run, batched, timeout=timeout)[0] == Code.DEADLINE_EXCEEDED


def test_a_task_that_its_client_gives_up_is_not_run(batched, doubler):
    doubler.gate.clear()
    with futures.ThreadPoolExecutor(1) as pool:
        busy = pool.submit(run, batched, 0.0)
        wait_for(lambda: doubler.batches)
        gone = contextvars.copy_context()
        gone.run(CLIENT_WAITS.set, lambda: False)
        assert error_of(gone.run, run, batched, 1.0, timeout=None)[0] == Code.CANCELLED
        doubler.gate.set()
        busy.result(PATIENCE)
    run(batched, 2.0)
    assert [batch.tolist() for batch in doubler.batches] == [[0], [2]]


def test_task_whose_time_is_over_is_not_run(batched, doubler):
    doubler.gate.clear()
    with futures.ThreadPoolExecutor(1) as pool:
        busy = pool.submit(run, batched, 0.0)
        wait_for(lambda: doubler.batches)
        assert error_of(run, batched, 1.0, timeout=0.05)[0] == Code.DEADLINE_EXCEEDED
        doubler.gate.set()
        busy.result(PATIENCE)
    run(batched, 2.0)
    assert [batch.tolist() for batch in doubler.batches] == [[0], [2]]


@pytest.mark.parametrize("batched", [{"pad_variable_length_inputs": True}], indirect=True)
def test_padding_of_variable_length(batched):
    from vatt_tf.serving.server import batching

    joined = batching._join(
        [np.ones((1, 2), np.int32), np.ones((2, 3), np.int32)], 3, batched._options
    )
    assert joined.tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 1]]


def test_uneven_lengths_run_one_by_one_without_padding(batched, doubler):
    model = batched
    model._model.gate.clear()
    with futures.ThreadPoolExecutor(3) as pool:
        pool.submit(run, model, 0.0)
        wait_for(lambda: model._model.batches)
        queue = next(iter(model._queues.values()))
        tasks = []
        for count, width in enumerate((2, 3), 1):
            feeds = {"x:0": np.ones((1, width), np.float32)}
            tasks.append(pool.submit(model.run, "sig", feeds, ("y:0",), PATIENCE))
            wait_for(lambda count=count: sum(len(b.tasks) for b in queue.batches) >= count)
        model._model.gate.set()
        assert [task.result(PATIENCE)[0].shape for task in tasks] == [(1, 2), (1, 3)]


def test_close_frees_the_model(doubler):
    threads = BatchThreads(2)
    model = BatchedModel(doubler, threads, BatchingOptions(), Metrics())
    run(model, 1.0)
    model.close()
    assert doubler.closed and not threads._queues
    threads.stop()
