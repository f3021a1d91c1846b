"""Logging and monitoring callbacks of a training run."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import tensorflow as tf

from vatt_tf.data.shards.damage import DamageLog
from vatt_tf.layers.batch_norm import batch_norms
from vatt_tf.models.io import save_weights
from vatt_tf.training.cluster.strategy import own_folder
from vatt_tf.training.monitoring.guards import (
    Collapse,
    FrozenStatistics,
    GuardAlarm,
    Guards,
    Starvation,
)
from vatt_tf.training.monitoring.progress import MetricsLog, ProgressBar, last_evaluation
from vatt_tf.training.saving import run_folder
from vatt_tf.training.saving.best import BestWeights, EarlyStop
from vatt_tf.training.tasks.task import Task


class Watch:
    """Callbacks of a run: progress bar, metrics, alerts, corrupt records, best weights.

    All workers take the same decisions (alerts, early stop); the chief alone writes and prints.

    Args:
        task: What is trained.
        model: Its model.
        run_dir: Folder of the run.
        batch_size: Clips of a step.
        global_step: Counts finished steps.
        strategy: Where the steps run.
        chief: Whether this process writes.
        quiet: Shows no progress bar.

    Attributes:
        evaluated: Step of the last evaluation that is finished when the run starts; 0 for none.
    """

    def __init__(
        self,
        task: Task,
        model: Any,
        run_dir: str,
        batch_size: int,
        global_step: tf.Variable,
        strategy: tf.distribute.Strategy,
        chief: bool,
        quiet: bool = False,
    ) -> None:
        self._task, self._run_dir, self._batch_size = task, run_dir, batch_size
        self._global_step, self._strategy, self._chief = global_step, strategy, chief
        self._visible = chief and not quiet
        self._bar: ProgressBar | None = None
        self.evaluated = 0

        def save(folder: str, **extra: Any) -> None:
            os.makedirs(folder)
            task.describe(folder, **extra)
            save_weights(folder, model)

        config = task.config
        self._best = BestWeights(
            run_dir,
            save if chief else None,
            config.evaluate_every,
            task.patience,
            task.measured() if config.evaluate_every else None,
        )
        self._guards = Guards(
            config.guards,
            [
                Collapse(config.guards),
                Starvation(config.guards),
                FrozenStatistics(batch_norms(model)),
                *task.guards(batch_size),
            ],
        )
        # Each worker counts the corrupt records of its own rows; the chief's list is in run_dir.
        self._damage = DamageLog(
            config.data, own_folder(run_dir, strategy), config.max_damaged_share
        )

    def start(self) -> None:
        """Opens log and progress bar before the first step, after the checkpoint is restored."""
        first = int(self._global_step.numpy())
        if first:
            self.say(f"{self._run_dir}: continues after step {first} of {self._task.config.steps}")
        self._damage.start()
        # On every worker: an evaluation is a collective operation, all have to take part.
        self.evaluated = last_evaluation(self._run_dir, first)
        self._log = MetricsLog(self._run_dir, first) if self._chief else None
        if note := self._best.restore(first, self.evaluated):
            self.say(f"note: {note}")
        self._bar = ProgressBar(first, self._task.config.steps, self._batch_size, self._visible)

    def step(self, step: int, metrics: dict[str, float], batch: Any) -> None:
        """Advances the progress bar and notes corrupt records after each step."""
        assert self._bar is not None
        self._bar(step, metrics)
        if "damaged" in batch:
            damaged = self._local(batch["damaged"])
            if damaged.any():
                self._damage.add(self._local(batch["record_id"])[damaged])

    def train(self, metrics: dict[str, float]) -> None:
        """Writes metrics and raises alerts at each log line (an action of orbit's controller)."""
        step = int(self._global_step.numpy())
        alarms = self._guards.check(metrics)
        if self._log is not None:
            self._log.write("train", step, metrics)
            run_folder.write_operative_config(self._run_dir)
        for alarm in alarms:
            if self._log is not None:
                self._log.write("alarm", step, {"guard": alarm.guard, "message": alarm.message})
            if alarm.ends_run:
                raise GuardAlarm(f"step {step}: {alarm.message}; the state is saved")
            self.say(f"\nwarning: step {step}: {alarm.message}")

    def evaluation(self, metrics: dict[str, float]) -> None:
        """Keeps the best weights after each evaluation (an action of orbit's controller)."""
        step = int(self._global_step.numpy())
        try:
            self._best.update(step, self._task.score(metrics))
        except EarlyStop:
            self._write_evaluation(step, metrics)
            raise
        # Last: a run that is killed before this line repeats the evaluation when it resumes.
        self._write_evaluation(step, metrics)

    def _write_evaluation(self, step: int, metrics: dict[str, float]) -> None:
        if self._log is not None:
            self._log.write("eval", step, metrics)

    def say(self, message: str) -> None:
        """Prints a line on the chief's terminal."""
        if self._chief:
            print(message, file=sys.stderr)

    def stop(self) -> None:
        """Closes the progress bar."""
        if self._bar is not None:
            self._bar.close()

    def _local(self, values: Any) -> np.ndarray:
        parts = self._strategy.experimental_local_results(values)
        return np.concatenate([np.asarray(part) for part in parts])
