"""Against scikit-learn, the papers' values, and cases that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from vatt_tf.evaluation.metrics import classification as cm


@pytest.fixture(scope="module")
def scored():
    """Scores with many ties, single and multiple labels."""
    generator = np.random.default_rng(0)
    scores = generator.integers(-4, 5, (60, 8)) / 4.0
    truth = generator.integers(0, 7, 60)  # class 7 has no clip
    labels = generator.random((60, 8)) < 0.3
    labels[:, 6], labels[:, 7] = True, False
    return scores, truth, labels.astype(np.float32)


def roc_auc(scores, positive):
    return cm.Ranking.of(scores, positive).auc()[0]


def test_average_precision_and_auc_are_those_of_scikit_learn(scored):
    scores, _, labels = scored
    for c in range(6):
        positive = labels[:, c] > 0
        expected = sklearn_metrics.average_precision_score(positive, scores[:, c])
        np.testing.assert_allclose(cm.average_precision(scores[:, c], positive), expected)
        expected = sklearn_metrics.roc_auc_score(positive, scores[:, c])
        np.testing.assert_allclose(roc_auc(scores[:, c], positive), expected)


def test_a_clip_that_is_drawn_twice_counts_twice(scored):
    scores, _, labels = scored
    drawn = np.random.default_rng(1).integers(0, 60, (3, 60))
    weights = np.stack([np.bincount(d, minlength=60) for d in drawn]).astype(float)
    ranking = cm.Ranking.of(scores[:, 0], labels[:, 0] > 0)
    for i, d in enumerate(drawn):
        values = scores[d, 0], labels[d, 0] > 0
        np.testing.assert_allclose(
            ranking.average_precision(weights)[i], cm.average_precision(*values)
        )
        np.testing.assert_allclose(ranking.auc(weights)[i], roc_auc(*values))


@pytest.mark.parametrize("auc, prime", [(0.958, 2.444), (0.968, 2.619), (0.971, 2.681), (0.5, 0)])
def test_d_prime_vectors(auc, prime):
    assert cm.d_prime(auc) == pytest.approx(prime, abs=5e-4)


def test_d_prime_of_a_perfect_class_is_finite_only_with_a_resolution():
    assert cm.d_prime(1.0) == math.inf and cm.d_prime(0.0) == -math.inf
    assert cm.d_prime(1.0, 0.01) == pytest.approx(cm.d_prime(0.99))
    assert cm.d_prime(0.0, 0.01) == pytest.approx(-cm.d_prime(0.99))


def test_single_label_metrics(scored):
    generator = np.random.default_rng(2)
    _, truth, _ = scored
    scores = generator.normal(size=(60, 8)) + 1.5 * np.eye(8)[truth]
    found = cm.single_label_metrics(scores, truth)
    assert found["top1"] == sklearn_metrics.accuracy_score(truth, scores.argmax(1))
    assert found["top5"] == sklearn_metrics.top_k_accuracy_score(
        truth, scores, k=5, labels=range(8)
    )
    expected = sklearn_metrics.balanced_accuracy_score(truth, scores.argmax(1))
    assert found["mean_class_accuracy"] == pytest.approx(expected)
    confusion = cm.confusion_matrix(scores, truth)
    np.testing.assert_array_equal(
        confusion, sklearn_metrics.confusion_matrix(truth, scores.argmax(1), labels=range(8))
    )
    np.testing.assert_allclose(
        found["class_accuracy"][:7], confusion.diagonal()[:7] / confusion.sum(1)[:7]
    )
    assert math.isnan(found["class_accuracy"][7]) and found["class_clips"][7] == 0
    for name in ("top1", "top5", "mean_class_accuracy"):
        low, high = found["confidence"][name]
        assert low < found[name] < high and high - low < 0.35


def test_a_model_that_scores_all_classes_alike_reaches_chance():
    found = cm.single_label_metrics(np.zeros((30, 10)), np.arange(30) % 10, draws=0)
    assert found["top1"] == pytest.approx(0.1) and found["top5"] == pytest.approx(0.5)
    assert found["confidence"] == {}
    labels = np.eye(3)[np.arange(30) % 3]
    assert cm.multi_label_metrics(np.zeros((30, 3)), labels, draws=0)["mean_auc"] == 0.5


def test_five_guesses_of_five_classes_are_no_metric():
    assert "top5" not in cm.single_label_metrics(np.eye(5), np.arange(5), draws=0)


def test_multi_label_metrics_leave_out_classes_without_positives_or_negatives(scored):
    scores, _, labels = scored
    found = cm.multi_label_metrics(scores, labels)
    # Class 6 has no negative clip (no AUC, precision 1), class 7 no positive one.
    precisions = [cm.average_precision(scores[:, c], labels[:, c] > 0) for c in range(7)]
    areas = [roc_auc(scores[:, c], labels[:, c] > 0) for c in range(6)]
    assert found["mAP"] == pytest.approx(np.mean(precisions)) and precisions[6] == 1.0
    assert found["mean_auc"] == pytest.approx(np.mean(areas))
    assert found["d_prime_mean"] == pytest.approx(np.mean([cm.d_prime(a) for a in areas]))
    assert found["d_prime_of_mean_auc"] == pytest.approx(cm.d_prime(np.mean(areas)))
    assert np.isnan(found["class_auc"]).tolist() == 6 * [False] + 2 * [True]
    assert np.isnan(found["class_ap"]).tolist() == 7 * [False] + [True]
    for name in ("mAP", "mean_auc", "d_prime_mean", "d_prime_of_mean_auc"):
        low, high = found["confidence"][name]
        assert low < found[name] < high


def test_the_two_conventions_of_d_prime_differ():
    # One perfect class of 4 x 6 pairs and one at chance.
    labels = np.zeros((10, 2))
    labels[:4, 0] = labels[::2, 1] = 1
    scores = np.stack([-np.arange(10.0), np.zeros(10)], axis=1)
    found = cm.multi_label_metrics(scores, labels, draws=0)
    half_step = 0.5 / 24
    assert found["mean_auc"] == 0.75
    assert found["d_prime_mean"] == pytest.approx(cm.d_prime(1 - half_step) / 2)
    assert found["d_prime_of_mean_auc"] == pytest.approx(cm.d_prime(0.75))


def test_all_classes_perfect_is_finite():
    labels = np.eye(2)[np.arange(8) % 2]
    found = cm.multi_label_metrics(labels, labels, draws=20)
    assert found["mAP"] == found["mean_auc"] == 1.0
    assert found["d_prime_mean"] == pytest.approx(cm.d_prime(1 - 0.5 / 16))
    assert found["d_prime_of_mean_auc"] == pytest.approx(found["d_prime_mean"])


@pytest.mark.parametrize(
    "scores, message", [(np.zeros((3, 1)), "must be"), (np.full((3, 2), np.nan), "NaN")]
)
def test_scores_that_are_no_scores(scores, message):
    with pytest.raises(ValueError, match=message):
        cm.multi_label_metrics(scores, np.ones((3, 2)))


def test_eleven_points_by_hand():
    # Ranked: hit, miss, hit, miss: precision 1 up to recall 0.5, then 2/3.
    scores, positive = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    found = cm.eleven_point_precision(scores, positive)
    assert found == pytest.approx((6 * 1.0 + 5 * 2 / 3) / 11)
    # Ties are one step, in whatever order they come.
    assert cm.eleven_point_precision(np.zeros(4), positive) == cm.eleven_point_precision(
        np.zeros(4), positive[::-1]
    )
    assert np.isnan(cm.eleven_point_precision(scores, np.zeros(4, bool)))
