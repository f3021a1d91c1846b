"""Embeddings of a data set: averaged windows, no clip lost, clips that lack a modality."""

from __future__ import annotations

import numpy as np
import pytest

from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect import embeddings


class FakeModel:
    """Video -> its mean colour, audio -> its first two samples, text -> its first two ids."""

    def encode(self, inputs, training=False):
        import tensorflow as tf

        assert not training
        features = {}
        if "video" in inputs:
            features["video"] = tf.reduce_mean(tf.cast(inputs["video"], tf.float32), [1, 2, 3])
        if "audio" in inputs:
            features["audio"] = inputs["audio"][:, :3, 0]
        if "text" in inputs:
            features["text"] = tf.cast(inputs["text"][:, :3], tf.float32)
        return features

    def project(self, features, training=False):
        spaces = {"va": {}, "vt": {}}
        for modality, value in features.items():
            if modality in ("video", "audio"):
                spaces["va"][modality] = value
            if modality in ("video", "text"):
                spaces["vt"][modality] = value
        return spaces


def batches(count=7, size=3, windows=2, seed=0):
    """Batches as the pipeline makes them: the last one is padded."""
    rng = np.random.default_rng(seed)
    padded = -(-count // size) * size
    everything = {
        "video": rng.integers(0, 256, (padded, windows, 4, 8, 8, 3)).astype(np.uint8),
        "video_mask": np.ones(padded, np.float32),
        "audio": rng.normal(size=(padded, windows, 6, 1)).astype(np.float32),
        "audio_mask": (np.arange(padded) % 3 != 1).astype(np.float32),
        "text": rng.integers(1, 9, (padded, 1, 5)).astype(np.int32),
        "text_mask": (np.arange(padded) % 4 != 3).astype(np.float32)[:, None],
        "label_text": np.array([[b"class 0", b"", b"a\\|b|c"][i % 3] for i in range(padded)]),
        "label_index": np.array([[b"", b"7|0", b""][i % 3] for i in range(padded)]),
        "filename": np.array([f"clip {i}.mp4".encode() for i in range(padded)]),
        "start": np.arange(padded, dtype=np.float32),
        "caption": np.array([[f"caption {i}".encode()] for i in range(padded)], object),
        "valid": np.arange(padded) < count,
    }
    return everything, [
        {key: value[i : i + size] for key, value in everything.items()}
        for i in range(0, padded, size)
    ]


def test_windows_are_averaged_before_the_norm_and_the_tail_counts():
    everything, parts = batches()
    result = embeddings.embed_dataset(FakeModel(), parts)
    assert len(result) == 7 and result.windows == 2
    assert result.filename == [f"clip {i}.mp4" for i in range(7)]
    assert result.caption[6] == "caption 6"
    assert result.labels == [("class 0",), (7, 0), ("a|b", "c")] * 2 + [("class 0",)]
    mean = everything["video"][:7].astype(np.float64).mean(axis=(2, 3, 4)).mean(axis=1)
    expected = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
    np.testing.assert_allclose(result.spaces["va"]["video"], expected, atol=1e-5)
    np.testing.assert_allclose(result.spaces["vt"]["video"], expected, atol=1e-5)
    np.testing.assert_array_equal(result.masks["audio"], np.arange(7) % 3 != 1)
    norms = np.linalg.norm(result.spaces["va"]["audio"], axis=-1)
    np.testing.assert_allclose(norms, result.masks["audio"], atol=1e-5)
    assert result.space_of("text", "video") == "vt" and result.space_of("audio", "text") is None


def test_batch_size_and_equal_windows_do_not_change_the_result():
    _, parts = batches(size=3)
    _, whole = batches(size=3)
    one = {key: np.concatenate([p[key] for p in whole]) for key in whole[0]}
    first = embeddings.embed_dataset(FakeModel(), parts)
    second = embeddings.embed_dataset(FakeModel(), [one])
    for space in first.spaces:
        for m in first.spaces[space]:
            np.testing.assert_allclose(
                first.spaces[space][m], second.spaces[space][m], rtol=0, atol=1e-6
            )
    # Windows that are all alike go through the model once.
    same = [{**p} for p in parts]
    for part in same:
        part["video"] = np.repeat(part["video"][:, :1], 4, axis=1)
        part["audio"] = np.repeat(part["audio"][:, :1], 4, axis=1)
    single = [{**p, "video": p["video"][:, :1], "audio": p["audio"][:, :1]} for p in same]
    calls = []
    model = FakeModel()
    embed = embeddings.embedding_function(model)

    def counting(inputs):
        calls.append(set(inputs))
        return embed(inputs)

    repeated = embeddings.embed_dataset(model, same, embed=counting)
    assert calls == [{"video", "audio"}, {"text"}] * 3
    alone = embeddings.embed_dataset(model, single)
    np.testing.assert_allclose(
        repeated.spaces["va"]["video"], alone.spaces["va"]["video"], atol=1e-6
    )


def test_limit_progress_and_strips():
    _, parts = batches()
    seen = []
    result = embeddings.embed_dataset(
        FakeModel(), parts, limit=4, strip_frames=3, progress=seen.append
    )
    assert len(result) == 4 and seen == [3, 4]
    assert len(result.strips) == 4 and all(s[:2] == b"\xff\xd8" for s in result.strips)


def test_broken_embeddings_and_no_clips_are_errors():
    _, parts = batches()
    parts[1]["audio"] = np.full_like(parts[1]["audio"], np.nan)
    with pytest.raises(UserError, match=r"audio embeddings of 2 of 7 clips.*clip 3.mp4"):
        embeddings.embed_dataset(FakeModel(), parts)
    with pytest.raises(UserError, match="holds no clip"):
        embeddings.embed_dataset(FakeModel(), [])
