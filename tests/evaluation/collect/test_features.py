"""Pooled features of towers: views, masks, NaN."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.collect.test_predictions import batch
from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect.features import extract_features, features_function
from vatt_tf.models import io


def sound(inputs):
    """Features (x, x^2) of the sound's value."""
    x = np.asarray(inputs["audio"])[:, 0, 0]
    return np.stack([x, x**2], axis=1)


def test_features_are_averaged_over_the_windows():
    data = [batch([[1, 3], [2, 2]]), batch([[5, 1], [9, 9]], valid=[True, False])]
    found = extract_features(None, data, "audio", ("a", "b"), function=sound)
    np.testing.assert_allclose(found.features, [[2, 5], [2, 4], [3, 13]])
    assert found.by_view is None and found.features.dtype == np.float32
    assert found.label_names == ("a", "b") and len(found) == 3


def test_views_are_kept_on_request_even_equal_ones():
    data = [batch([[1, 1, 2], [3, 3, 4]])]
    found = extract_features(None, data, "audio", by_view=True, function=sound)
    np.testing.assert_allclose(found.by_view[:, :, 0], [[1, 1, 2], [3, 3, 4]])
    np.testing.assert_allclose(found.features, found.by_view.mean(axis=1))


def test_clips_that_lack_the_modality_are_left_out():
    data = batch([[1], [2]]) | {"audio_mask": np.array([0.0, 1.0], np.float32)}
    found = extract_features(None, [data], "audio", function=sound)
    assert found.filename == ["1.mp4"] and found.left_out == 1
    data["audio_mask"][:] = 0
    with pytest.raises(UserError, match="none of the 2 clips has audio"):
        extract_features(None, [data], "audio", function=sound)


def test_features_that_are_not_finite_name_the_clip():
    data = [batch([[1], [2], [3]])]
    data[0]["audio"][2] = np.inf
    with pytest.raises(UserError, match=r"audio features of 1 of 3 .* \(first: 2.mp4\)"):
        extract_features(None, data, "audio", function=sound)


def test_the_towers_of_both_kinds_of_models(tiny_weights, classifier_weights):
    clips = np.random.default_rng(0).integers(0, 255, (2, 4, 16, 16, 3)).astype(np.uint8)
    vatt = io.load_pretrained(str(tiny_weights))[0]
    found = features_function(vatt, "video")({"video": clips})
    np.testing.assert_allclose(found, vatt.encode({"video": clips})["video"], atol=1e-5)
    words = np.array([[4, 5, 0, 0, 0, 0]])
    assert features_function(vatt, "text")({"text": words}).shape == (1, 16)
    classifier = io.load_classifier(str(classifier_weights)).model
    found = features_function(classifier, "video")({"video": clips})
    np.testing.assert_allclose(found, classifier.encode({"video": clips}), atol=1e-5)
    with pytest.raises(UserError, match="--modality=audio: the model reads video only"):
        features_function(classifier, "audio")
