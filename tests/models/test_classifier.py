"""Classifiers: a tower and a head, built, saved and made from a pre-trained configuration."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from tests.models import tiny
from vatt_tf.errors import UserError
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.classifier import ClassifierConfig

SPECIFIC, AGNOSTIC = tiny.specific(), tiny.agnostic()


def make(modality="video", model=SPECIFIC, **fields):
    return ClassifierConfig(modality, model.tower(modality), num_classes=3, **fields)


@pytest.mark.parametrize("modality", ["video", "audio"])
@pytest.mark.parametrize("model", [SPECIFIC, AGNOSTIC], ids=["specific", "agnostic"])
def test_outputs_and_config_round_trip(modality, model, tmp_path):
    config = make(modality, model, multi_label=modality == "audio")
    assert ClassifierConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    classifier = build_classifier(config, dtype="mixed_bfloat16")
    inputs = {modality: np.zeros((2, *config.tower.input_shape), "float32")}
    outputs = classifier(inputs)
    assert outputs["logits"].shape == (2, 3) and outputs["logits"].dtype == "float32"
    classifier.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(inputs)["logits"], outputs["logits"])


def test_an_agnostic_tower_keeps_its_projections():
    tower = make("video", AGNOSTIC).tower
    assert tower.pre_projection and tower.post_projection == AGNOSTIC.agnostic.post_projection


def test_wrong_configurations():
    with pytest.raises(UserError, match="classifier.modality = 'text'"):
        ClassifierConfig("text", SPECIFIC.video, 3)
    with pytest.raises(UserError, match="expected @audio_tower"):
        ClassifierConfig("audio", SPECIFIC.video, 3)
