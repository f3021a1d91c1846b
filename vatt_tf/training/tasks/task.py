"""Interface of a training task: model, gradient computation, data, evaluation."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from vatt_tf.data.input.pipeline import EVALUATION_SPLITS, training_dataset
from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.service.server import service_dataset
from vatt_tf.data.shards.contents import fingerprint
from vatt_tf.evaluation.source import find_source
from vatt_tf.training.monitoring.guards import Guard
from vatt_tf.training.tasks.config import RunConfig


class Task(abc.ABC):
    """Base of the training tasks.

    Attributes:
        config: The run.
        clip: Shape of the clips that the model reads.
        tokenizer: Of the text tower; None for models that read no text.
        labels: Names of the classes; None where the labels are not read.
        notes: Messages for the user before the first step.
        patience: Evaluations without a better one after which to stop; 0: never.
        metric: What :meth:`score` is.
        windows: Windows of a clip in the evaluations of the run.
    """

    config: RunConfig
    clip: ClipSpec
    tokenizer: Any
    labels: tuple[str, ...] | None = None
    notes: Sequence[str] = ()
    patience: int = 0
    metric: str = "score"
    windows: int = 1

    def vocabulary_file(self) -> str | None:
        """Vocabulary of a new run from its data; None without one."""
        return None

    @abc.abstractmethod
    def model(self) -> Any:
        """Builds the model with its initial weights, a function of Keras's seed."""

    def dataset(self, replicas: range = range(1), **places: Any) -> tf.data.Dataset:
        """Training batches of one worker, one for each of its replicas in turn.

        Args:
            replicas: Numbers of the worker's replicas.
            **places: Go to ``training_dataset``.
        """
        config = self.config
        arguments = dict(
            sources=config.data,
            spec=self.clip,
            tokenizer=self.tokenizer,
            augmentation=config.augmentation,
            label_names=self.labels,
            tolerate_damage=config.max_damaged_share > 0,
            **places,
        )
        if config.data_service:
            dataset = service_dataset(config.data_service, **arguments)
        else:
            dataset = training_dataset(**arguments)
        if len(replicas) == 1:
            return dataset
        return dataset.rebatch(places["batch_size"] // len(replicas), drop_remainder=True)

    @abc.abstractmethod
    def describe(self, folder: str, **extra: Any) -> None:
        """Writes ``model.json`` and what belongs to it."""

    @abc.abstractmethod
    def evaluator(self, model: Any) -> Any:
        """Builds an ``orbit.AbstractEvaluator`` of the evaluation data."""

    @abc.abstractmethod
    def score(self, metrics: dict[str, float]) -> float:
        """Score of an evaluation by which the best weights are kept: higher is better."""

    def measured(self) -> dict[str, Any]:
        """Returns what a score belongs to: data, metric and windows of the evaluations."""
        source = find_source(self.config.eval_data or "")
        return {
            "eval_data": self.config.eval_data,
            "data": fingerprint(source.path, EVALUATION_SPLITS),
            "metric": self.metric,
            "windows": self.windows,
        }

    @abc.abstractmethod
    def guards(self, batch_size: int) -> list[Guard]:
        """Health checks of this task, for batches of ``batch_size``."""

    def rates(self, step: Any) -> Any:
        """Per-variable learning-rate multipliers at a step, or None."""
        return None
