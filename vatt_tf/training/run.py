"""Runs a training configuration in a run directory."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator
from typing import Any

import keras
import orbit
import tensorflow as tf

from vatt_tf.data.input.service_client import watched
from vatt_tf.data.shards.index import describe_record_id
from vatt_tf.data.shards.provenance import known, write_data
from vatt_tf.data.shards.read_errors import read_errors
from vatt_tf.errors import Interrupted, UserError
from vatt_tf.models.io import CALIBRATION, save_weights
from vatt_tf.models.vatt import parameter_counts
from vatt_tf.training import estimate, preflight
from vatt_tf.training.callbacks import Watch
from vatt_tf.training.cluster.preemption import Preemption
from vatt_tf.training.cluster.strategy import (
    gather_function,
    is_chief,
    own_folder,
    wait_for_workers,
)
from vatt_tf.training.monitoring.guards import GuardAlarm
from vatt_tf.training.optimization import optimizer, schedule
from vatt_tf.training.saving import run_folder
from vatt_tf.training.saving.best import EarlyStop
from vatt_tf.training.saving.checkpoints import RunCheckpointManager
from vatt_tf.training.tasks import run_data
from vatt_tf.training.tasks.config import RunConfig
from vatt_tf.training.tasks.evaluator import InterruptibleEvaluator
from vatt_tf.training.tasks.registry import make_step, make_task
from vatt_tf.training.tasks.task import Task
from vatt_tf.training.trainer import ReplicasEqual, Trainer, TrainingDiverged

# Errors that all workers raise after the same step.
_SEEN_BY_ALL = (TrainingDiverged, ReplicasEqual, GuardAlarm, Interrupted)


def run(
    config: RunConfig,
    run_dir: str,
    strategy: tf.distribute.Strategy,
    stop_at_step: int | None = None,
    preemption: Preemption | None = None,
    *,
    continue_on_new_data: bool = False,
    quiet: bool = False,
) -> int:
    """Starts or resumes the run in ``run_dir`` and trains it.

    Args:
        config: The run.
        run_dir: Its folder; made if it is not there.
        strategy: Distribution strategy.
        stop_at_step: Step after which to save and stop; the schedule is that of ``config.steps``.
        preemption: Handler of Ctrl-C and SIGTERM; ``None`` for one that lasts as long as this call.
        continue_on_new_data: Resume a run although it was trained on other data.
        quiet: Shows no progress bar and no line about the run.

    Returns:
        The step that was reached.

    Raises:
        UserError: On anything wrong with data, configuration or folder.
        TrainingDiverged: If loss or gradients are not finite; the last good state is saved.
        Interrupted: On Ctrl-C and SIGTERM; the state is saved.
    """
    if preemption is not None:
        return _run(
            config, run_dir, strategy, stop_at_step, preemption, continue_on_new_data, quiet
        )
    with Preemption(run_dir) as own:
        return _run(config, run_dir, strategy, stop_at_step, own, continue_on_new_data, quiet)


def _run(
    config: RunConfig,
    run_dir: str,
    strategy: tf.distribute.Strategy,
    stop_at_step: int | None,
    preemption: Preemption,
    continue_on_new_data: bool,
    quiet: bool,
) -> int:
    alone = not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    chief = is_chief(strategy)
    replicas = strategy.num_replicas_in_sync
    batch_size, micro = config.sizes(replicas)
    # Before any tokenizer: setting TensorFlow's seed destroys the resources of SentencePiece.
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    started = run_data.started_run(run_dir)
    data = run_data.training_data(config.data)
    notes: list[str] = []
    if started is not None:  # compared before anything is written
        notes += run_data.check_data(started, data, continue_on_new_data)
    else:
        preflight.check_patches(config)
    task = make_task(config, started)
    config = task.config  # with the towers that its data train
    notes += task.notes
    if not quiet:
        print(estimate.summary(config, replicas, run_dir), file=sys.stderr)
    if started is not None:
        run_data.check_clip(started, task.clip)
        notes += run_data.vocabulary_notes(started, task.tokenizer, task.vocabulary_file())

    with strategy.scope():
        free = preflight.free_memory()  # before the weights, which the estimate counts
        model = task.model()
        preflight.check_memory(config, parameter_counts(model), replicas, free)
        model.set_remat(config.remat)
        global_step = tf.Variable(
            0,
            dtype=tf.int64,
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="global_step",
        )
        updates = optimizer.optimizer(schedule.learning_rate(total_steps=config.steps))
        step = make_step(config, model, micro, gather_function(replicas))
        updates.build(step.variables)

    if chief:
        # Data that are known to be the same may have moved.
        same_data = started is not None and (continue_on_new_data or known(data))
        notes += run_folder.start(run_dir, bool(config.evaluate_every), same_data)
        write_data(run_dir, data)
        # The calibration of earlier evaluations stays; it holds the hash of its weights.
        measured = None if started is None else started.description.get(CALIBRATION)
        task.describe(run_dir, **({CALIBRATION: measured} if measured else {}))
    manager = RunCheckpointManager(
        run_dir,
        model,
        updates,
        global_step,
        own_folder=own_folder(run_dir, strategy),
        every=config.checkpoint_every,
        minutes=config.checkpoint_minutes,
        max_to_keep=config.keep_checkpoints,
    )
    evaluator = task.evaluator(model) if config.evaluate_every else None
    # Of several workers none may leave an evaluation alone: the others would wait for it.
    if evaluator is not None and alone:
        evaluator = InterruptibleEvaluator(evaluator, preemption)
    watch = Watch(task, model, run_dir, batch_size, global_step, strategy, chief, quiet)
    trainer = Trainer(
        strategy=strategy,
        model=model,
        optimizer=updates,
        step=step,
        global_step=global_step,
        make_iterator=lambda start: reading.enter_context(
            contextlib.closing(_batches(task, strategy, batch_size, start))
        ),
        batch_size=batch_size,
        seed=config.seed,
        clip_norm=config.gradient_clip_norm,
        rates=task.rates(step),
        describe_record=lambda record: describe_record_id(record, config.data),
        on_step=watch.step,
        asked_to_stop=lambda: preemption.signal,
        # The clock of the chief decides for all: they have to save after the same step.
        asked_to_save=lambda: chief and manager.due(),
        save=manager.save_now,
    )
    with contextlib.ExitStack() as reading, run_folder.orbit_log(run_dir if chief else None):
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
        for note in notes:
            watch.say(f"note: {note}")
        # Signals wait here too, so that files written after the steps or after an error are whole.
        with preemption.between_steps():
            try:
                watch.start()
                if evaluator is not None:
                    _train_and_evaluate(controller, watch, last_step, config.evaluate_every)
                else:
                    controller.train(last_step)
            except EarlyStop as reason:
                manager.save_now()
                watch.say(str(reason))
            except UserError as error:
                # A save is collective: after an error of this worker alone it would wait for
                # others.
                if alone or isinstance(error, _SEEN_BY_ALL):
                    manager.save_now()
                    wait_for_workers(strategy)
                raise
            finally:
                watch.stop()
            if chief:
                save_weights(run_dir, model)
    return int(global_step.numpy())


def _train_and_evaluate(
    controller: orbit.Controller, watch: Watch, last_step: int, every: int
) -> None:
    """Evaluates after every multiple of ``every``, and at the end.

    Orbit would count from the step at which it starts: a run that continues would be evaluated
    after other steps than one that was not interrupted.
    """
    step = int(controller.global_step.numpy())
    if step and (step % every == 0 or step == last_step) and watch.evaluated != step:
        controller.evaluate()  # the run was interrupted in it
    while step < last_step:
        step = min(step - step % every + every, last_step)
        controller.train(step, checkpoint_at_completion=False)
        controller.evaluate()
    controller.save_checkpoint()


def _batches(
    task: Task, strategy: tf.distribute.Strategy, batch_size: int, start_step: int
) -> Generator[Any, None, None]:
    """Iterates over distributed batches from ``start_step`` on; each worker reads its own rows."""

    def per_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas = strategy.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * replicas
        return task.dataset(
            replicas=range(first, first + replicas),
            batch_size=batch_size // context.num_input_pipelines,
            global_batch_size=batch_size,
            seed=task.config.seed,
            start_step=start_step,
            num_workers=context.num_input_pipelines,
            worker_index=context.input_pipeline_id,
            shuffle_window=task.config.shuffle_window,
            prefetch=0,  # the strategy holds the next batch ready
        )

    batches = watched(
        iter(strategy.distribute_datasets_from_function(per_worker)), task.config.data_service
    )
    while True:
        with read_errors(task.config.data):
            batch = next(batches)
        yield batch


def _loop_length(step: int, config: RunConfig) -> int:
    """Steps between two returns to Python: to the next log line, checkpoint or evaluation."""
    marks = [config.log_every, config.checkpoint_every, config.evaluate_every]
    return min(mark - step % mark for mark in marks if mark)
