"""The loss of fine-tuning and the metrics of classifiers, of any batch, against NumPy float64.

Logits lie on a grid with 0 and +-80, so that many are equal.
"""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.losses.test_any_batch import any_of
from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect.predictions import predict
from vatt_tf.evaluation.tasks.classification import classification_block
from vatt_tf.training.gradients.classification import ClassificationStep

MODALITIES = ("video", "audio")
LOGITS = [-80.0, -2.0, -1.0, 0.0, 0.0, 1.0, 2.0, 80.0]


class Added:
    """A classifier whose logits are the sum of its inputs [b, C] that are there, and a bias."""

    def __init__(self, classes, multi_label):
        self.config = types.SimpleNamespace(modalities=MODALITIES, multi_label=multi_label)
        self.bias = keras.Variable(np.zeros(classes, "float32"))
        self.tower_variables, self.head_variables = [], [self.bias]

    def __call__(self, inputs, training=False):
        parts = (inputs[m] * inputs[f"{m}_mask"][:, None] for m in MODALITIES)
        return {"logits": sum(parts) + self.bias}


@st.composite
def labelled(draw, most=6):
    """A batch, the same with other values where something is missing, and whether labels mix."""
    clips, classes = draw(st.integers(1, most)), draw(st.integers(2, most))
    multi_label = draw(st.booleans())
    batch = {}
    for name in MODALITIES:
        batch[name] = draw(arrays("float32", (clips, classes), elements=st.sampled_from(LOGITS)))
        batch[f"{name}_mask"] = draw(arrays("bool", clips)).astype("float32")
    if multi_label:
        labels = draw(arrays("bool", (clips, classes)))
    else:
        labels = np.eye(classes)[draw(arrays("int8", clips, elements=st.integers(0, classes - 1)))]
    batch["labels"] = labels.astype("float32")
    other = {name: value.copy() for name, value in batch.items()}
    for name in MODALITIES:
        other[name][batch[f"{name}_mask"] == 0] = draw(st.sampled_from([-1e4, 3.0, 1e4]))
    nowhere = np.max([batch[f"{name}_mask"] for name in MODALITIES], axis=0) == 0
    other["labels"][nowhere] = np.eye(classes)[0]
    return batch, other, multi_label


def logits_of(batch):
    return sum(batch[m].astype(float) * batch[f"{m}_mask"][:, None] for m in MODALITIES)


def reference(batch, multi_label, smoothing, balance):
    """Loss and its gradient by the logits, clip by clip."""
    logits, labels = logits_of(batch), batch["labels"].astype(float)
    there = np.max([batch[f"{m}_mask"] for m in MODALITIES], axis=0) > 0
    counts = labels[there].sum(axis=0)
    loss, slopes = 0.0, np.zeros_like(logits)
    for clip in np.flatnonzero(there):
        row, own = logits[clip], labels[clip]
        named, weight = own > 0, 1 / there.sum()
        if balance and named.any():
            weight *= np.mean(1 / counts[named])
        elif balance:  # as a clip of the most common class
            weight /= counts.max() or 1.0
        if multi_label:
            loss -= weight * (own * log_expit(row) + (1 - own) * log_expit(-row)).sum()
            slopes[clip] = weight * (expit(row) - own)
        else:
            own = (1 - smoothing) * own + smoothing / len(own)
            loss -= weight * (own * log_softmax(row)).sum()
            slopes[clip] = weight * (softmax(row) - own)
    return loss, slopes.sum(axis=0)


@any_of(8, case=labelled(), smoothing=st.sampled_from([0.0, 0.1]), balance=st.booleans())
def test_loss(case, smoothing, balance):
    batch, other, multi_label = case
    smoothing = 0.0 if multi_label else smoothing
    model = Added(batch["labels"].shape[1], multi_label)
    step = ClassificationStep(model, label_smoothing=smoothing, class_balance=balance)
    loss, slope = reference(batch, multi_label, smoothing, balance)
    for given in (batch, other):
        tensors = {name: tf.constant(value) for name, value in given.items()}
        (found,), metrics = step(tensors, tf.constant([3, 5]))
        assert float(metrics["loss"]) == pytest.approx(loss, rel=1e-5, abs=1e-5)
        np.testing.assert_allclose(found, slope, atol=1e-5)


def single_label(scores, truth):
    """Expectations over the orders of equal scores, by class and over all clips."""
    hits = {1: [], 5: []}
    for row, right in zip(scores, truth, strict=True):
        above, level = (row > row[right]).sum(), (row == row[right]).sum()
        for k, found in hits.items():
            found.append(np.clip((k - above) / level, 0, 1))
    means = [np.mean(np.array(hits[1])[truth == c]) for c in set(truth.tolist())]
    return np.mean(hits[1]), np.mean(hits[5]), np.mean(means)


@any_of(12, case=labelled(most=8))
def test_metrics(case):
    """From batches with missing and doubled clips to the block of results.json."""
    batch, other, multi_label = case
    clips, classes = batch["labels"].shape
    names = [f"c{number}" for number in range(classes)]
    model = Added(classes, multi_label)

    def block(given):
        stored = {**given, "labels": batch["labels"], "valid": np.ones(clips, bool)}
        stored |= {name: given[name][:, None] for name in MODALITIES}
        stored |= {"start": np.zeros(clips), "end": np.ones(clips)}
        stored["filename"] = np.array([f"{number}.mp4".encode() for number in range(clips)])
        forward = lambda inputs: model(inputs)["logits"]  # noqa: E731
        return classification_block(
            predict(model, [stored], names, function=forward), confidence=False
        )

    there = np.max([batch[f"{name}_mask"] for name in MODALITIES], axis=0) > 0
    scores, labels = logits_of(batch)[there], batch["labels"][there] > 0
    if not labels.any():
        with pytest.raises(UserError):
            block(batch)
        return
    found = block(batch)
    assert found == block(other) and found["clips"] == clips
    if multi_label:
        parts = [(labels[:, c], scores[:, c]) for c in range(classes) if labels[:, c].any()]
        right = np.mean([average_precision_score(*part) for part in parts])
        assert found["mAP"] == pytest.approx(right)
        areas = [roc_auc_score(*part) for part in parts if not part[0].all()]
        assert found["mean_auc"] == (pytest.approx(np.mean(areas)) if areas else None)
        return
    top1, top5, mean = single_label(scores, labels.argmax(axis=1))
    assert (found["top1"], found["mean_class_accuracy"]) == pytest.approx((top1, mean))
    assert found.get("top5", top5) == pytest.approx(top5)
