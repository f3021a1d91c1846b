"""Linear probes on clips with several classes: one classifier per class, mean average precision.

PASCAL VOC 2007 is measured so in MMV; one linear SVM per class against the rest.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect.features import FeatureSet
from vatt_tf.evaluation.metrics.classification import (
    eleven_point_precision,
    multi_label_metrics,
)
from vatt_tf.evaluation.metrics.probe_classifiers import Scores
from vatt_tf.wording import count_of

KINDS = ("logistic", "svm")
FOLDS = 5
Grids = Mapping[str, tuple[str, tuple[float, ...]]]


@dataclasses.dataclass(frozen=True)
class _Clips:
    """Features float32 [n, views, d] and classes bool [n, C] of clips."""

    features: np.ndarray
    positive: np.ndarray

    def take(self, rows: np.ndarray) -> _Clips:
        return _Clips(self.features[rows], self.positive[rows])


def has_several_classes(sets: Sequence[FeatureSet]) -> bool:
    """Whether any clip has more than one class."""
    return any(bool(((part.labels > 0).sum(axis=1) > 1).any()) for part in sets)


def probe_multi_label(
    parts: Mapping[str, FeatureSet], *, kinds: Sequence[str], grids: Grids, seed: int
) -> dict[str, Any]:
    """Fits one linear classifier per class and measures them on ``parts["test"]``.

    A clip without a class is a negative of all. C is chosen by mean average precision on
    ``parts["val"]``, without one by cross-validation on ``parts["train"]``.

    Args:
        parts: ``train``, ``test`` and perhaps ``val``.
        kinds: Any of ``KINDS``.
        grids: Name of the setting and its values by kind.
        seed: Seed of the folds.

    Returns:
        The ``probe`` block of results.json without its head.

    Raises:
        UserError: A kind takes one class per clip only, fewer than two classes have training clips,
            or a class of the other clips has none.
    """
    strange = [kind for kind in kinds if kind not in KINDS]
    if strange:
        raise UserError(
            f"clips have several classes, and the probe {strange[0]} takes one class per clip: use "
            f"--probe={','.join(KINDS)}"
        )
    train, test = parts["train"], parts["test"]
    classes = _check_classes(parts)
    names = [train.label_names[c] for c in classes]
    clips = {name: _clips(part, classes) for name, part in parts.items()}
    positives = clips["test"].positive.sum(axis=0)
    block: dict[str, Any] = {
        "modality": train.modality,
        "multi_label": True,
        "classes": len(names),
        "labels": names,
        "pool_size": len(clips["test"].positive),
        "clips": len(test) + test.left_out,
        "train_pool_size": len(clips["train"].positive),
        "feature_size": train.features.shape[1],
        # Clips in random order: the precision is the fraction of the positives at any recall.
        "chance": {"mAP": float(positives[positives > 0].mean() / len(clips["test"].positive))},
    }
    for kind in kinds:
        setting, chosen = _choose(kind, clips, grids[kind], seed)
        scores = _scores(_fit(kind, clips["train"], setting), clips["test"])
        block[kind] = {**_measure(scores, clips["test"].positive, names), **chosen}
    return block


def _check_classes(parts: Mapping[str, FeatureSet]) -> list[int]:
    """Classes that have training clips; those of the other clips must be among them."""
    names = parts["train"].label_names
    classes = np.flatnonzero((parts["train"].labels > 0).any(axis=0)).tolist()
    if len(classes) < 2:
        raise UserError("the training clips have one class only; a probe needs at least two")
    for name, part in parts.items():
        found = np.flatnonzero((part.labels > 0).any(axis=0)).tolist()
        if not found:
            raise UserError(f"no {name} clip has a label")
        strange = [names[c] for c in found if c not in classes]
        if strange:
            raise UserError(
                f"{count_of(len(strange), 'class', 'classes')} of the {name} clips without a "
                "training clip "
                f"({', '.join(strange[:10])}): split the data so that every class is in train"
            )
    return classes


def _clips(part: FeatureSet, classes: Sequence[int]) -> _Clips:
    features = part.features[:, None] if part.by_view is None else part.by_view
    return _Clips(features, part.labels[:, classes] > 0)


def _fit(kind: str, train: _Clips, c: float) -> Scores:
    """One classifier per class on standardised features; each view is an example."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    views = train.features.shape[1]
    one = (
        LogisticRegression(C=c, max_iter=1000)
        if kind == "logistic"
        else LinearSVC(C=c, dual="auto", random_state=0)
    )
    model = make_pipeline(StandardScaler(), OneVsRestClassifier(one))
    with warnings.catch_warnings():
        # No convergence at the weak end of the grid; a class without positives in a fold.
        warnings.simplefilter("ignore")
        model.fit(
            train.features.reshape(-1, train.features.shape[-1]),
            np.repeat(train.positive, views, axis=0).astype(np.int64),
        )
    return model.predict_proba if kind == "logistic" else model.decision_function


