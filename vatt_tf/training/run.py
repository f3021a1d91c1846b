"""A training run from its configuration to its folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import keras
import orbit
import tensorflow as tf

from vatt_tf.data.read_errors import read_errors
from vatt_tf.data.sources import describe_record_id
from vatt_tf.models.io import save_weights
from vatt_tf.training import optimizer, run_folder, schedule
from vatt_tf.training.best import BestWeights, EarlyStop
from vatt_tf.training.checkpoints import RunCheckpointManager
from vatt_tf.training.config import RunConfig, TrainConfig
from vatt_tf.training.finetune import Finetuning
from vatt_tf.training.finetune_config import FinetuneConfig
from vatt_tf.training.pretrain import Pretraining
from vatt_tf.training.progress import MetricsLog, ProgressBar
from vatt_tf.training.strategy import gather_function, is_chief, wait_for_workers
from vatt_tf.training.task import Task
from vatt_tf.training.trainer import Trainer, TrainingDiverged


def make_task(config: RunConfig) -> Task:
    """What the run trains."""
    if isinstance(config, TrainConfig):
        return Pretraining(config)
    assert isinstance(config, FinetuneConfig)
    return Finetuning(config)


def run(
    config: RunConfig,
    run_dir: str,
    strategy: tf.distribute.Strategy,
    stop_at_step: int | None = None,
) -> int:
    """Trains, or continues, the run in ``run_dir``.

    Args:
        config: The run.
        run_dir: Its folder; made if it is not there.
        strategy: Where it runs.
        stop_at_step: Stop (and save) here although the schedule is made for ``config.steps``.

    Returns:
        The step that was reached.

    Raises:
        UserError: On anything wrong with data, configuration or folder.
        TrainingDiverged: If loss or gradients are not finite; the last good state is saved.
    """
    chief = is_chief(strategy)
    replicas = strategy.num_replicas_in_sync
    batch_size, micro = config.sizes(replicas)
    # First of all: TensorFlow's seed takes existing SentencePiece tokenizers their resource.
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    task = make_task(config)

    with strategy.scope():
        model = task.model()
        global_step = tf.Variable(
            0,
            dtype=tf.int64,
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="global_step",
        )
        updates = optimizer.optimizer(schedule.learning_rate(total_steps=config.steps))
        step = task.step(model, micro, gather_function(replicas))
        updates.build(step.variables)

    if chief:
        run_folder.start(run_dir)
        task.describe(run_dir)
    manager = RunCheckpointManager(
        run_dir,
        model,
        updates,
        global_step,
        chief=chief,
        worker=_worker(strategy),
        max_to_keep=config.keep_checkpoints,
        checkpoint_interval=config.checkpoint_every,
    )
    evaluator = task.evaluator(model) if config.evaluate_every else None
    watch = _Watch(task, model, run_dir, batch_size, global_step, chief)
    trainer = Trainer(
        strategy=strategy,
        model=model,
        optimizer=updates,
        step=step,
        global_step=global_step,
        make_iterator=lambda start: _batches(task, strategy, batch_size, start),
        batch_size=batch_size,
        seed=config.seed,
        clip_norm=config.gradient_clip_norm,
        rates=task.rates(step),
        describe_record=lambda record: describe_record_id(record, config.data),
        on_step=watch.step,
    )
    with run_folder.orbit_log(run_dir if chief else None):
        controller = orbit.Controller(
            global_step=global_step,
            trainer=trainer,
            evaluator=evaluator,
            strategy=strategy,
            train_actions=[watch.train],
            eval_actions=[watch.evaluation],
            steps_per_loop=lambda step: _loop_length(int(step), config),
            checkpoint_manager=manager,  # restores the newest checkpoint here
            summary_dir=os.path.join(run_dir, "tensorboard") if chief else None,
        )
        last_step = min(stop_at_step or config.steps, config.steps)
        try:
            watch.start()
            if evaluator is not None:
                controller.train_and_evaluate(last_step, -1, config.evaluate_every)
            else:
                controller.train(last_step)
        except EarlyStop as reason:
            manager.save(checkpoint_number=global_step)
            watch.say(str(reason))
        except TrainingDiverged:
            manager.save(checkpoint_number=global_step)
            raise
        finally:
            watch.stop()
    if chief:
        save_weights(run_dir, model)
    wait_for_workers(strategy)
    return int(global_step.numpy())


class _Watch:
    """Tells people and files how the run goes; silent on all workers but the chief."""

    def __init__(
        self,
        task: Task,
        model: Any,
        run_dir: str,
        batch_size: int,
        global_step: tf.Variable,
        chief: bool,
    ) -> None:
        self._task, self._run_dir, self._batch_size = task, run_dir, batch_size
        self._steps = task.config.steps
        self._global_step, self._chief = global_step, chief

        def save(folder: str, **extra: Any) -> None:
            os.makedirs(folder)
            task.describe(folder, **extra)
            save_weights(folder, model)

        self._best = BestWeights(
            run_dir, save if chief else None, task.config.evaluate_every, task.patience
        )

    def start(self) -> None:
        first = int(self._global_step.numpy())
        if first:
            self.say(f"{self._run_dir}: continues after step {first} of {self._steps}")
        self._bar = ProgressBar(first, self._steps, self._batch_size, self._chief)
        self._log = MetricsLog(self._run_dir, first) if self._chief else None
        self._best.restore(first)

    def step(self, step: int, metrics: dict[str, float]) -> None:
        self._bar(step, metrics)

    def train(self, metrics: dict[str, float]) -> None:
        if self._log is not None:
            self._log.write("train", int(self._global_step.numpy()), metrics)
            run_folder.write_operative_config(self._run_dir)

    def evaluation(self, metrics: dict[str, float]) -> None:
        step = int(self._global_step.numpy())
        if self._log is not None:
            self._log.write("eval", step, metrics)
        self._best.update(step, self._task.score(metrics))

    def say(self, message: str) -> None:
        if self._chief:
            print(message, file=sys.stderr)

    def stop(self) -> None:
        if hasattr(self, "_bar"):
            self._bar.close()


def _batches(
    task: Task, strategy: tf.distribute.Strategy, batch_size: int, start_step: int
) -> Iterator[Any]:
    """Distributed batches from ``start_step`` on; each worker reads its own rows."""

    def per_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        dataset = task.dataset(
            batch_size=batch_size // context.num_input_pipelines,
            global_batch_size=batch_size,
            seed=task.config.seed,
            start_step=start_step,
            num_workers=context.num_input_pipelines,
            worker_index=context.input_pipeline_id,
            shuffle_buffer=task.config.shuffle_buffer,
            prefetch=0,  # the strategy holds the next batch ready
        )
        replicas = strategy.num_replicas_in_sync
        if context.num_input_pipelines == replicas:
            return dataset
        return dataset.rebatch(batch_size // replicas, drop_remainder=True)

    batches = iter(strategy.distribute_datasets_from_function(per_worker))
    while True:
        with read_errors(task.config.data):
            batch = next(batches)
        yield batch


def _loop_length(step: int, config: RunConfig) -> int:
    """Steps to the next log line, checkpoint or evaluation."""
    marks = [config.log_every, config.checkpoint_every, config.evaluate_every]
    return min(mark - step % mark for mark in marks if mark)


def _worker(strategy: tf.distribute.Strategy) -> int:
    resolver = strategy.cluster_resolver
    return (resolver.task_id or 0) if resolver is not None else 0
