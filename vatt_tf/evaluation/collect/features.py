"""Features of clips from a frozen tower, before any head, for linear probes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect import batches
from vatt_tf.models.features import pooled_features

_COLUMNS = ("filename", "start", "end", "labels")


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
    table = batches.ClipTable()
    found: list[np.ndarray] = []
    left_out = 0
    for batch, rows in batches.real_clips(dataset, limit, progress):
        usable = rows[batches.has_modality(batch, modality)[rows]]
        left_out += len(rows) - len(usable)
        if not usable.size:
            continue
        views: list[np.ndarray] = [np.zeros(0)] * batches.view_count(batch, (modality,))
        for inputs, numbers in batches.numbered_views(batch, (modality,)):
            value = np.asarray(function(inputs), np.float32)[usable]
            for v in numbers:
                views[v] = value
        stacked = np.stack(views, axis=1)
        found.append(stacked if by_view else stacked.mean(axis=1, keepdims=True))
        table.add(batch, usable, _COLUMNS)
    if not found:
        raise UserError(
            f"none of the {left_out} clips has {modality}: choose another --modality or other data"
        )
    features, names = np.concatenate(found), table.strings("filename")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=(1, 2)))
    if bad.size:
        raise UserError(
            f"{modality} features of {bad.size} of {len(names)} clips are NaN or infinite (first: "
            f"{names[bad[0]]}): the weights are broken or the run diverged; take an earlier "
            "checkpoint"
        )
    return FeatureSet(
        features=features.mean(axis=1),
        by_view=features if by_view else None,
        labels=table.column("labels").astype(np.float32),
        label_names=tuple(label_names),
        modality=modality,
        filename=names,
        start=table.column("start").astype(np.float32),
        end=table.column("end").astype(np.float32),
        left_out=left_out,
    )
