"""Metrics against brute force, scikit-learn and the values that chance must have."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk_metrics

from vatt_tf.evaluation.metrics import retrieval as metrics
from vatt_tf.unit_length import l2_normalize


def random_pairs(n=37, d=8, seed=0):
    rng = np.random.default_rng(seed)
    a = l2_normalize(rng.normal(size=(n, d)).astype(np.float32))
    b = l2_normalize((a + 0.8 * rng.normal(size=(n, d))).astype(np.float32))
    return a, b


def brute_force_rank(scores, right, rng):
    """Order by score with ties broken by a coin; 0-based place of the first right item."""
    order = np.lexsort((rng.random(len(scores)), -scores))
    return int(np.flatnonzero(right[order])[0])


@pytest.mark.parametrize("chunk", [1, 5, 1024])
def test_paired_ranks_equal_sorting(chunk):
    a, b = random_pairs()
    ranks = metrics.paired_ranks(a, b, chunk=chunk)
    order = np.argsort(-(a.astype(np.float64) @ b.astype(np.float64).T), axis=1)
    expected = np.array([int(np.flatnonzero(row == i)[0]) for i, row in enumerate(order)])
    np.testing.assert_array_equal(ranks.expected, expected)
    result = metrics.recall_metrics(ranks)
    for k in (1, 5, 10):
        assert result[f"R@{k}"] == pytest.approx(np.mean(expected < k))
    assert result["MedR"] == np.median(expected) + 1
    assert result["MnR"] == pytest.approx(np.mean(expected) + 1)


def test_recall_equals_scikit_learn_top_k():
    a, b = random_pairs(seed=3)
    ranks = metrics.paired_ranks(a, b)
    scores = a.astype(np.float64) @ b.astype(np.float64).T
    for k in (1, 5, 10):
        expected = sk_metrics.top_k_accuracy_score(np.arange(len(a)), scores, k=k)
        assert ranks.hits(k).mean() == pytest.approx(expected)
        assert metrics.top_k_hits(scores, np.arange(len(a)), k).mean() == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 7, 50])
def test_constant_embeddings_score_exactly_chance(n):
    constant = np.full((n, 4), 0.5, np.float32)
    result = metrics.recall_metrics(metrics.paired_ranks(constant, constant))
    assert result == pytest.approx(metrics.chance_recall(n))
    assert result["R@10"] == pytest.approx(min(1.0, 10 / n))
    assert result["MedR"] == result["MnR"] == (n + 1) / 2
    groups = np.arange(n) % 3
    ranks = metrics.relevance_ranks(constant, constant, groups, groups)
    counts = np.bincount(groups)[groups]
    chance = metrics.chance_group_recall(counts, n)
    assert metrics.recall_metrics(ranks) == pytest.approx(chance)
    assert ranks.hits(1).mean() == pytest.approx(np.mean(counts / n))


def test_ties_are_the_mean_over_random_orders():
    rng = np.random.default_rng(0)
    queries = rng.integers(-1, 2, size=(12, 3)).astype(np.float32)  # small integers: many ties
    items = rng.integers(-1, 2, size=(15, 3)).astype(np.float32)
    item_group = np.arange(15) % 4
    query_group = np.arange(12) % 4
    ranks = metrics.relevance_ranks(queries, items, query_group, item_group, chunk=5)
    scores = queries @ items.T
    assert (ranks.level > 0).any() and (ranks.right > 1).any()
    draws = np.array(
        [
            [
                brute_force_rank(scores[q], item_group == query_group[q], rng)
                for q in range(len(queries))
            ]
            for _ in range(4000)
        ]
    )
    np.testing.assert_allclose(ranks.expected, draws.mean(axis=0), atol=0.15)
    for k in (1, 2, 5):
        np.testing.assert_allclose(ranks.hits(k), (draws < k).mean(axis=0), atol=0.04)


def test_tolerance_turns_rounding_into_ties():
    rng = np.random.default_rng(1)
    collapsed = np.ones((40, 8), np.float32) + 1e-7 * rng.normal(size=(40, 8)).astype(np.float32)
    collapsed = l2_normalize(collapsed)
    result = metrics.recall_metrics(metrics.paired_ranks(collapsed, collapsed, tolerance=1e-6))
    assert result == pytest.approx(metrics.chance_recall(40))


def test_many_captions_per_clip():
    clips = np.eye(3, dtype=np.float32)
    captions = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0, 0.9, 0.1], [0, 0, 1]], np.float32)
    clip_of_caption = np.array([0, 0, 1, 2])
    text_to_video = metrics.correspondence_ranks(captions, clips, clip_of_caption)
    np.testing.assert_array_equal(text_to_video.expected, [0, 1, 0, 0])
    video_to_text = metrics.relevance_ranks(clips, captions, np.arange(3), clip_of_caption)
    np.testing.assert_array_equal(video_to_text.expected, [0, 0, 0])
    # One caption a clip: the group form and the paired form are the same thing.
    a, b = random_pairs(seed=5)
    index = np.arange(len(a))
    np.testing.assert_array_equal(
        metrics.relevance_ranks(a, b, index, index).expected, metrics.paired_ranks(a, b).expected
    )


def test_class_metrics():
    a, b = random_pairs(n=60, seed=2)
    labels = np.arange(60) % 5
    result = metrics.class_metrics(a, b, labels, labels)
    top = np.argmax(a.astype(np.float64) @ b.astype(np.float64).T, axis=1)
    assert result["precision@1"] == pytest.approx(sk_metrics.accuracy_score(labels, labels[top]))
    assert result["chance"] == pytest.approx(0.2)
    assert result["queries"] == 60
    # A class that no item has is not counted; without any common class there is nothing to say.
    other = labels.copy()
    other[0] = 9
    assert metrics.class_metrics(a, b, other, labels)["queries"] == 59
    with pytest.raises(ValueError, match="no query has a class"):
        metrics.class_metrics(a, b, labels + 10, labels)


def test_chance_group_recall_by_simulation():
    rng = np.random.default_rng(0)
    right = np.array([1, 3])
    found = np.zeros((2, 4000))
    for i, r in enumerate(right):
        for trial in range(4000):
            found[i, trial] = (rng.permutation(20)[:5] < r).any()
    assert metrics.chance_group_recall(right, 20, (5,))["R@5"] == pytest.approx(
        found.mean(), abs=0.02
    )


def test_bad_input_is_named():
    a, b = random_pairs()
    with pytest.raises(ValueError, match="as many items as queries"):
        metrics.paired_ranks(a, b[:-1])
    with pytest.raises(ValueError, match="not from the same space"):
        metrics.paired_ranks(a, b[:, :4])
    bad = b.copy()
    bad[4, 0] = np.nan
    with pytest.raises(ValueError, match=r"items holds NaN or infinity in 1 of 37 rows"):
        metrics.paired_ranks(a, bad)
    with pytest.raises(ValueError, match="non-empty matrix"):
        metrics.paired_ranks(a[:0], b[:0])
    with pytest.raises(ValueError, match="has no right item"):
        metrics.relevance_ranks(a, b, np.arange(37), np.arange(37) + 1)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\)"):
        metrics.top_k_hits(np.zeros((2, 3)), np.array([0, 3]))
