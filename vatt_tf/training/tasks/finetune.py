"""Fine-tuning: classes of clips, from the towers of an earlier run or from scratch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orbit
import tensorflow as tf

from vatt_tf.data.input.pipeline import (
    EVALUATION_SPLITS,
    TRAINING_SPLITS,
    evaluation_dataset,
)
from vatt_tf.data.shards.read_errors import read_errors
from vatt_tf.data.shards.summary import (
    check_classes,
    check_scored,
    class_counts,
    join_inventories,
    read_inventory,
    refuse_shared,
)
from vatt_tf.data.text.tokenizer import load_tokenizer
from vatt_tf.evaluation.collect.predictions import logits_function, predict
from vatt_tf.evaluation.source import find_source
from vatt_tf.evaluation.tasks.classification import classification_block
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.initial import changed_options, load_initial_weights, stored_tokenizer
from vatt_tf.models.io import save_description
from vatt_tf.training.gradients.classification import ClassificationStep, with_mixing_shares
from vatt_tf.training.gradients.contrastive import Gather
from vatt_tf.training.monitoring.guards import Chance, Guard
from vatt_tf.training.optimization.layerwise_decay import layerwise_multipliers
from vatt_tf.training.tasks.finetune_config import FinetuneConfig
from vatt_tf.training.tasks.pretrain import tokenizer_beside
from vatt_tf.training.tasks.run_data import StartedRun, run_clip
from vatt_tf.training.tasks.run_data import check_classes as check_labels
from vatt_tf.training.tasks.task import Task


class Finetuning(Task):
    """Fine-tuning task, see :class:`vatt_tf.training.tasks.task.Task`.

    Args:
        config: The run.
        started: The run that is continued: it keeps its classes and its vocabulary. None for a
            new one.

    Attributes:
        labels: Names of the classes.
        model_config: The resolved configuration of the classifier.

    Raises:
        UserError: If the data have unknown classes, classes without examples or a single one, if
            clips of the evaluation data are training clips, or if the weights do not fit; if the
            run that is continued has other classes.
    """

    config: FinetuneConfig
    labels: tuple[str, ...]

    def __init__(self, config: FinetuneConfig, started: StartedRun | None = None) -> None:
        self.config = config
        self.patience, self.windows = config.patience, config.eval_windows
        self.labels = config.label_names()
        if started is not None:
            check_labels(started, self.labels, config.labels or str(config.data[0].path))
        self.model_config = config.model.resolve(len(self.labels), config.initial_weights)
        self.metric = "mAP" if self.model_config.multi_label else "top1"
        self.clip = run_clip(config, started)
        own = None if started is None else started.tokenizer()
        self.tokenizer = _tokenizer(config, self.model_config) if own is None else own
        self._check_data()

    def _check_data(self) -> None:
        config = self.config
        clips = [read_inventory(source, TRAINING_SPLITS) for source in config.data]
        check_classes(
            join_inventories(clips),
            self.labels,
            "training data",
            single_label=not config.model.multi_label,
        )
        if not config.eval_data:
            return
        self._source = find_source(config.eval_data)
        held_out = read_inventory(self._source.data_source(), EVALUATION_SPLITS)
        class_counts(held_out, self.labels)  # refuses unknown classes
        if config.evaluate_every:
            check_scored(held_out, config.name, single_label=not config.model.multi_label)
        if not config.allow_shared_clips:
            for part in clips:
                refuse_shared(part, held_out, config.name)

    def model(self) -> Any:
        """Builds the classifier with its initial weights."""
        model = build_classifier(self.model_config)
        if self.config.initial_weights is not None:
            weights = self.config.initial_weights
            for line in changed_options(weights, self.clip, self.config.name):
                print(line)
            for line in load_initial_weights(model, weights, self.labels):
                print(line)
        return model

    def dataset(self, replicas: range = range(1), **places: Any) -> tf.data.Dataset:
        """Training batches, with what mixup draws: ``Task.dataset``."""
        batches, alpha = super().dataset(replicas, **places), self.config.mixup_alpha
        if not alpha:
            return batches
        start_step = places.get("start_step", 0)
        return with_mixing_shares(batches, alpha, places["seed"], start_step, replicas)

    def describe(self, folder: str, **extra: Any) -> None:
        """Writes ``model.json``."""
        extra = {"labels": list(self.labels), "eval_data": self.config.eval_data, **extra}
        save_description(folder, self.model_config, self.clip, self.tokenizer, **extra)

    def evaluator(self, model: Any) -> ClassificationEvaluator:
        """Returns the evaluator of the evaluation data."""
        return ClassificationEvaluator(
            model,
            self._source,
            self.labels,
            self.clip,
            self.tokenizer,
            windows=self.config.eval_windows,
        )

    def score(self, metrics: dict[str, float]) -> float:
        """Top-1 accuracy, or mAP where clips have several labels."""
        return metrics[self.metric]

    def guards(self, batch_size: int) -> list[Guard]:
        """Health check of the chance-level loss, where there is one."""
        if self.model_config.multi_label:
            return []
        # Cross entropy with equal logits, with and without label smoothing.
        return [Chance(self.config.guards, {"loss": math.log(len(self.labels))})]

    def rates(self, step: ClassificationStep) -> Callable[[int], Sequence[float]] | None:
        """Learning-rate multipliers: 0 for frozen towers, then lower for lower layers."""
        frozen, decay = self.config.frozen, self.config.layer_decay
        if not frozen and decay == 1.0:
            return None
        later = layerwise_multipliers(step.variables, step.clipped, decay)
        first = [0.0] * step.clipped + later[step.clipped :]
        return lambda number: first if number < frozen else later


def make_step(
    config: FinetuneConfig, model: Any, micro_batch_size: int, gather: Gather = tf.identity
) -> ClassificationStep:
    """Returns the gradient computation, a ``ClassificationStep``."""
    return ClassificationStep(
        model,
        label_smoothing=config.label_smoothing,
        mixup_alpha=config.mixup_alpha,
        class_balance=config.class_balance,
        micro_batch_size=micro_batch_size,
        gather=gather,
        jit_compile=config.jit_compile,
    )


def _tokenizer(config: FinetuneConfig, model_config: Any) -> Any:
    """The tokenizer of the text tower's weights; None for models that read no text."""
    if "text" not in model_config.modalities:
        return None
    weights = config.initial_weights
    folder = weights.get("text") if isinstance(weights, dict) else weights
    tokenizer = stored_tokenizer(folder) if folder else None
    if tokenizer is not None:
        return tokenizer
    file = tokenizer_beside(config.data[0].path)
    return load_tokenizer(file, "word", model_config.towers["text"].max_tokens)


