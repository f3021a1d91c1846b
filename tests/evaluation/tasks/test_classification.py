"""The classify block: which clips count, what is in it, what the table says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect.predictions import Predictions
from vatt_tf.evaluation.tasks.classification import classification_block, format_classification


def predictions(scores, labels, multi_label=False, left_out=0):
    scores, labels = np.asarray(scores, np.float32), np.asarray(labels, np.float32)
    n, classes = scores.shape
    return Predictions(
        scores=scores,
        labels=labels,
        label_names=tuple(f"c{i}" for i in range(classes)),
        multi_label=multi_label,
        modalities=("video",),
        filename=[f"{i}.mp4" for i in range(n)],
        start=np.zeros(n, np.float32),
        end=np.ones(n, np.float32),
        left_out=left_out,
    )


def test_single_label_block():
    scores = 5 * np.eye(7)[[0, 1, 1, 2]]
    labels = np.eye(7)[[0, 1, 2, 2]]
    labels[3] = 0  # a clip without a label
    block = classification_block(predictions(scores, labels, left_out=2))
    assert block["pool_size"] == 3 and block["clips"] == 6 and block["classes"] == 7
    assert block["top1"] == pytest.approx(2 / 3) and block["mean_class_accuracy"] == 2 / 3
    assert block["chance"] == {
        "top1": pytest.approx(1 / 7),
        "top5": pytest.approx(5 / 7),
        "mean_class_accuracy": pytest.approx(1 / 7),
    }
    assert block["per_class"] == {
        "c0": {"top1": 1.0, "clips": 1},
        "c1": {"top1": 1.0, "clips": 1},
        "c2": {"top1": 0.0, "clips": 1},
    }
    assert np.array(block["confusion"])[2].tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert set(block["confidence"]) == {"top1", "top5", "mean_class_accuracy"}
    json.dumps(block, allow_nan=False)


def test_confidence_may_be_left_out_and_large_confusions_are():
    many = np.eye(201)
    block = classification_block(predictions(many, many), confidence=False)
    assert block["confidence"] == {} and "confusion" not in block and block["top1"] == 1.0


def test_multi_label_block_lists_classes_without_positives():
    labels = [[1, 1, 0, 1], [0, 1, 0, 0], [0, 1, 0, 1], [0, 1, 0, 0]]
    scores = [[3, 0, 0, 2], [2, 0, 0, 3], [1, 0, 0, 1], [0, 0, 0, 0]]
    block = classification_block(predictions(scores, labels, multi_label=True))
    assert block["without_positives"] == ["c2"] and block["without_negatives"] == ["c1"]
    assert block["per_class"]["c0"]["ap"] == 1.0 and block["per_class"]["c0"]["auc"] == 1.0
    assert block["per_class"]["c1"]["auc"] is None and block["per_class"]["c1"]["d_prime"] is None
    assert "c2" not in block["per_class"]
    assert block["per_class"]["c3"]["ap"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert block["chance"]["mAP"] == pytest.approx((1 / 4 + 1 + 2 / 4) / 3)
    json.dumps(block, allow_nan=False)


def test_multi_label_clips_without_a_class_are_negatives():
    labels = [[1, 0], [0, 0], [0, 1]]
    block = classification_block(predictions([[1, 0], [3, 0], [0, 1]], labels, multi_label=True))
    assert block["pool_size"] == 3 and block["per_class"]["c0"]["ap"] == 0.5


def test_several_labels_for_a_classifier_of_one():
    with pytest.raises(UserError, match=r"1 of 2 clips have several.*1.mp4: c0, c1"):
        classification_block(predictions(np.zeros((2, 2)), [[1, 0], [1, 1]]))


def test_no_label_at_all():
    for multi_label in (True, False):
        with pytest.raises(UserError, match="no clip has a label"):
            classification_block(predictions(np.zeros((2, 2)), np.zeros((2, 2)), multi_label))


@pytest.mark.parametrize("multi_label", [True, False])
def test_table(multi_label):
    labels = np.eye(30)[np.arange(60) % 25]
    block = classification_block(predictions(labels, labels, multi_label))
    block["protocol"] = {"views": "kinetics", "windows": 4, "crops": 3, "aggregation": "mean"}
    text = format_classification(block)
    assert ("mAP" in text) == multi_label == ("5 classes without a clip" in text)
    assert ("top-5" in text) != multi_label
    assert "... and 5 more classes" in text and "kinetics: 4 windows x 3 crops, mean" in text
    assert "100.0 %" in text and all(len(line) <= 120 for line in text.splitlines())
