"""Metrics of classifiers as pure NumPy functions: accuracies, average precision, AUC, d'.

Accuracies are tie-aware as all ranks here are (see ``metrics``): a model that scores all classes
alike reaches exactly chance. Equal scores are one step of the precision-recall and ROC curves.

d' exists in two conventions that are not comparable (docs/reference.md, Classification metrics):
``d_prime_mean`` is the mean of the classes' d' (VATT's code and its tables),
``d_prime_of_mean_auc`` is the d' of the mean AUC (most other AudioSet papers).
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import Any

import numpy as np

from vatt_tf.evaluation.metrics import retrieval as metrics
from vatt_tf.evaluation.metrics.bootstrap import DRAWS, bootstrap

# Every draw of the bootstrap sums over all clips of all classes.
MULTI_LABEL_DRAWS = 200


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Clips of one class from the highest score to the lowest; equal scores are one step.

    Attributes:
        order: int64 [n], clips from the highest score on.
        positive: bool [n], whether the clip has the class, in that order.
        ends: int64 [steps], place of the last clip of each step.
    """

    order: np.ndarray
    positive: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, positive: np.ndarray) -> Ranking:
        """Ranks clips by their scores, float [n]; ``positive`` is bool [n]."""
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(order) - 1)
        return cls(order, np.asarray(positive, bool)[order], ends)

    def average_precision(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Sum over the steps of (gain of recall) x precision, as scikit-learn defines it.

        Args:
            weights: float [draws, n], how often each clip counts; once by default.

        Returns:
            float64 [draws] ([1] without weights); NaN where no positive clip counts.
        """
        positives, negatives = self._steps(weights)
        right = np.cumsum(positives, axis=1)
        listed = right + np.cumsum(negatives, axis=1)
        precision = right / np.maximum(listed, 1.0)
        with np.errstate(invalid="ignore"):
            return (positives * precision).sum(axis=1) / right[:, -1]

    def auc(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Area under the ROC curve: a positive clip scores above a negative one, ties count half.

        Args:
            weights: See :meth:`average_precision`.

        Returns:
            float64 [draws]; NaN where no positive or no negative clip counts.
        """
        positives, negatives = self._steps(weights)
        below = negatives.sum(axis=1, keepdims=True) - np.cumsum(negatives, axis=1)
        won = (positives * (below + negatives / 2)).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return won / (positives.sum(axis=1) * negatives.sum(axis=1))

    def _steps(self, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Positive and negative clips of each step, float64 [draws, steps]."""
        ordered = np.ones((1, len(self.order))) if weights is None else weights[:, self.order]
        begins = np.append(0, self.ends[:-1] + 1)
        return (
            np.add.reduceat(ordered * self.positive, begins, axis=1),
            np.add.reduceat(ordered * ~self.positive, begins, axis=1),
        )


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Average precision of one class, float [n] and bool [n]; NaN without positive clips."""
    return float(Ranking.of(scores, positive).average_precision()[0])


def eleven_point_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Average precision as PASCAL VOC 2007 measures it: at the recalls 0, 0.1 ... 1.

    At each the best precision of any larger recall counts. NaN without positive clips.

    Args:
        scores: float [n].
        positive: bool [n].
    """
    ranking = Ranking.of(scores, positive)
    right = np.cumsum(ranking.positive)[ranking.ends]
    if not right[-1]:
        return math.nan
    precision, recall = right / (ranking.ends + 1), right / right[-1]
    best = [precision[recall >= level / 10].max() for level in range(11)]
    return float(np.mean(best))


def d_prime(auc: float, resolution: float = 0.0) -> float:
    """sqrt(2) * inverse normal distribution of the AUC (.958 -> 2.444, .5 -> 0).

    Args:
        auc: Area under the ROC curve in [0, 1].
        resolution: The AUC is kept that far from 0 and 1, where d' would be infinite.
    """
    kept = min(max(auc, resolution), 1.0 - resolution)
    if kept in (0.0, 1.0):
        return math.copysign(math.inf, kept - 0.5)
    return math.sqrt(2.0) * statistics.NormalDist().inv_cdf(kept)


def confusion_matrix(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Confusion matrix, int64 [C, C]: clips of class (row) that were taken for class (column).

    Of equally good classes the first is taken.

    Args:
        scores: float [n, C].
        truth: int [n].
    """
    classes = scores.shape[1]
    guessed = np.argmax(scores, axis=1)
    return np.bincount(truth * classes + guessed, minlength=classes**2).reshape(classes, classes)


def single_label_metrics(
    scores: np.ndarray, truth: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Accuracies of a classifier of clips that have one class each.

    Args:
        scores: float [n, C], higher is likelier.
        truth: int [n], the class of each clip.
        draws: Resamples of the confidence intervals; 0 for none.
        seed: Seed of the resamples.

    Returns:
        ``top1``, ``top5`` (only with more than 5 classes), ``mean_class_accuracy`` (over the
        classes that have clips), ``class_accuracy`` float64 [C] (NaN without clips),
        ``class_clips`` int64 [C] and ``confidence``: metric -> [low, high].

    Raises:
        ValueError: If shapes do not fit or a score is not finite.
    """
    classes = scores.shape[1]
    hits = {f"top{k}": metrics.top_k_hits(scores, truth, k) for k in (1, 5) if k < classes}
    member = np.eye(classes)[truth]
    clips = member.sum(axis=0)

    def summary(weights: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore"):
            by_class = (weights * hits["top1"]) @ member / (weights @ member)
        means = {name: weights @ value / len(truth) for name, value in hits.items()}
        return {**means, "mean_class_accuracy": np.nanmean(by_class, axis=1)}

    with np.errstate(invalid="ignore"):
        by_class = hits["top1"] @ member / clips
    return {
        **{name: float(value[0]) for name, value in summary(np.ones((1, len(truth)))).items()},
        "class_accuracy": by_class,
        "class_clips": clips.astype(np.int64),
        "confidence": bootstrap(summary, len(truth), draws=draws, seed=seed) if draws else {},
    }


def multi_label_metrics(
    scores: np.ndarray, labels: np.ndarray, *, draws: int = MULTI_LABEL_DRAWS, seed: int = 0
) -> dict[str, Any]:
    """Ranking metrics of a classifier of clips that may have several classes.

    Classes without a positive or without a negative clip have no AUC, and those without a positive
    one no average precision: they are left out of the means. An AUC of 0 or 1, whose d' is
    infinite, counts as half a step (one pair of clips) away from it.

    Args:
        scores: float [n, C].
        labels: [n, C], not 0 where the clip has the class.
        draws: Resamples of the confidence intervals; 0 for none.
        seed: Seed of the resamples.

    Returns:
        ``mAP``, ``mean_auc``, ``d_prime_mean``, ``d_prime_of_mean_auc``; ``class_ap``,
        ``class_auc`` and ``class_d_prime`` float64 [C] (NaN for those left out), ``class_clips``
        int64 [C] and ``confidence``: metric -> [low, high]. A mean over no class is NaN.

    Raises:
        ValueError: If shapes do not fit or a score is not finite.
    """
    positive = np.asarray(labels) > 0
    if scores.shape != positive.shape or 0 in scores.shape:
        raise ValueError(f"scores {scores.shape} and labels {positive.shape} must be [n, C]")
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity")
    rankings = [Ranking.of(scores[:, c], positive[:, c]) for c in range(scores.shape[1])]
    clips = positive.sum(axis=0)
    pairs = clips * (len(scores) - clips)
    step = 0.5 / np.maximum(pairs, 1)
    mean_step = float(step[pairs > 0].mean()) if pairs.any() else 0.0

    def by_class(weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Average precision, AUC and d' of the classes, float64 [draws, C]."""
        ap = np.stack([r.average_precision(weights) for r in rankings], axis=1)
        auc = np.stack([r.auc(weights) for r in rankings], axis=1)
        return ap, auc, _d_primes(auc, step)

    def summary(weights: np.ndarray | None) -> dict[str, np.ndarray]:
        ap, auc, prime = by_class(weights)
        mean_auc = _mean(auc)
        return {
            "mAP": _mean(ap),
            "mean_auc": mean_auc,
            "d_prime_mean": _mean(prime),
            "d_prime_of_mean_auc": _d_primes(mean_auc, mean_step),
        }

    ap, auc, prime = (value[0] for value in by_class(None))
    return {
        **{name: float(value[0]) for name, value in summary(None).items()},
        "class_ap": ap,
        "class_auc": auc,
        "class_d_prime": prime,
        "class_clips": clips.astype(np.int64),
        "confidence": bootstrap(summary, len(scores), draws=draws, seed=seed) if draws else {},
    }


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN where nothing is left."""
    kept = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(kept, values, 0.0).sum(axis=-1) / kept.sum(axis=-1)


def _d_primes(auc: np.ndarray, resolution: np.ndarray | float) -> np.ndarray:
    """:func:`d_prime` of each element; NaN stays NaN."""
    values = np.broadcast_arrays(auc, resolution)
    primes = [
        math.nan if math.isnan(a) else d_prime(a, r)
        for a, r in zip(*(value.ravel().tolist() for value in values), strict=True)
    ]
    return np.array(primes).reshape(np.shape(auc))