class ClassificationEvaluator(orbit.AbstractEvaluator):
    """Scores the clips of the evaluation data during training.

    Args:
        model: The model that is being trained.
        source: Result of ``find_source``.
        labels: Names of the classes.
        clip: Shape of a clip.
        tokenizer: Of the text tower, or None.
        windows: Windows averaged per clip.
        batch_size: Clips scored at a time.
    """

    def __init__(
        self,
        model: Any,
        source: Any,
        labels: Sequence[str],
        clip: Any,
        tokenizer: Any,
        windows: int = 1,
        batch_size: int = 16,
    ) -> None:
        self._model, self._source, self._labels = model, source, labels
        self._function = logits_function(model)  # compiled once for all evaluations
        self._dataset = evaluation_dataset(
            source.data_source(),
            clip,
            tokenizer,
            batch_size=batch_size,
            windows=windows,
            label_names=labels,
        )

    def evaluate(self, num_steps: Any) -> dict[str, float]:
        """Evaluates all clips, whatever ``num_steps`` is."""
        with read_errors(self._source.path, splits=EVALUATION_SPLITS):
            found = predict(self._model, self._dataset, self._labels, function=self._function)
        block = classification_block(found, confidence=False)
        return {
            name: float(value)
            for name, value in block.items()
            if isinstance(value, float) and np.isfinite(value)
        }
