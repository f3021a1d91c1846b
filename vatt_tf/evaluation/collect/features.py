"""Features of clips from a frozen tower, before any head, for linear probes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect import batches
from vatt_tf.models.features import pooled_features


@dataclasses.dataclass
class FeatureSet:
    """Pooled features of the clips of a data set; row i of everything is clip i.

    Attributes:
        features: float32 [n, d], mean over the views.
        by_view: float32 [n, views, d], or None where it was not asked for.
        labels: float32 [n, C], 1 where the clip has the class.
        label_names: Names of the C classes.
        modality: Tower that the features come from.
        filename: The n file names.
        start: float32 [n], start of the clip in its file, in seconds.
        end: float32 [n], its end.
        left_out: Clips that lack the modality; they are in no row.
    """

    features: np.ndarray
    by_view: np.ndarray | None
    labels: np.ndarray
    label_names: tuple[str, ...]
    modality: str
    filename: list[str]
    start: np.ndarray
    end: np.ndarray
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.filename)


def features_function(model: Any, modality: str) -> batches.Function:
    """Compiles a tower: dict of inputs -> pooled features [B, d].

    Args:
        model: A VATT, or a classifier that has a tower for the modality.
        modality: ``"video"``, ``"audio"`` or ``"text"``.

    Raises:
        UserError: If the model has no tower for the modality.
    """
    modalities = model.config.modalities
    if modality not in modalities:
        raise UserError(
            f"--modality={modality}: the model reads {' and '.join(modalities)} only; choose "
            f"--modality={modalities[0]} or another checkpoint"
        )
    tower = model.towers[modality]
    return batches.compiled(lambda inputs: pooled_features(tower, inputs[modality]))


def extract_features(
    model: Any,
    dataset: Iterable[dict[str, Any]],
    modality: str,
    label_names: Sequence[str] = (),
    *,
    by_view: bool = False,
    function: batches.Function | None = None,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> FeatureSet:
    """Runs a tower over every clip of an evaluation data set.

    Args:
        model: A VATT or a classifier.
        dataset: Batches of ``data.pipeline.evaluation_dataset(label_names=label_names)``.
        modality: Tower to run.
        label_names: Names of the classes.
        by_view: Keep the features of each view as well.
        function: The compiled tower (:func:`features_function`), for several data sets.
        limit: Stop after that many clips.
        progress: Called with the number of clips done after each batch.

    Raises:
        UserError: If no clip has the modality, or a feature is not finite; names the clip.
    """
    function = function or features_function(model, modality)

    def views_of(batch: batches.Batch) -> np.ndarray:
        views: list[np.ndarray] = [np.zeros(0)] * batches.view_count(batch, (modality,))
        for inputs, numbers in batches.numbered_views(batch, (modality,)):
            value = np.asarray(function(inputs), np.float32)
            for v in numbers:
                views[v] = value
        stacked = np.stack(views, axis=1)
        return stacked if by_view else stacked.mean(axis=1, keepdims=True)

    found = batches.collect_outputs(
        dataset, (modality,), views_of, f"{modality} features", limit=limit, progress=progress
    )
    return FeatureSet(
        features=found.values.mean(axis=1),
        by_view=found.values if by_view else None,
        label_names=tuple(label_names),
        modality=modality,
        **found.clips,
    )
