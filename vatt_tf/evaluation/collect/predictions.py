"""Runs a classifier over a finite data set: the mean of its logits over the views of each clip.

Logits, not probabilities, are averaged over windows and crops, before softmax or sigmoid
(docs/reference.md, Evaluation views). The last, partly filled batch counts like any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vatt_tf.evaluation.collect import batches


@dataclasses.dataclass
class Predictions:
    """Predictions of a classifier for the clips of a data set; row i of everything is clip i.

    Attributes:
        scores: float32 [n, C], mean of the logits over the views.
        labels: float32 [n, C], 1 where the clip has the class.
        label_names: Names of the C classes.
        multi_label: Whether a clip may have several classes.
        modalities: Inputs of the classifier.
        filename: The n file names.
        start: float32 [n], start of the clip in its file, in seconds.
        end: float32 [n], its end.
        left_out: Clips that have none of the modalities; they are in no row.
        views: Views averaged per clip.
        strips: A few frames of each clip side by side as JPEG bytes; empty unless asked for.
    """

    scores: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    multi_label: bool
    modalities: tuple[str, ...]
    filename: list[str]
    start: np.ndarray
    end: np.ndarray
    left_out: int = 0
    views: int = 1
    strips: list[bytes] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.filename)


def logits_function(classifier: Any) -> batches.Function:
    """Compiles a classifier: dict of inputs -> logits [B, C]; keep it for repeated evaluations."""
    return batches.compiled(lambda inputs: classifier(inputs, training=False)["logits"])


def predict(
    classifier: Any,
    dataset: Iterable[dict[str, Any]],
    label_names: Sequence[str],
    *,
    function: batches.Function | None = None,
    limit: int | None = None,
    strip_frames: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Predictions:
    """Scores every clip of an evaluation data set.

    Args:
        classifier: Model with ``config.modalities`` and ``config.multi_label`` that gives
            ``logits`` for a dict of inputs and their ``<modality>_mask``.
        dataset: Batches of ``data.pipeline.evaluation_dataset(label_names=label_names)``.
        label_names: Names of the classes in the order of the classifier's outputs.
        function: The compiled classifier (:func:`logits_function`); give it when the same model
            is evaluated often.
        limit: Stop after that many clips.
        strip_frames: Frames per clip kept as a small JPEG for the report, 0 for none.
        progress: Called with the number of clips done after each batch.

    Raises:
        UserError: If the data set holds no clip with the modality, or a score is not finite.
    """
    config = classifier.config
    function = function or logits_function(classifier)
    views = 1

    def mean_logits(batch: batches.Batch) -> np.ndarray:
        nonlocal views
        views = batches.view_count(batch, config.modalities)
        mean = sum(
            share * np.asarray(function(inputs), np.float32)
            for inputs, share in batches.view_inputs(batch, config.modalities)
        )
        return np.asarray(mean)

    found = batches.collect_outputs(
        dataset,
        config.modalities,
        mean_logits,
        "the scores",
        limit=limit,
        progress=progress,
        strip_frames=strip_frames,
    )
    return Predictions(
        scores=found.values,
        label_names=tuple(label_names),
        multi_label=config.multi_label,
        modalities=tuple(config.modalities),
        views=views,
        strips=found.strips,
        **found.clips,
    )
