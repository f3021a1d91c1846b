"""Evaluation job specification and result; which options apply to which task."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vatt_tf import paths
from vatt_tf.errors import UserError
from vatt_tf.evaluation.views import Views, views_of

if TYPE_CHECKING:  # The flags are read before TensorFlow is imported.
    from vatt_tf.evaluation.collect.activations import Activations
    from vatt_tf.evaluation.collect.embeddings import EmbeddingSet
    from vatt_tf.evaluation.collect.predictions import Predictions
    from vatt_tf.evaluation.source import EvaluationSource

TASKS = ("retrieval", "zero_shot", "classify", "probe")
CHECKPOINTS = ("newest", "best")
BEST = "best"
PROBES = ("logistic", "svm", "low_rank", "knn")
_TASKS_OF = {
    "prompts": ("zero_shot",),
    "labels": ("classify", "probe"),
    "crops": ("classify", "probe"),
    "train_data": ("probe",),
    "modality": ("probe",),
    "probe": ("probe",),
    "shots": ("probe",),
    "probe_steps": ("probe",),
    "random_baseline": ("retrieval",),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of ``vatt_tf.evaluate`` beside the run, the data and the task; None: not given.

    Attributes:
        checkpoint: ``"newest"``, or ``"best"`` for the weights in RUN/best.
        views: Protocol, a key of ``views.VIEWS``.
        windows: Windows of a clip, instead of those of the protocol.
        crops: Crops of a window.
        batch_size: Clips per batch; changes speed and memory, not the numbers.
        limit: Evaluate that many clips, the first ones in file order.
        prompts: Prompts file of the zero-shot task.
        labels: File with one class name per line, for weights or data that name none.
        train_data: Training clips of the probe.
        modality: Tower of the probe.
        probe: Classifiers of the probe, some of ``PROBES``.
        shots: Examples per class in the few-shot table.
        probe_steps: Steps of the low-rank classifier.
        random_baseline: Also evaluate the same towers at random weights.

    Raises:
        UserError: If a value is not possible.
    """

    checkpoint: str = "newest"
    views: str | None = None
    windows: int | None = None
    crops: int | None = None
    batch_size: int = 8
    limit: int | None = None
    prompts: str | None = None
    labels: str | None = None
    train_data: str | None = None
    modality: str | None = None
    probe: tuple[str, ...] | None = None
    shots: tuple[int, ...] | None = None
    probe_steps: int | None = None
    random_baseline: bool | None = None

    def __post_init__(self) -> None:
        paths.expand_fields(self, "prompts", "labels", "train_data")
        if self.checkpoint not in CHECKPOINTS:
            raise UserError(
                f"--checkpoint={self.checkpoint}: expected one of {', '.join(CHECKPOINTS)}"
            )
        for kind in self.probe or ():
            if kind not in PROBES:
                raise UserError(f"--probe={kind}: expected some of {', '.join(PROBES)}")


@dataclasses.dataclass(frozen=True)
class Job:
    """One evaluation of one run.

    Attributes:
        run_dir: Run directory or weights folder.
        data: See :func:`vatt_tf.evaluation.source.find_source`.
        task: One of ``TASKS``.
        options: Further options.
        keep: Whether to keep what reports show (frame strips, token and feature maps).
        quiet: Prints no progress bar and no table.
    """

    run_dir: str
    data: str
    task: str
    options: Options
    keep: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        paths.expand_fields(self, "run_dir", "data")

    def check(self) -> None:
        """Checks all that can be checked without opening models and data.

        Raises:
            UserError: If there is no such task or folder, or an option is not for the task.
        """
        if self.task not in TASKS:
            raise UserError(f"--task={self.task}: expected one of {', '.join(TASKS)}")
        for name, tasks in _TASKS_OF.items():
            if getattr(self.options, name) is not None and self.task not in tasks:
                raise UserError(
                    f"--{name} belongs to --task={'|'.join(tasks)}, the task is {self.task}"
                )
        if not pathlib.Path(self.run_dir).is_dir():
            raise UserError(
                f"--run_dir={self.run_dir}: no such folder; train one with vatt_tf.train"
            )
        if not pathlib.Path(self.weights).is_dir():
            raise UserError(
                f"--checkpoint=best: {self.run_dir} has no folder {BEST}; fine-tuning with "
                "evaluations keeps one, otherwise leave the flag out"
            )
        views_of(self.task, self.options.views, self.options.windows, self.options.crops)

    @property
    def weights(self) -> str:
        """Folder of the evaluated weights."""
        best = self.options.checkpoint == BEST
        return os.path.join(self.run_dir, BEST) if best else self.run_dir

    @property
    def views(self) -> Views:
        """Views of the protocol.

        Raises:
            UserError: If it is not for the task.
        """
        return views_of(self.task, self.options.views, self.options.windows, self.options.crops)


@dataclasses.dataclass
class Evaluation:
    """Result of an evaluation.

    Attributes:
        block: The task's part of the block of results.json.
        table: Formats the whole block for the terminal.
        source: Source of the clips.
        embeddings: Of the clips, for the report (retrieval and zero-shot classes).
        predictions: Of the clips, for the report (classification).
        activations: Of the clips, for the report.
        calibration: Of cosines (retrieval), see :mod:`vatt_tf.evaluation.calibration`.
    """

    block: dict[str, Any]
    table: Callable[[dict[str, Any]], str]
    source: EvaluationSource
    embeddings: EmbeddingSet | None = None
    predictions: Predictions | None = None
    activations: Activations | None = None
    calibration: dict[str, Any] | None = None
