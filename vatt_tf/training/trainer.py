"""Inner training loop: a step is one program on the devices, read by the host now and then."""

from __future__ import annotations

import collections
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import orbit
import tensorflow as tf

from vatt_tf.errors import Interrupted, UserError
from vatt_tf.layers.batch_norm import batch_norms
from vatt_tf.training.gradients.contrastive import step_key
from vatt_tf.training.monitoring.guards import check_replicas
from vatt_tf.training.optimization.optimizer import apply_gradients

# Steps in a row with equal clips on two replicas before it is an error: tiny data sets repeat.
_EQUAL_DATA = 3
# In order of precedence for the exit code, where workers get different signals.
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds after which a step is read although the log interval has not ended: slow steps are shown
# one by one, and nothing waits for fast ones.
_LONGEST_UNREAD = 10.0


class TrainingDiverged(UserError):
    """Raised when loss or gradients are not finite. The model keeps the last finite state."""


class ReplicasEqual(UserError):
    """Raised when replicas draw equal dropout masks or read equal clips."""


class Trainer(orbit.AbstractTrainer):
    """Runs training steps under any strategy, driven by orbit's Controller.

    A step is one device function: gradients, their sum over the replicas, the check whether they
    are finite, the update. After one that is not finite nothing changes any more. The host reads
    metrics at the end of each loop of the Controller, on a signal, and after every step where
    several workers have to stop after the same one.

    Args:
        strategy: Distribution strategy.
        model: Built model.
        optimizer: Built optimizer.
        step: Gradient computation of a replica: ``step(batch, key, row_offset)`` returns gradients
            of ``step.variables`` and metrics; their sums over the replicas are those of the batch.
        global_step: Counts finished steps.
        make_iterator: From a start step to an iterator of (distributed) batches.
        batch_size: Clips of the whole batch.
        seed: Seed of dropout and DropToken.
        clip_norm: Global norm to which the gradients of the first ``step.clipped`` variables are
            clipped, after the all-reduce; ``None`` not.
        rates: From a step to the factor on each variable's learning rate; ``None``: all are 1.
            BatchNorm whose scale and offset have the factor 0 runs in inference mode.
        describe_record: From a ``record_id`` to its description in error messages.
        on_step: Called with the number of each step, its metrics, and ``record_id`` and ``damaged``
            of its batch, when the step is read.
        asked_to_stop: Returns the signal that this process got, or ``None``. The stop flag is
            all-reduced with the metrics, so that all workers stop after the same step.
        asked_to_save: Returns whether this process requests a checkpoint; all-reduced likewise.
        save: Saves the state.
    """

    def __init__(
        self,
        *,
        strategy: tf.distribute.Strategy,
        model: Any,
        optimizer: Any,
        step: Any,
        global_step: tf.Variable,
        make_iterator: Callable[[int], Iterator[Any]],
        batch_size: int,
        seed: int,
        clip_norm: float | None = None,
        rates: Callable[[int], Sequence[float]] | None = None,
        describe_record: Callable[[int], str] = str,
        on_step: Callable[[int, dict[str, float], Any], None] = lambda step, metrics, batch: None,
        asked_to_stop: Callable[[], int | None] = lambda: None,
        asked_to_save: Callable[[], bool] = lambda: False,
        save: Callable[[], None] = lambda: None,
    ) -> None:
        self._strategy = strategy
        self._optimizer = optimizer
        self._step = step
        self._global_step = global_step
        self._make_iterator = make_iterator
        self._batches: Iterator[Any] | None = None
        self._batch_size = batch_size
        self._seed = seed
        self._clip_norm = clip_norm
        self._rates = rates
        self._describe_record = describe_record
        self._on_step = on_step
        self._asked_to_stop = asked_to_stop
        self._asked_to_save = asked_to_save
        self._save = save
        self._equal_data = 0
        # BatchNorm's moving averages change while gradients are computed: kept to undo a bad step.
        self._statistics = [variable.value for variable in model.non_trainable_variables]
        norms = batch_norms(model)
        for norm in norms:
            norm.synchronized = norm.synchronized and strategy.num_replicas_in_sync > 1
        self._norms = [
            (norm, {id(variable) for variable in norm.trainable_variables})
            for norm in (norms if rates is not None else ())
        ]
        with strategy.scope():
            # Set by a step that is not finite: neither it nor any later one is applied.
            self._diverged = tf.Variable(False, trainable=False)
        self._metrics: list[str] = []  # names, known when the step is traced
        self._unread: list[tuple[int, Any, Any, dict[str, Any]]] = []
        # A stop or save that other workers were asked for is seen by reading alone.
        self._read_all = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def train(self, num_steps: Any) -> dict[str, float]:
        """Runs ``num_steps`` steps and returns the mean of each metric over them.

        Raises:
            TrainingDiverged: If loss or gradients are not finite.
            ReplicasEqual: If replicas do not differ.
            Interrupted: After a step at which any worker was asked to stop.
        """
        totals: dict[str, float] = collections.defaultdict(float)
        steps, first = int(num_steps), int(self._global_step.numpy())
        if self._batches is None:
            self._batches = self._make_iterator(first)
        waiting, start = 0.0, time.monotonic()
        last_read = start
        try:
            for step in range(first, first + steps):
                asked = time.monotonic()
                batch = next(self._batches)
                waiting += time.monotonic() - asked
                urgent = self._begin_step(step, batch)
                del batch  # frees its memory before the next one is read
                if urgent or time.monotonic() - last_read > _LONGEST_UNREAD:
                    self._read(totals, steps)
                    last_read = time.monotonic()
        finally:  # also where there is no next batch
            self._read(totals, steps)
        seconds = max(time.monotonic() - start, 1e-9)
        totals["clips_per_second"] = steps * self._batch_size / seconds
        totals["input_wait_share"] = waiting / seconds
        return dict(totals)

    def _begin_step(self, step: int, batch: Any) -> bool:
        """Starts step number ``step`` (from 0 on); returns whether it has to be read at once."""
        stop = self._asked_to_stop()
        requests = [stop == number for number in _STOP_SIGNALS] + [self._asked_to_save()]
        factors = None if self._rates is None else self._rates(step)
        frozen = () if factors is None else self._freeze(factors)
        values, prints = self._one_step(
            batch,
            tf.cast(requests, tf.float32),
            None if factors is None else tf.constant(factors, tf.float32),
            frozen,
        )
        rows = {name: batch[name] for name in ("record_id", "damaged") if name in batch}
        self._unread.append((step + 1, values, prints, rows))
        return self._read_all or any(requests)

    def _freeze(self, factors: Sequence[float]) -> tuple[int, ...]:
        """Freezes the BatchNorm layers that do not learn; returns their numbers."""
        still = {id(v) for v, rate in zip(self._step.variables, factors, strict=True) if not rate}
        for norm, own in self._norms:
            norm.trainable = not own or not own <= still
        return tuple(n for n, (norm, _) in enumerate(self._norms) if not norm.trainable)

    def _read(self, totals: dict[str, float], steps: int) -> None:
        """Reads the steps since the last time, adds up their metrics and does what was asked."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        rows = tf.stack([values for _, values, _, _ in unread]).numpy()
        requests = rows[-1, : len(_STOP_SIGNALS) + 1]
        for (step, _, prints, batch), row in zip(unread, rows, strict=True):
            values = map(float, row[len(requests) :])
            metrics = dict(zip(self._metrics, values, strict=True))
            if not all(map(math.isfinite, metrics.values())):
                raise TrainingDiverged(self._divergence(step, batch, metrics))
            if prints is not None:
                self._check_replicas(step, np.asarray(prints))
            for name, value in metrics.items():
                totals[name] += value / steps
            self._on_step(step, metrics, batch)
        for number, asked_for in zip(_STOP_SIGNALS, requests, strict=False):
            if asked_for:
                raise Interrupted(number)
        if requests[-1]:
            self._save()

    # Without AutoGraph, whose conversion would take half of the start-up time. What is frozen is an
    # argument because the graph depends on it.
    @tf.function(autograph=False)
    def _one_step(self, batch, requests, factors, frozen):
        """Runs a step; returns requests and metrics in one vector, and prints of the replicas."""
        replicas = self._strategy.num_replicas_in_sync
        statistics = [tf.identity(variable) for variable in self._statistics]
        step = tf.identity(self._global_step)

        def finish(strategy, gradients, values):
            """Updates the variables where the step is finite (cross-replica context)."""

            def update():
                variables = self._step.variables
                apply_gradients(self._optimizer, strategy, gradients, variables, factors)
                self._global_step.assign_add(1)
                return tf.constant(False)

            def undo():
                for variable, value in zip(self._statistics, statistics, strict=True):
                    variable.assign(value)
                return tf.constant(True)

            local = strategy.experimental_local_results(values)[0]
            finite = tf.reduce_all(tf.math.is_finite(local))
            good = tf.logical_and(finite, tf.logical_not(self._diverged))
            self._diverged.assign(tf.cond(good, update, undo))

        def on_replica(batch, requests):
            context = tf.distribute.get_replica_context()
            replica = context.replica_id_in_sync_group
            rows = batch["record_id"].shape[0]
            key = step_key(self._seed, step, replica)
            gradients, metrics = self._step(batch, key, replica * rows)
            self._metrics = [*metrics, "gradient_norm", "learning_rate"]
            numbers = [tf.cast(value, tf.float32) for value in metrics.values()]
            values = tf.concat([requests, tf.stack(numbers)], 0)
            prints = None
            if replicas > 1:
                gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
                values = context.all_reduce(tf.distribute.ReduceOp.SUM, values)
                prints = context.all_gather(_fingerprint(key, batch["record_id"]), axis=0)
            norm = tf.linalg.global_norm(gradients)
            rate = tf.cast(self._optimizer.learning_rate, tf.float32)
            values = tf.concat([values, [norm, rate]], 0)
            if self._clip_norm is not None:
                clipped = self._step.clipped
                first, _ = tf.clip_by_global_norm(gradients[:clipped], self._clip_norm)
                gradients = [*first, *gradients[clipped:]]
            context.merge_call(finish, args=(gradients, values))
            return values, prints

        results = self._strategy.run(on_replica, (batch, requests))
        # After the all-reduce all replicas hold the same totals: those of the first are read.
        return tf.nest.map_structure(
            lambda value: self._strategy.experimental_local_results(value)[0], results
        )

    def _check_replicas(self, step: int, fingerprints: np.ndarray) -> None:
        keys, data = check_replicas(fingerprints)
        self._equal_data = self._equal_data + 1 if data else 0
        wrong = keys or (data if self._equal_data >= _EQUAL_DATA else None)
        if wrong:
            raise ReplicasEqual(
                f"step {step}: {wrong}. More replicas then compute nothing new; look at TF_CONFIG "
                "(each worker has its own index) and at the data"
            )

    def _divergence(self, step: int, batch: Any, metrics: dict[str, float]) -> str:
        local = self._strategy.experimental_local_results(batch["record_id"])
        records = [int(record) for part in local for record in np.asarray(part)]
        shown = "; ".join(self._describe_record(record) for record in records[:8])
        more = f" and {len(records) - 8} more" if len(records) > 8 else ""
        values = ", ".join(f"{name} {value:g}" for name, value in metrics.items())
        return (
            f"step {step} is not finite ({values}). The weights are those before it. Its records: "
            f"{shown}{more}. Look at these, lower learning_rate.peak, or set gradient_clip_norm"
        )


def _fingerprint(key: tf.Tensor, record_ids: tf.Tensor) -> tf.Tensor:
    """Fingerprint of key and records of a replica, int32 ``[1, 3]``, see ``check_replicas``."""
    places = tf.range(1, record_ids.shape[0] + 1, dtype=tf.int64)
    checksum = tf.cast(tf.reduce_sum(record_ids * places) % (1 << 31), tf.int32)
    return tf.concat([tf.cast(key, tf.int32), [checksum]], 0)[tf.newaxis]
