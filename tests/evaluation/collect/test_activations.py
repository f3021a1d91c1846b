"""Tokens before the towers, features behind them, units of the shared backbone."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from tests.evaluation.report.test_page import check
from tests.models import tiny
from vatt_tf.evaluation.collect import activations
from vatt_tf.evaluation.report import page as report
from vatt_tf.models.vatt import build_vatt
from vatt_tf.unit_length import l2_normalize

VIEWS = 2


def dataset(clips=4):
    """One batch as the pipeline gives it: two views, the last row is padding, clip 1 is mute."""
    rows = tiny.batch(clips + 1, texts=1)
    generator = np.random.default_rng(1)
    video = [generator.integers(0, 256, rows["video"].shape).astype("uint8") for _ in range(VIEWS)]
    rows["video"] = np.stack(video, axis=1)
    rows["audio"] = np.stack([rows["audio"], -rows["audio"]], axis=1)
    rows["text"][0, 0, 3:] = 0  # padding after three words
    sound = np.ones(clips + 1, np.float32)
    sound[1] = 0
    strings = np.array([b"x"] * (clips + 1))
    yield {
        **rows,
        "video_mask": np.ones(clips + 1, np.float32),
        "audio_mask": sound,
        "text_mask": np.ones((clips + 1, 1), np.float32),
        "valid": np.arange(clips + 1) < clips,
        "filename": strings,
        "label_text": strings,
        "label_index": np.array([b""] * (clips + 1)),
        "caption": strings[:, None],
        "start": np.zeros(clips + 1, np.float32),
    }


@pytest.fixture(scope="module", params=["agnostic", "specific"])
def looked(request):
    keras.utils.set_random_seed(0)
    model = build_vatt(getattr(tiny, request.param)())
    return model, activations.collect_activations(model, dataset(), limit=3)


def test_features_are_those_of_the_towers(looked):
    model, found = looked
    assert len(found.clips) == 3  # the limit; clip 3 and the padding are left out
    batch = next(dataset())
    for modality in ("video", "audio"):
        views = [
            model.encode({modality: batch[modality][:3, v]})[modality].numpy() for v in range(VIEWS)
        ]
        expected = l2_normalize(np.mean(views, axis=0))
        expected[~found.clips.masks[modality]] = 0
        value = found.clips.spaces["features"][modality]
        np.testing.assert_allclose(value[:, : expected.shape[1]], expected, atol=1e-5)
        assert not value[:, expected.shape[1] :].any()
    text = model.encode({"text": batch["text"][:3, 0]})["text"].numpy()
    value = found.clips.spaces["features"]["text"][:, : text.shape[1]]
    np.testing.assert_allclose(value, l2_normalize(text), atol=1e-5)


def test_spaces_of_one_width_are_comparable(looked):
    _, found = looked
    assert found.comparable == ("tokens", "features")  # Width 16 in both models.
    wide = dataclasses.replace(tiny.specific().text, d_model=24)
    model = build_vatt(tiny.specific(text=wide))
    assert activations.collect_activations(model, dataset(), limit=1).comparable == ()


def test_tokens_are_means_of_the_patches_and_of_the_words_that_are_there(looked):
    model, found = looked
    batch = next(dataset())
    tower = model.tower("video")
    patches = np.mean([tower.patch_embedding(batch["video"][:3, v]) for v in range(VIEWS)], axis=0)
    words = model.tower("text").word_embedding(batch["text"][0, 0, :3])
    expected = keras.ops.gelu(model.tower("text").pre_projection(words), approximate=False)
    value = found.clips.spaces["tokens"]["text"][0]
    wanted = l2_normalize(expected.numpy().mean(axis=0))
    np.testing.assert_allclose(value[: len(wanted)], wanted, atol=1e-5)
    if not hasattr(tower, "pre_projection"):
        wanted = l2_normalize(patches.mean(axis=1))
        value = found.clips.spaces["tokens"]["video"][:, : wanted.shape[1]]
        np.testing.assert_allclose(value, wanted, atol=1e-5)


def test_nodes_are_the_means_of_the_mlp_outputs(looked, monkeypatch):
    model, found = looked
    if model.config.kind == "specific":
        assert found.units == {}
        return
    batch = next(dataset())
    block = model.tower("video").transformer.blocks[1]
    seen = []
    call = block.mlp_output.call
    monkeypatch.setattr(block.mlp_output, "call", lambda x, **_: seen.append(call(x)) or seen[-1])
    for modality in ("video", "audio"):
        seen.clear()
        clips = np.flatnonzero(found.clips.masks[modality])
        for v in range(VIEWS):
            model.tower(modality)(batch[modality][clips, v])
        # The layer sees the tokens of all clips as rows.
        expected = np.mean([value.numpy().reshape(-1, 16).mean(axis=0) for value in seen], axis=0)
        np.testing.assert_allclose(found.units[modality][1], expected, atol=1e-5)
        assert found.units[modality].shape == (2, 16)
    seen.clear()
    model.tower("text")(batch["text"][:1, 0])
    assert not np.allclose(
        found.units["text"][1], seen[0].numpy().reshape(-1, 16).mean(axis=0), atol=1e-5
    )


def test_report_of_the_nodes(looked, tmp_path):
    _, found = looked
    text, checker = check(report.write_report(tmp_path, activations=found))
    shown = "Nodes of the shared backbone" in text
    assert shown == bool(found.units)
    assert checker.tags.count("svg") == (4 if shown else 0)
