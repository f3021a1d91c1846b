"""Selects the training task of a configuration: pre-training or fine-tuning."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from vatt_tf import config as gin_config
from vatt_tf.data.input.pipeline import TRAINING_SPLITS
from vatt_tf.data.shards.index import list_shards
from vatt_tf.errors import UserError
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.vatt import abstract, build_vatt, parameter_counts
from vatt_tf.training.gradients.contrastive import Gather
from vatt_tf.training.tasks import finetune, pretrain
from vatt_tf.training.tasks.config import RunConfig, TrainConfig
from vatt_tf.training.tasks.finetune_config import FinetuneConfig
from vatt_tf.training.tasks.modalities import with_towers_of_data
from vatt_tf.training.tasks.run_data import StartedRun
from vatt_tf.training.tasks.task import Task


def configured_run() -> RunConfig:
    """Returns the run that the parsed gin files configure.

    Raises:
        UserError: If they configure no run, or one of each task.
    """
    kinds: dict[str, Any] = {"train": TrainConfig, "finetune": FinetuneConfig}
    return kinds[gin_config.only_configured(tuple(kinds))]()


def make_task(config: RunConfig, started: StartedRun | None = None) -> Task:
    """Builds the task of a run, with its data and initial weights.

    Args:
        config: The run.
        started: The run that is continued, which keeps its vocabulary and its classes.
    """
    if isinstance(config, TrainConfig):
        return pretrain.Pretraining(config, started)
    assert isinstance(config, FinetuneConfig)
    return finetune.Finetuning(config, started)


def as_trained(config: RunConfig, started: StartedRun | None) -> tuple[RunConfig, list[str]]:
    """Returns the run with the towers that its data can train, for estimates.

    Args:
        config: The run as configured.
        started: The run that is continued, or None.

    Returns:
        The run, as it is configured where its data are not there; notes for the user.

    Raises:
        UserError: If its data cannot train it.
    """
    if not isinstance(config, TrainConfig):
        return config, []
    for source in config.data:
        try:
            list_shards(source.path, TRAINING_SPLITS)
        except UserError:
            return config, [f"no shards at {source.path}: all configured towers are counted"]
    return with_towers_of_data(config, started)


def make_step(
    config: RunConfig, model: Any, micro_batch_size: int, gather: Gather = tf.identity
) -> Any:
    """Builds the gradient computation of a run, see :class:`vatt_tf.training.trainer.Trainer`."""
    if isinstance(config, TrainConfig):
        return pretrain.make_step(config, model, micro_batch_size, gather)
    assert isinstance(config, FinetuneConfig)
    return finetune.make_step(config, model, micro_batch_size, gather)


def build_model(config: RunConfig) -> Any:
    """Builds the model of a run with random weights."""
    build: Any = build_vatt if isinstance(config, TrainConfig) else build_classifier
    return build(config.model_config)


def count_parameters(config: RunConfig) -> dict[str, int]:
    """See :func:`vatt_tf.models.vatt.parameter_counts`; nothing is allocated."""
    return parameter_counts(abstract(lambda: build_model(config)))
