"""Retrieval blocks: pools, excluded clips, repeated captions, classes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect.embeddings import EmbeddingSet
from vatt_tf.evaluation.tasks import retrieval
from vatt_tf.unit_length import l2_normalize


def make_set(spaces, captions, labels=None, masks=None):
    n = len(captions)
    masks = {m: np.ones(n, bool) for parts in spaces.values() for m in parts} | (masks or {})
    return EmbeddingSet(
        spaces=spaces,
        masks=masks,
        filename=[f"{i}.mp4" for i in range(n)],
        start=np.zeros(n, np.float32),
        labels=[() if x < 0 else (f"class {x}",) for x in (n * [-1] if labels is None else labels)],
        caption=list(captions),
    )


def unit(rows):
    return l2_normalize(np.asarray(rows, np.float32))


def test_perfect_model_and_pools():
    n = 12
    eye = np.eye(n, dtype=np.float32)
    audio = np.ones(n, bool)
    audio[[1, 5]] = False
    captions = [f"caption {i}" for i in range(n)]
    text = np.ones(n, bool)
    text[0] = False
    spaces = {"va": {"video": eye, "audio": eye}, "vt": {"video": eye, "text": eye}}
    block = retrieval.retrieval_metrics(
        make_set(spaces, captions, masks={"audio": audio, "text": text})
    )
    assert block["pool_size"] == 10 and block["clips"] == 12
    for name in ("text_to_video", "video_to_text", "audio_to_video", "video_to_audio"):
        assert block[name]["R@1"] == 1.0 and block[name]["MedR"] == 1.0
    assert block["text_to_video"]["pool_size"] == 11 and block["text_to_video"]["excluded"] == 1
    assert block["audio_to_video"]["pool_size"] == 10 and block["audio_to_video"]["excluded"] == 2
    assert block["audio_to_video"]["chance"]["R@10"] == 1.0
    assert "audio_to_text" not in block and "by_class" not in block and "by_caption" not in block
    json.dumps(block, allow_nan=False)
    table = retrieval.format_retrieval(block)
    assert "text -> video" in table and "2 of 12 clips lack a modality" in table


def test_shared_space_has_all_six_directions():
    eye = np.eye(4, dtype=np.float32)
    block = retrieval.retrieval_metrics(
        make_set({"vat": {"video": eye, "audio": eye, "text": eye}}, list("abcd"))
    )
    assert sum("_to_" in name for name in block) == 6


def test_repeated_captions_tie_in_the_paired_numbers_and_count_by_caption():
    # Clips 0, 1, 2 have the caption "x", clip 3 has "y"; the model knows the caption exactly.
    video = unit([[1, 0], [1, 0], [1, 0], [0, 1]])
    # Embeddings of one caption in different batches may differ in the last bits.
    text = video + np.array([[0, 0], [3e-8, 0], [-3e-8, 0], [0, 0]], np.float32)
    block = retrieval.retrieval_metrics(
        make_set({"vt": {"video": video, "text": text}}, ["x", "x", "x", "y"])
    )
    # Three-way ties: a coin finds the own clip first in 1 of 3.
    assert block["text_to_video"]["R@1"] == pytest.approx((3 * (1 / 3) + 1) / 4)
    assert block["video_to_text"]["R@1"] == pytest.approx((3 * (1 / 3) + 1) / 4)
    by_caption = block["by_caption"]
    assert by_caption["text_to_video"]["R@1"] == 1.0
    assert by_caption["text_to_video"]["queries"] == 2
    assert by_caption["text_to_video"]["chance"]["R@1"] == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert by_caption["video_to_text"]["pool_size"] == 2
    assert by_caption["video_to_text"]["R@1"] == 1.0
    assert by_caption["video_to_text"]["chance"]["R@1"] == pytest.approx(0.5)


def test_by_class_uses_labelled_clips_only():
    video = unit([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [1, 1]])
    audio = unit([[0.9, 0.1], [1, 0], [0.1, 0.9], [0, 1], [1, 1]])
    block = retrieval.retrieval_metrics(
        make_set({"va": {"video": video, "audio": audio}}, list("abcde"), [0, 0, 1, 1, -1])
    )
    part = block["by_class"]["audio_to_video"]
    assert part == {"precision@1": 1.0, "chance": 0.5, "queries": 4}


@pytest.mark.parametrize("turn", [1, -1])
def test_a_clip_of_several_classes_counts_for_each(turn):
    """Against brute force; neither the order of its classes nor their indices count."""
    video = unit([[1, 0], [0.9, 0.3], [0, 1], [0.3, 0.9], [0.5, 0.5]])
    audio = unit([[0.8, 0.3], [1, 0], [0.9, 0.1], [0, 1], [0.7, 0.7]])
    clips = make_set({"va": {"video": video, "audio": audio}}, list("abcde"))
    own = [("red", "circle"), ("circle",), ("red", "square"), (0,), ()]
    clips.labels = [labels[::turn] for labels in own]
    part = retrieval.retrieval_metrics(clips)["by_class"]["audio_to_video"]
    share = np.array([[bool({*a} & {*b}) for b in own[:4]] for a in own[:4]])
    top = (audio[:4] @ video[:4].T).argmax(axis=1)
    hits = share[np.arange(4), top].mean()
    assert part == {"precision@1": hits, "chance": pytest.approx(share.mean()), "queries": 4}


def test_constant_model_is_at_chance_in_every_number():
    n = 20
    same = np.full((n, 3), 1 / np.sqrt(3), np.float32)
    block = retrieval.retrieval_metrics(
        make_set(
            {"vt": {"video": same, "text": same}},
            [f"caption {i % 5}" for i in range(n)],
            np.arange(n) % 4,
        )
    )
    for part in (*block["by_caption"].values(), block["text_to_video"], block["video_to_text"]):
        for key, value in part["chance"].items():
            assert part[key] == pytest.approx(value)
    for part in block["by_class"].values():
        assert part["precision@1"] == pytest.approx(part["chance"])


def test_nothing_to_retrieve_is_an_error():
    eye = np.eye(3, dtype=np.float32)
    with pytest.raises(UserError, match="two modalities in one space.*text 0"):
        retrieval.retrieval_metrics(
            make_set({"vt": {"video": eye, "text": eye}}, "abc", masks={"text": np.zeros(3, bool)})
        )
