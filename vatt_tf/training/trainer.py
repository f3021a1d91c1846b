"""Inner training loop: a batch, gradients summed over the replicas, one optimizer step."""

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
from vatt_tf.layers.batch_norm import on_replicas
from vatt_tf.training.gradients.contrastive import step_key
from vatt_tf.training.monitoring.guards import check_replicas

# Steps in a row with equal clips on two replicas before it is an error: tiny data sets repeat.
_EQUAL_DATA = 3
# In order of precedence for the exit code, where workers get different signals.
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingDiverged(UserError):
    """Raised when loss or gradients are not finite. The model keeps the last finite state."""


class ReplicasEqual(UserError):
    """Raised when replicas draw equal dropout masks or read equal clips."""


class Trainer(orbit.AbstractTrainer):
    """Runs training steps under any strategy, driven by orbit's Controller.

    A step is two device functions, the gradients of the whole batch and the update. The host checks
    the result between them, so that no loss or gradient that is not finite changes a weight.

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
        describe_record: From a ``record_id`` to its description in error messages.
        on_step: Called after each step with its number, its metrics and its batch.
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

    def train(self, num_steps: Any) -> dict[str, float]:
        """Runs ``num_steps`` steps and returns the mean of each metric over them.

        Raises:
            TrainingDiverged: If loss or gradients are not finite.
            ReplicasEqual: If replicas do not differ.
            Interrupted: After a step at which any worker was asked to stop.
        """
        totals: dict[str, float] = collections.defaultdict(float)
        steps = int(num_steps)
        if self._batches is None:
            self._batches = self._make_iterator(int(self._global_step.numpy()))
        waiting, start = 0.0, time.monotonic()
        for _ in range(steps):
            asked = time.monotonic()
            batch = next(self._batches)
            waiting += time.monotonic() - asked
            metrics, requests = self._one_step(batch)
            for name, value in metrics.items():
                totals[name] += value / steps
            step = int(self._global_step.numpy())
            self._on_step(step, metrics, batch)
            del batch  # frees its memory before the next one is read
            for number, asked_for in zip(_STOP_SIGNALS, requests, strict=False):
                if asked_for:
                    raise Interrupted(number)
            if requests[-1]:
                self._save()
        seconds = max(time.monotonic() - start, 1e-9)
        totals["clips_per_second"] = steps * self._batch_size / seconds
        totals["input_wait_share"] = waiting / seconds
        return dict(totals)

    def _one_step(self, batch: Any) -> tuple[dict[str, float], np.ndarray]:
        """Runs a step; returns metrics and the replicas' requests: stop by each signal, save."""
        rate = float(np.asarray(self._optimizer.learning_rate))
        stop = self._asked_to_stop()
        own_requests = [stop == number for number in _STOP_SIGNALS] + [self._asked_to_save()]
        gradients, device_metrics, statistics, prints = self._compute(
            batch, self._global_step, tf.cast(own_requests, tf.float32)
        )
        requests = np.asarray(device_metrics.pop("requests"))
        metrics = {name: float(value) for name, value in device_metrics.items()}
        if not all(math.isfinite(value) for value in metrics.values()):
            for variable, value in zip(self._statistics, statistics, strict=True):
                variable.assign(value)
            raise TrainingDiverged(self._divergence(batch, metrics))
        if prints is not None:
            self._check_replicas(np.asarray(prints))
        step_number = int(self._global_step.numpy())
        factors = self._rates(step_number) if self._rates is not None else None
        self._apply(gradients, None if factors is None else tf.constant(factors, tf.float32))
        self._global_step.assign_add(1)
        return {**metrics, "learning_rate": rate}, requests

    # Without AutoGraph, whose conversion would take half of the start-up time.
    @tf.function(autograph=False)
    def _compute(self, batch, step, requests):
        statistics = [tf.identity(variable) for variable in self._statistics]
        replicas = self._strategy.num_replicas_in_sync

        def on_replica(batch, requests):
            context = tf.distribute.get_replica_context()
            replica = context.replica_id_in_sync_group
            rows = batch["record_id"].shape[0]
            key = step_key(self._seed, step, replica)
            with on_replicas(replicas):
                gradients, metrics = self._step(batch, key, replica * rows)
            # All-reduce needs tensors with a device; inputs of a graph have none.
            metrics["requests"] = tf.identity(requests)
            prints = None
            if replicas > 1:
                gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
                metrics = context.all_reduce(tf.distribute.ReduceOp.SUM, metrics)
                prints = context.all_gather(_fingerprint(key, batch["record_id"]), axis=0)
            metrics = {**metrics, "gradient_norm": tf.linalg.global_norm(gradients)}
            if self._clip_norm is not None:
                clipped = self._step.clipped
                first, _ = tf.clip_by_global_norm(gradients[:clipped], self._clip_norm)
                gradients = [*first, *gradients[clipped:]]
            return gradients, metrics, prints

        gradients, metrics, prints = self._strategy.run(on_replica, (batch, requests))
        # After the all-reduce all replicas hold the same totals: those of the first are read.
        metrics, prints = tf.nest.map_structure(
            lambda value: self._strategy.experimental_local_results(value)[0], (metrics, prints)
        )
        return gradients, metrics, statistics, prints

    @tf.function(autograph=False)
    def _apply(self, gradients, rates):
        replicas = self._strategy.num_replicas_in_sync
        variables = self._step.variables

        before = [] if rates is None else [tf.identity(variable.value) for variable in variables]

        def on_replica(gradients):
            # Keras sums over the replicas again inside apply().
            if replicas > 1:
                gradients = [gradient / replicas for gradient in gradients]
            self._optimizer.apply(gradients, variables)

        self._strategy.run(on_replica, (gradients,))
        # Scaling the finished update scales the rate: every optimizer's change, weight decay
        # included, is proportional to it.
        for number, value in enumerate(before):
            change = variables[number].value - value
            variables[number].assign(value + tf.cast(rates[number], value.dtype) * change)

    def _check_replicas(self, fingerprints: np.ndarray) -> None:
        keys, data = check_replicas(fingerprints)
        self._equal_data = self._equal_data + 1 if data else 0
        wrong = keys or (data if self._equal_data >= _EQUAL_DATA else None)
        if wrong:
            raise ReplicasEqual(
                f"step {int(self._global_step.numpy()) + 1}: {wrong}. More replicas then compute "
                "nothing new; look at TF_CONFIG (each worker has its own index) and at the data"
            )

    def _divergence(self, batch: Any, metrics: dict[str, float]) -> str:
        local = self._strategy.experimental_local_results(batch["record_id"])
        records = [int(record) for part in local for record in np.asarray(part)]
        shown = "; ".join(self._describe_record(record) for record in records[:8])
        more = f" and {len(records) - 8} more" if len(records) > 8 else ""
        values = ", ".join(f"{name} {value:g}" for name, value in metrics.items())
        return (
            f"step {int(self._global_step.numpy()) + 1} is not finite ({values}). The weights are "
            f"those before it. Its records: {shown}{more}. Look at these, lower "
            "learning_rate.peak, or set gradient_clip_norm"
        )


def _fingerprint(key: tf.Tensor, record_ids: tf.Tensor) -> tf.Tensor:
    """Fingerprint of key and records of a replica, int32 ``[1, 3]``, see ``check_replicas``."""
    places = tf.range(1, record_ids.shape[0] + 1, dtype=tf.int64)
    checksum = tf.cast(tf.reduce_sum(record_ids * places) % (1 << 31), tf.int32)
    return tf.concat([tf.cast(key, tf.int32), [checksum]], 0)[tf.newaxis]
