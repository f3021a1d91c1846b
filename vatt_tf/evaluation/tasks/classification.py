"""Classes of clips: from predictions to the ``classify`` block of results.json and its table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect.predictions import Predictions
from vatt_tf.evaluation.metrics import classification as classification_metrics
from vatt_tf.wording import METRIC_NAMES, count_of, fixed, percent, shortened, wrapped

# Larger confusion matrices are neither readable nor small.
CONFUSION_CLASSES = 200
SINGLE_LABEL = ("top1", "top5", "mean_class_accuracy")
MULTI_LABEL = ("mAP", "mean_auc", "d_prime_mean", "d_prime_of_mean_auc")


def classification_block(predictions: Predictions, *, confidence: bool = True) -> dict[str, Any]:
    """Computes the ``classify`` block of results.json, without its head.

    A classifier with softmax needs clips with exactly one class: those without any are left out
    and counted. For one with sigmoids a clip without a class is a negative one of all classes.

    Args:
        predictions: Scores and labels of the clips.
        confidence: Whether to add bootstrap intervals (the costly part).

    Returns:
        Dict of JSON values; accuracies are fractions.

    Raises:
        UserError: If no clip has a label, or a clip has several labels and the classifier does
            not take them.
    """
    head = {
        "classes": len(predictions.label_names),
        "labels": list(predictions.label_names),
        "multi_label": predictions.multi_label,
        "clips": len(predictions) + predictions.left_out,
    }
    if not (predictions.labels > 0).any():
        raise UserError(
            "no clip has a label: give labels to `vatt_tf.prepare` by a manifest CSV with the "
            "column `label`"
        )
    if predictions.multi_label:
        draws = classification_metrics.MULTI_LABEL_DRAWS if confidence else 0
        scores, labels = predictions.scores, predictions.labels
        return {**head, **multi_label_block(scores, labels, predictions.label_names, draws=draws)}
    return {**head, **_single_label(predictions, confidence)}


def true_classes(
    labels: np.ndarray, filename: Sequence[str], label_names: Sequence[str]
) -> np.ndarray:
    """Index of the only class of each clip, -1 for none: int64 [n] of multi-hot labels [n, C].

    Raises:
        UserError: If a clip has several classes; names the first one.
    """
    counts = (labels > 0).sum(axis=1)
    if (counts > 1).any():
        first = int(np.flatnonzero(counts > 1)[0])
        several = [label_names[c] for c in np.flatnonzero(labels[first] > 0).tolist()]
        raise UserError(
            f"{int((counts > 1).sum())} of {len(labels)} clips have several classes (first: "
            f"{filename[first]}: {', '.join(several)}), but this task takes one class per clip; "
            "train with classifier.multi_label=True, or label each clip once"
        )
    return np.where(counts == 1, labels.argmax(axis=1), -1)


def _single_label(predictions: Predictions, confidence: bool) -> dict[str, Any]:
    truth = true_classes(predictions.labels, predictions.filename, predictions.label_names)
    scores, truth = predictions.scores[truth >= 0], truth[truth >= 0]
    names = predictions.label_names
    draws = classification_metrics.DRAWS if confidence else 0
    found = classification_metrics.single_label_metrics(scores, truth, draws=draws)
    block: dict[str, Any] = {
        "pool_size": len(truth),
        "chance": chance(len(names)),
        "confidence": found["confidence"],
        **{name: found[name] for name in SINGLE_LABEL if name in found},
        "per_class": {
            name: {"top1": float(accuracy), "clips": int(clips)}
            for name, accuracy, clips in zip(
                names, found["class_accuracy"], found["class_clips"], strict=True
            )
            if clips
        },
    }
    if len(names) <= CONFUSION_CLASSES:
        block["confusion"] = classification_metrics.confusion_matrix(scores, truth).tolist()
    return block


def chance(classes: int) -> dict[str, float]:
    """Chance level of each accuracy, under the same keys."""
    guesses = {"top1": 1 / classes, "mean_class_accuracy": 1 / classes}
    return guesses | ({"top5": 5 / classes} if classes > 5 else {})


def multi_label_block(
    scores: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    draws: int = classification_metrics.MULTI_LABEL_DRAWS,
) -> dict[str, Any]:
    """The numbers of clips that may have several classes, as JSON values.

    Args:
        scores: float [n, C].
        labels: [n, C], not 0 where the clip has the class.
        names: The C classes.
        draws: Resamples of the confidence intervals; 0 for none.
    """
    found = classification_metrics.multi_label_metrics(scores, labels, draws=draws)
    clips = found["class_clips"]
    counted = clips > 0
    return {
        "pool_size": len(scores),
        # In random order the precision of a class is its fraction of the clips at any recall.
        "chance": {
            "mAP": float(clips[counted].mean() / len(scores)),
            "mean_auc": 0.5,
            "d_prime_mean": 0.0,
            "d_prime_of_mean_auc": 0.0,
        },
        "confidence": found["confidence"],
        **{name: _number(found[name]) for name in MULTI_LABEL},
        "per_class": {
            name: {
                "ap": float(found["class_ap"][c]),
                "auc": _number(found["class_auc"][c]),
                "d_prime": _number(found["class_d_prime"][c]),
                "clips": int(clips[c]),
            }
            for c, name in enumerate(names)
            if counted[c]
        },
        "without_positives": [name for name, some in zip(names, counted, strict=True) if not some],
        "without_negatives": [
            name for name, n in zip(names, clips, strict=True) if n == len(scores)
        ],
    }


def _number(value: float) -> float | None:
    """Returns None for NaN, which JSON does not have."""
    return None if math.isnan(value) else float(value)


def format_classification(block: dict[str, Any], most: int = 20) -> str:
    """Formats the block as the table that ``vatt_tf.evaluate`` prints."""
    lines = metric_lines(block)
    lines.append(
        f"{block['pool_size']} of {count_of(block['clips'], 'clip')}, "
        f"{count_of(block['classes'], 'class', 'classes')}"
    )
    if block.get("without_positives"):
        left_out = [shortened(name, 31) for name in block["without_positives"]]
        lines.append(
            wrapped(
                f"{count_of(len(left_out), 'class', 'classes')} without a clip left out: "
                f"{', '.join(left_out[:8])}" + (" ..." if len(left_out) > 8 else "")
            )
        )
    metric = "ap" if block["multi_label"] else "top1"
    ordered = sorted(block["per_class"].items(), key=lambda item: item[1][metric])
    lines += ["", f"{'class':<32}{METRIC_NAMES[metric]:>8}{'clips':>8}   (the hardest first)"]
    lines += [
        f"{shortened(name, 31):<32}{percent(part[metric]):>8}{part['clips']:>8}"
        for name, part in ordered[:most]
    ]
    if len(ordered) > most:
        lines.append(f"... and {len(ordered) - most} more classes in results.json")
    protocol = block["protocol"]
    lines += [
        "",
        f"protocol: {protocol['views']}: {count_of(protocol['windows'], 'window')} x "
        f"{count_of(protocol['crops'], 'crop')}, {protocol['aggregation']}",
    ]
    return "\n".join(lines)


def metric_lines(block: dict[str, Any]) -> list[str]:
    """A line per metric, with its interval and chance."""
    guess, lines = block["chance"], []
    for name in SINGLE_LABEL + MULTI_LABEL:
        if block.get(name) is None:
            continue
        scale, unit = (1, "") if name in MULTI_LABEL[1:] else (100, " %")
        digits = 1 if unit else 2
        low, high = (fixed(scale * x, digits) for x in block["confidence"][name])
        lines.append(
            f"{METRIC_NAMES.get(name, name):<20}{fixed(scale * block[name], digits):>8}{unit}  "
            f"[{low}, {high}]  (chance {fixed(scale * guess[name], digits)}{unit})"
        )
    lines.append("(in brackets the 95 % interval of the bootstrap over clips)")
    return lines
