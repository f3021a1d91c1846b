"""Mean of logits over views, padding, masks and bad scores, with a model that can be computed."""

from __future__ import annotations

import types

import numpy as np
import pytest

from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect.predictions import logits_function, predict

NAMES = ("calm", "loud")


def batch(values, *, crops=1, valid=None, video_mask=None, labels=None):
    """Clips whose view v is filled with ``values[i][v]``; sound has one value per window."""
    values = np.asarray(values, np.float32)
    clips, views = values.shape
    video = np.tile(values[:, :, None, None, None, None], (1, 1, 2, 4, 4, 3)).astype(np.uint8)
    audio = values.reshape(clips, -1, crops)[:, :, 0]
    return {
        "video": video,
        "video_mask": np.ones(clips, np.float32) if video_mask is None else video_mask,
        "audio": np.tile(audio[:, :, None, None], (1, 1, 5, 1)),
        "audio_mask": np.ones(clips, np.float32),
        "valid": np.ones(clips, bool) if valid is None else np.array(valid),
        "labels": np.eye(2, dtype=np.float32)[np.arange(clips) % 2] if labels is None else labels,
        "filename": np.array([f"{i}.mp4".encode() for i in range(clips)]),
        "start": np.zeros(clips, np.float32),
        "end": np.ones(clips, np.float32),
    }


def model(*modalities, calls=None):
    """Logits (sum of the mean squares of the inputs, its negative)."""

    def call(inputs, training):
        assert not training
        if calls is not None:
            calls.append({name: np.asarray(value) for name, value in inputs.items()})
        total = sum(
            np.square(np.asarray(inputs[m], np.float32)).reshape(len(inputs[m]), -1).mean(1)
            for m in modalities
        )
        return np.stack([total, -total], axis=1)

    config = types.SimpleNamespace(modalities=modalities, multi_label=False)
    return types.SimpleNamespace(config=config), lambda inputs: call(inputs, training=False)


def run(data, *modalities, calls=None, **options):
    classifier, function = model(*modalities, calls=calls)
    return predict(classifier, data, NAMES, function=function, **options)


def test_logits_are_averaged_over_the_views_and_padding_is_dropped():
    data = [batch([[1, 3], [2, 2]]), batch([[5, 1], [9, 9]], valid=[True, False])]
    found = run(data, "video")
    # Mean of squares, not square of the mean.
    np.testing.assert_allclose(found.scores[:, 0], [5, 4, 13])
    np.testing.assert_allclose(found.scores[:, 1], [-5, -4, -13])
    assert found.scores.dtype == np.float32 and found.views == 2 and len(found) == 3
    assert found.filename == ["0.mp4", "1.mp4", "0.mp4"]
    np.testing.assert_array_equal(found.labels, [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(found.end, [1, 1, 1])


def test_each_crop_of_a_window_goes_with_its_sound():
    calls = []
    found = run([batch([[1, 2, 3, 4, 5, 6]], crops=3)], "video", "audio", calls=calls)
    assert [int(call["video"].max()) for call in calls] == [1, 2, 3, 4, 5, 6]
    assert [int(call["audio"].max()) for call in calls] == [1, 1, 1, 4, 4, 4]
    assert all(call["video_mask"].tolist() == [1.0] for call in calls)
    np.testing.assert_allclose(found.scores[0, 0], 91 / 6 + (3 * 1 + 3 * 16) / 6, rtol=1e-6)


def test_equal_views_run_once_and_count_each():
    calls = []
    found = run([batch([[2, 2, 5, 2], [1, 1, 1, 1]])], "video", calls=calls)
    assert len(calls) == 2
    np.testing.assert_allclose(found.scores[:, 0], [(3 * 4 + 25) / 4, 1], rtol=1e-6)


def test_clips_without_any_modality_are_left_out():
    lacks = np.array([1.0, 0.0, 1.0], np.float32)
    data = [batch([[1], [2], [3]], video_mask=lacks)]
    found = run(data, "video")
    assert found.filename == ["0.mp4", "2.mp4"] and found.left_out == 1
    assert len(run(data, "video", "audio")) == 3
    with pytest.raises(UserError, match="none of the 3 clips has video"):
        run([batch([[1], [2], [3]], video_mask=0 * lacks)], "video")


def test_limit_progress_and_strips():
    done = []
    data = [batch([[1], [2]]), batch([[3], [4]])]
    found = run(data, "video", limit=3, progress=done.append, strip_frames=2)
    assert len(found) == 3 and done == [2, 3]
    assert len(found.strips) == 3 and found.strips[0][:2] == b"\xff\xd8"


def test_clips_without_frames_have_no_strips():
    data = batch([[1], [2]], video_mask=np.zeros(2, np.float32))
    assert run([data], "audio", strip_frames=2).strips == []


def test_scores_that_are_not_finite_name_the_clip():
    classifier, _ = model("video")

    def broken(inputs):
        return np.array([[0.0, 1.0], [np.nan, 0.0]])

    with pytest.raises(UserError, match=r"1 of 2 clips are NaN or infinite \(first: 1.mp4\)"):
        predict(classifier, [batch([[1], [2]])], NAMES, function=broken)


def test_no_clip():
    with pytest.raises(UserError, match="holds no clip"):
        run([], "video")


def test_the_compiled_function_calls_the_model_without_training():
    import tensorflow as tf

    def classifier(inputs, training):
        return {"logits": tf.reduce_mean(inputs["audio"], [1, 2])[:, None] + float(training)}

    function = logits_function(classifier)
    assert function({"audio": np.ones((2, 5, 1), np.float32)}).numpy().tolist() == [[1], [1]]