def _scores(scores: Scores, clips: _Clips) -> np.ndarray:
    """Class scores of clips, averaged over their views: float64 [n, C]."""
    count, views, size = clips.features.shape
    found = np.asarray(scores(clips.features.reshape(-1, size)), np.float64)
    return found.reshape(count, views, -1).mean(axis=1)


def _choose(
    kind: str, clips: Mapping[str, _Clips], grid: tuple[str, tuple[float, ...]], seed: int
) -> tuple[float, dict[str, Any]]:
    """Best setting (the smallest of equals), and its entry in the block."""
    name, values = grid
    train = clips["train"]
    if "val" in clips:
        folds, where = [(train, clips["val"])], "val"
    else:
        from sklearn.model_selection import KFold

        count = min(FOLDS, len(train.positive))
        split = KFold(count, shuffle=True, random_state=seed).split(train.positive)
        folds = [(train.take(a), train.take(b)) for a, b in split]
        where = f"{count}-fold cross-validation on train"
    precision = {}
    for value in values:
        found = [_map(_scores(_fit(kind, a, value), b), b.positive) for a, b in folds]
        precision[value] = float(np.nanmean(found)) if not np.isnan(found).all() else 0.0
    best = max(values, key=lambda value: (precision[value], -value))
    tried = {f"{value:g}": round(score, 4) for value, score in precision.items()}
    return best, {name: best, "chosen_on": where, "tried": tried}


def _map(scores: np.ndarray, positive: np.ndarray) -> float:
    return multi_label_metrics(scores, positive, draws=0)["mAP"]


def _measure(scores: np.ndarray, positive: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    found = multi_label_metrics(scores, positive)
    counted = [c for c in range(len(names)) if positive[:, c].any()]
    eleven = [eleven_point_precision(scores[:, c], positive[:, c]) for c in counted]
    return {
        "mAP": found["mAP"],
        "confidence": {"mAP": found["confidence"]["mAP"]},
        "eleven_points": {"mAP": float(np.mean(eleven))},
        "average_precision": {names[c]: float(found["class_ap"][c]) for c in counted},
    }


def format_multi_label(block: dict[str, Any], grids: Grids) -> str:
    """Formats the block as the table that ``vatt_tf.evaluate`` prints."""
    head = f"{'classifier':<12}{'mAP':>28}{'mAP, 11 points':>18}   setting"
    lines = [head, "-" * len(head)]
    for kind in (kind for kind in KINDS if kind in block):
        part = block[kind]
        low, high = part["confidence"]["mAP"]
        cell = f"{100 * part['mAP']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        cell += f" ({100 * block['chance']['mAP']:.1f})"
        name = grids[kind][0]
        lines.append(
            f"{kind:<12}{cell:>28}{100 * part['eleven_points']['mAP']:>18.1f}   "
            f"{name} = {part[name]:g}, chosen on {part['chosen_on']}"
        )
    lines.append("(%, 95 % interval of the bootstrap over clips, chance in brackets)")
    lines.append(
        f"{block['modality']} features of {block['feature_size']} numbers; "
        f"{count_of(block['train_pool_size'], 'training clip')}, "
        f"{count_of(block['pool_size'], 'test clip')}, "
        f"{count_of(block['classes'], 'class', 'classes')}, several per clip"
    )
    return "\n".join(lines)
