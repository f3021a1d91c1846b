"""Losses of fine-tuning: cross entropy over classes, and the weights of its recipes."""

from __future__ import annotations

from typing import Any

from keras import ops


def smooth_labels(labels: Any, amount: float) -> Any:
    """``(1 - a) y + a / C`` (docs/reference.md, Fine-tuning).

    Args:
        labels: float32 ``[b, C]``, rows that sum to 1.
        amount: a in [0, 1).
    """
    return (1.0 - amount) * labels + amount / labels.shape[-1]


def softmax_cross_entropy(logits: Any, labels: Any) -> Any:
    """Cross entropy of each clip in float32, ``[b]``; ``logits`` and ``labels`` are ``[b, C]``."""
    logits, labels = ops.cast(logits, "float32"), ops.cast(labels, "float32")
    return -ops.sum(labels * ops.log_softmax(logits, axis=-1), axis=-1)


def sigmoid_cross_entropy(logits: Any, labels: Any) -> Any:
    """Binary cross entropies of each clip, summed over the classes, float32 ``[b]``."""
    logits, labels = ops.cast(logits, "float32"), ops.cast(labels, "float32")
    # -y log p - (1 - y) log(1 - p) without overflow; its gradient is p - y at 0 too, where that of
    # max(x, 0) + log(1 + exp(-|x|)) is a matter of ties.
    return ops.sum(ops.softplus(logits) - logits * labels, axis=-1)


def balance_weights(labels: Any, class_counts: Any) -> Any:
    """Weight of each clip that makes rare classes count more (VATT, A.3), ``[b]``.

    ``sum over c of y_c / n_c, divided by sum over c of y_c``; a clip without any label gets 1 over
    the largest count, the least weight that a clip can have (1 where no clip has a label).

    Args:
        labels: float32 ``[b, C]``.
        class_counts: float32 ``[C]``, the sum of the labels over the whole batch.
    """
    counts = ops.cast(class_counts, "float32")
    total, most = ops.sum(labels, axis=-1), ops.max(counts)
    weight = ops.sum(labels / ops.maximum(counts, 1e-6), axis=-1) / ops.maximum(total, 1e-6)
    return ops.where(total > 0, weight, 1.0 / ops.where(most > 0, most, 1.0))
