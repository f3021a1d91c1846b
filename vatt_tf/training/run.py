"""A pre-training run from its configuration to its folder."""

from __future__ import annotations

import glob
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import orbit
import tensorflow as tf

from vatt_tf.data.pipeline import training_dataset
from vatt_tf.data.read_errors import read_errors
from vatt_tf.data.sources import HOW_TO_MAKE_SHARDS, describe_record_id
from vatt_tf.data.tokenizer import load_tokenizer
from vatt_tf.errors import UserError
from vatt_tf.models.io import (
    load_pretrained,
    read_description,
    save_description,
    save_weights,
)
from vatt_tf.models.transfer import transfer_weights
from vatt_tf.models.vatt import VATT, build_vatt
from vatt_tf.training import optimizer, run_folder, schedule
from vatt_tf.training.checkpoints import RunCheckpointManager
from vatt_tf.training.config import TrainConfig
from vatt_tf.training.evaluator import RetrievalEvaluator
from vatt_tf.training.progress import MetricsLog, ProgressBar
from vatt_tf.training.step import PretrainStep
from vatt_tf.training.strategy import gather_function, is_chief, wait_for_workers
from vatt_tf.training.trainer import PretrainTrainer, TrainingDiverged


def make_tokenizer(config: TrainConfig) -> Any:
    """The configured tokenizer, checked against the model's vocabulary."""
    file = config.tokenizer_file or _with_weights(config) or _beside(config.data[0].path)
    tokenizer = load_tokenizer(file, config.tokenizer, config.model.text.max_tokens)
    if tokenizer.vocab_size > config.model.text.vocab_size:
        raise UserError(
            f"{file}: {tokenizer.vocab_size} tokens, but text_tower.vocab_size is "
            f"{config.model.text.vocab_size}; raise it or make a smaller vocabulary"
        )
    return tokenizer


def _with_weights(config: TrainConfig) -> str | None:
    """The tokenizer that belongs to the word table of the initial weights."""
    if config.initial_weights is None:
        return None
    stored = read_description(config.initial_weights)["tokenizer"]
    if stored is None:
        raise UserError(
            f"train.initial_weights={config.initial_weights}: holds no vocabulary; convert it with "
            "--vocabulary, or set train.tokenizer_file to the one that it was trained with"
        )
    return os.path.join(config.initial_weights, stored["file"])


def _beside(path: str | tuple[str, ...]) -> str:
    """The ``tokenizer`` folder that ``prepare`` writes above the splits."""
    shards = pathlib.Path(path if isinstance(path, str) else path[0])
    for folder in (shards, *shards.parents[:2]):
        if (folder / "tokenizer").is_dir():
            return str(folder / "tokenizer")
    if not glob.glob(str(shards)):
        raise UserError(f"{shards}: nothing there; {HOW_TO_MAKE_SHARDS}")
    raise UserError(f"{shards}: no folder tokenizer/ beside these shards; set train.tokenizer_file")


def make_model(config: TrainConfig, tokenizer: Any) -> VATT:
    """A built model with its initial weights, which depend on Keras's seed alone."""
    keras.config.set_dtype_policy(config.precision)
    model = build_vatt(config.model)
    if config.initial_weights is not None:
        source, _, _ = load_pretrained(config.initial_weights)
        for path in transfer_weights(source, model, config.initial_weights):
            print(f"{config.initial_weights}: {path} interpolated to {config.clip}")
    if config.word_vectors is not None:
        from vatt_tf.data.word_vectors import load_word_vectors

        vectors, missing = load_word_vectors(config.word_vectors, tokenizer.words)
        # The table may have more rows than there are words: the rest is never looked up.
        unused = max(config.model.text.vocab_size - len(vectors), 0)
        model.set_word_vectors(np.pad(vectors, ((0, unused), (0, 0))))
        print(f"{config.word_vectors}: no vector for {len(missing)} of {len(vectors)} words")
    return model


