"""The numbers of an evaluation in words."""

import numpy as np
import pytest

from vatt_tf.evaluation.metrics import retrieval as metrics
from vatt_tf.evaluation.report.verdict import _times, verdict
from vatt_tf.evaluation.tasks.retrieval import recall_confidence

SPACES = {"kind": "vatt", "model": {"modalities": ["video", "audio", "text"]}}
CAPTIONLESS = {"kind": "vatt", "model": {"modalities": ["video", "audio"]}}


def direction(right, pool, rank=None):
    """The block of a direction: ``right`` queries find their clip first, others at ``rank``."""
    above = np.full(pool, pool - 1 if rank is None else rank - 1)
    above[:right] = 0
    ranks = metrics.Ranks(above, np.zeros(pool, int), np.ones(pool, int))
    return {
        **metrics.recall_metrics(ranks),
        "pool_size": pool,
        "chance": metrics.chance_recall(pool),
        "confidence": recall_confidence(ranks),
    }


def results(**parts):
    block = {"data": "d", "clips": 200, "step": 9000, "trained_on": [{"files": 500}]}
    return {"retrieval": {**block, **parts}}


def test_above_chance_by_how_much():
    found = verdict(results(audio_to_video=direction(26, 64)), SPACES)
    assert found == [
        "Above chance: sound finds its video first in 40.6 % of 64 clips, 26 times chance (1.6 %)."
    ]


@pytest.mark.parametrize(
    ("value", "times"), [(0.812, "208 times"), (0.0388, "9.9 times"), (0.0391, "10 times")]
)
def test_a_ratio_is_a_plain_number(value, times):
    assert _times(value, 1 / 256) == f"{times} chance (0.4 %)"


def test_what_chance_may_give_is_not_above_it():
    found = verdict(results(text_to_video=direction(2, 64)), SPACES)
    assert found[0].startswith("Not above chance: words find their video first in 3.1 % of 64")


@pytest.mark.parametrize("pool", [11, 64])
def test_embeddings_that_are_all_the_same_are_at_chance(pool):
    """Also where the last digits of a mean are above it."""
    ranks = metrics.Ranks(np.zeros(pool, int), np.full(pool, pool - 1), np.ones(pool, int))
    part = {**direction(0, pool), **metrics.recall_metrics(ranks)}
    part["confidence"] = {k: (v + 1e-12, v + 1e-12) for k, v in part["chance"].items()}
    found = verdict(results(video_to_text=part), SPACES)
    assert found[0].startswith("Not above chance: video finds its words first")


def test_a_weak_model_shows_among_the_first_ten():
    (found,) = verdict(results(video_to_audio=direction(0, 64, rank=8)), SPACES)
    assert found.startswith("Above chance: video finds its sound among the first 10 in 100.0 %")


@pytest.mark.parametrize("pool", [1, 2, 9])
def test_in_a_tiny_pool_nothing_is_claimed(pool):
    found = verdict(results(audio_to_video=direction(1, pool)), SPACES)
    assert found[0].startswith("Not above chance") and len(found) == 1


def test_without_words_the_first_sentence_is_what_would_add_them():
    block = results(audio_to_video=direction(26, 64), random_weights={"seed": 0})
    block["retrieval"]["random_weights"]["audio_to_video"] = direction(1, 64)
    first, above, random = verdict(block, CAPTIONLESS)
    assert "by example and by sound, and not by words" in first and "name.srt" in first
    assert above.startswith("Above chance: sound")
    assert random == (
        "The same towers at random weights: sound finds its video first in 1.6 % of 64 clips."
    )
    assert verdict({}, CAPTIONLESS) == [first]


def test_what_limits_the_numbers():
    block = results(audio_to_video=direction(6, 12))
    block["retrieval"] |= {
        "clips": 12,
        "step": 400,
        "held_out": "by time",
        "trained_on": [{"files": 1}],
    }
    limits = verdict(block, SPACES)[-1]
    assert limits == (
        "What limits these numbers: only 12 clips were held out; they are held out by time, not "
        "by file: their scenes are those of the training; the model was trained on 1 file; it was "
        "trained for 400 steps."
    )


def test_classes():
    block = {"top1": 0.8, "chance": {"top1": 0.25}, "confidence": {"top1": [0.7, 0.9]}}
    (found,) = verdict({"classify": {**block, "pool_size": 100}}, {"kind": "classifier"})
    assert found == (
        "Above chance: the classifier's first class is right in 80.0 % of 100 clips, 3.2 times "
        "chance (25.0 %)."
    )
