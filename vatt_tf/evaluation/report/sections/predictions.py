"""Example clips with the predictions of a classifier: right and wrong, sure and unsure."""

from __future__ import annotations

import html
from collections.abc import Iterator

import numpy as np

from vatt_tf.evaluation.collect.predictions import Predictions
from vatt_tf.evaluation.report import elements

EXAMPLES, TOP = 3, 5


def section(predictions: Predictions) -> str:
    """Section with three clips of each kind and the classes that the model holds likeliest."""
    probability = probabilities(predictions.scores, predictions.multi_label)
    body = "".join(
        f'<h3>{title}</h3><div class="predictions">'
        + "".join(_example(predictions, probability, i) for i in chosen)
        + "</div>"
        for title, chosen in _kinds(predictions, probability)
        if len(chosen)
    )
    hint = (
        "Predictions for single clips: the likeliest classes with their probabilities; the "
        "true ones are marked."
    )
    return elements.card("Examples of its predictions", hint, body)


def probabilities(scores: np.ndarray, multi_label: bool) -> np.ndarray:
    """Softmax over the classes, or the sigmoid of each: logits [n, C] -> float64 [n, C]."""
    scores = scores.astype(np.float64)
    if multi_label:
        return 0.5 * (1.0 + np.tanh(scores / 2))
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def _kinds(predictions: Predictions, probability: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(title, clips). Right is a clip whose true classes are its likeliest ones."""
    true = predictions.labels > 0
    count = true.sum(axis=1)
    place = np.argsort(np.argsort(-probability, axis=1, kind="stable"), axis=1)
    worst = np.where(true, place, -1).max(axis=1)
    right = np.flatnonzero((count > 0) & (worst < count))
    wrong = np.flatnonzero((count > 0) & (worst >= count))
    sure = probability.max(axis=1)
    right = right[np.argsort(-sure[right], kind="stable")]
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    yield "Right and sure", right[:EXAMPLES]
    yield "Right, but unsure", right[EXAMPLES:][-EXAMPLES:]
    yield "Wrong and sure", wrong[:EXAMPLES]
    yield "Wrong and unsure", wrong[EXAMPLES:][-EXAMPLES:]


def _example(predictions: Predictions, probability: np.ndarray, i: int) -> str:
    """HTML of a clip: frames, likeliest classes, and the true ones that are not among them."""
    true = predictions.labels[i] > 0
    first = list(np.argsort(-probability[i], kind="stable")[:TOP])
    first += [c for c in np.flatnonzero(true) if c not in first]
    likeliest = "".join(
        f'<div class="prediction{" true" if true[c] else ""}"><span>'
        + ("\N{CHECK MARK} " if true[c] else "")
        + f"{html.escape(predictions.label_names[c])}</span>"
        + elements.bar(probability[i, c], style="right" if true[c] else "other")
        + f"<span>{100 * probability[i, c]:.1f} %</span></div>"
        for c in first
    )
    picture = elements.strip(predictions.strips[i]) if predictions.strips else ""
    where = f"{predictions.filename[i]} at {predictions.start[i]:.1f} s"
    return (
        f'<div class="example">{picture}<div><div class="where">{html.escape(where)}</div>'
        f"{likeliest}</div></div>"
    )