def run(
    config: TrainConfig,
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
    tokenizer = make_tokenizer(config)

    with strategy.scope():
        model = make_model(config, tokenizer)
        global_step = tf.Variable(
            0,
            dtype=tf.int64,
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name="global_step",
        )
        rate = schedule.learning_rate(total_steps=config.steps)
        adam = optimizer.optimizer(rate)
        step = PretrainStep(
            model, config.objective, micro, gather_function(replicas), config.jit_compile
        )
        adam.build(step.variables)

    if chief:
        run_folder.start(run_dir)
        save_description(run_dir, config.model, config.clip, tokenizer, eval_data=config.eval_data)
    manager = RunCheckpointManager(
        run_dir,
        model,
        adam,
        global_step,
        chief=chief,
        worker=_worker(strategy),
        max_to_keep=config.keep_checkpoints,
        checkpoint_interval=config.checkpoint_every,
    )
    watch = _Watch(config, run_dir, batch_size, global_step, chief)
    trainer = PretrainTrainer(
        strategy=strategy,
        model=model,
        optimizer=adam,
        step=step,
        global_step=global_step,
        make_iterator=lambda start: _batches(config, tokenizer, strategy, batch_size, start),
        batch_size=batch_size,
        seed=config.seed,
        clip_norm=config.gradient_clip_norm,
        describe_record=lambda record: describe_record_id(record, config.data),
        on_step=watch.step,
    )
    evaluator = None
    if config.evaluate_every and config.eval_data:
        evaluator = RetrievalEvaluator(model, config.eval_data, config.clip, tokenizer)
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
        config: TrainConfig,
        run_dir: str,
        batch_size: int,
        global_step: tf.Variable,
        chief: bool,
    ) -> None:
        self._config, self._run_dir, self._batch_size = config, run_dir, batch_size
        self._global_step, self._chief = global_step, chief

    def start(self) -> None:
        first = int(self._global_step.numpy())
        if first and self._chief:
            print(
                f"{self._run_dir}: continues after step {first} of {self._config.steps}",
                file=sys.stderr,
            )
        self._bar = ProgressBar(first, self._config.steps, self._batch_size, self._chief)
        self._log = MetricsLog(self._run_dir, first) if self._chief else None

    def step(self, step: int, metrics: dict[str, float]) -> None:
        self._bar(step, metrics)

    def train(self, metrics: dict[str, float]) -> None:
        if self._log is not None:
            self._log.write("train", int(self._global_step.numpy()), metrics)
            run_folder.write_operative_config(self._run_dir)

    def evaluation(self, metrics: dict[str, float]) -> None:
        if self._log is not None:
            self._log.write("eval", int(self._global_step.numpy()), metrics)

    def stop(self) -> None:
        if hasattr(self, "_bar"):
            self._bar.close()


def _batches(
    config: TrainConfig,
    tokenizer: Any,
    strategy: tf.distribute.Strategy,
    batch_size: int,
    start_step: int,
) -> Iterator[Any]:
    """Distributed batches from ``start_step`` on; each worker reads its own rows."""

    def per_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        dataset = training_dataset(
            config.data,
            config.clip,
            tokenizer,
            config.augmentation,
            batch_size=batch_size // context.num_input_pipelines,
            global_batch_size=batch_size,
            seed=config.seed,
            start_step=start_step,
            num_workers=context.num_input_pipelines,
            worker_index=context.input_pipeline_id,
            shuffle_buffer=config.shuffle_buffer,
            prefetch=0,  # the strategy holds the next batch ready
        )
        replicas = strategy.num_replicas_in_sync
        if context.num_input_pipelines == replicas:
            return dataset
        return dataset.rebatch(batch_size // replicas, drop_remainder=True)

    batches = iter(strategy.distribute_datasets_from_function(per_worker))
    while True:
        with read_errors(config.data):
            batch = next(batches)
        yield batch


def _loop_length(step: int, config: TrainConfig) -> int:
    """Steps to the next log line, checkpoint or evaluation."""
    marks = [config.log_every, config.checkpoint_every, config.evaluate_every]
    return min(mark - step % mark for mark in marks if mark)


def _worker(strategy: tf.distribute.Strategy) -> int:
    resolver = strategy.cluster_resolver
    return (resolver.task_id or 0) if resolver is not None else 0
