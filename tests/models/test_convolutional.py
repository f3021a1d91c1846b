"""Configurations of the convolutional towers, and the models that they make."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest

from tests.models import tiny
from vatt_tf.encoders.audio_resnet import AudioResNetTowerConfig
from vatt_tf.encoders.s3d import S3DTowerConfig
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.tsm_resnet import TSMResNetTowerConfig
from vatt_tf.errors import UserError
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.config.vatt import HeadConfig, VattConfig
from vatt_tf.models.flops import step_flops
from vatt_tf.models.graph_cost import graph_cost
from vatt_tf.models.vatt import build_vatt

NARROW = {"frames": 4, "image_size": (32, 48), "width": 0.0625}
S3D = S3DTowerConfig(**NARROW)
TSM = TSMResNetTowerConfig(**NARROW, blocks=(1, 1, 1, 1))
SOUND = AudioResNetTowerConfig(mel_frames=40, mel_bins=16, width=0.0625, blocks=(1, 1, 1, 1))
TEXT = TextTowerConfig(**tiny.TEXT, kind="linear", d_model=12)
HEADS = {
    "mmv_fac": {"va": ("video", "audio"), "vat": ("video", "audio", "text")},
    "mmv_disjoint": {"va": ("video", "audio"), "vt": ("video", "text")},
    "mmv_shared": {"vat": ("video", "audio", "text")},
    "linear": {"vat": ("video", "audio", "text")},
}


def mmv(video=TSM, head="mmv_fac", **changes) -> VattConfig:
    vat_dim = 6 if head == "mmv_fac" else 8
    head = HeadConfig(kind=head, va_dim=8, vt_dim=6, vat_dim=vat_dim)
    return VattConfig(video=video, audio=SOUND, text=TEXT, head=head, **changes)


def batch(clips=3):
    generator = np.random.default_rng(0)
    return {
        "video": generator.integers(0, 256, (clips, 4, 32, 48, 3)).astype("uint8"),
        "audio": generator.uniform(size=(clips, 40, 16, 1)).astype("float32"),
        "text": generator.integers(0, 32, (clips, 2, 6)).astype("int32"),
    }


@pytest.mark.parametrize(
    "video",
    [pytest.param(S3D, marks=pytest.mark.check, id="s3d"), pytest.param(TSM, id="tsm_resnet")],
)
def test_round_trip_and_spaces(video):
    keras.utils.set_random_seed(0)
    config = mmv(video)
    again = VattConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    model = build_vatt(config)
    spaces = model(batch())
    assert {name: tuple(members) for name, members in spaces.items()} == {
        "va": ("video", "audio"), "vat": ("video", "audio", "text")
    }  # fmt: skip
    assert spaces["vat"]["text"].shape == (3, 2, 6)
    assert model.tower("video").output_dim == video.output_dim


@pytest.mark.parametrize("head", sorted(HEADS))
def test_every_head_takes_every_family(head):
    for config in (mmv(head=head), tiny.specific(head)):
        inputs = batch() if config.video == TSM else tiny.batch()
        spaces = build_vatt(config)(inputs)
        assert {name: tuple(members) for name, members in spaces.items()} == HEADS[head]


@pytest.mark.parametrize("modalities", [("video", "audio"), ("text", "video")])
def test_two_modalities_alone(modalities):
    config = mmv(modalities=modalities)
    assert set(config.modalities) == set(modalities)
    assert VattConfig.from_dict(config.to_dict()) == config
    model = build_vatt(config)
    assert set(model.towers) == set(modalities)
    features = model.encode(batch())
    assert set(features) == set(modalities)
    spaces = model.project(features, training=True)
    assert {m for members in spaces.values() for m in members} == set(modalities)
    assert (config.clip().audio == "none") == ("audio" not in modalities)
    flops = step_flops(config)
    assert set(flops) == {*modalities, "head", "total"}


def test_a_file_written_before_still_reads():
    values = tiny.specific().to_dict()
    del values["modalities"]
    assert VattConfig.from_dict(values) == tiny.specific()


def test_classifier():
    config = ClassifierConfig("video", S3D, 5)
    assert ClassifierConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert (config.clip().frames, config.clip().height) == (4, 32)
    outputs = build_classifier(config)(batch())
    assert outputs["logits"].shape == (3, 5)
    sound = ClassifierConfig("audio", SOUND, 5)
    assert sound.clip().audio == "log_mel"
    assert build_classifier(sound)(batch())["logits"].shape == (3, 5)


def test_flops_of_a_residual_network():
    """Counted by hand: all convolutions of a ResNet50 v2 on an image of 224x224."""
    image = dataclasses.replace(TSMResNetTowerConfig(), frames=1, image_size=(224, 224))
    products = 112 * 112 * 64 * 7 * 7 * 3
    side, width = 56, 64
    for unit, (blocks, out) in enumerate(zip((3, 4, 6, 3), (256, 512, 1024, 2048), strict=True)):
        for block in range(blocks):
            small = side // 2 if unit and not block else side
            inner = out // 4
            products += side * side * width * inner  # conv_0 sees the full size
            products += small * small * (9 * inner * inner + inner * out)
            if not block:
                products += small * small * width * out  # the shortcut
            side, width = small, out
    assert graph_cost(image).flops == 2 * products
    clip = dataclasses.replace(image, frames=8)
    assert graph_cost(clip).flops == 8 * graph_cost(image).flops


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: S3DTowerConfig(width=0), "s3d_tower.width = 0: expected a number above 0"),
        (lambda: S3DTowerConfig(frames=0), "s3d_tower.frames = 0"),
        (lambda: TSMResNetTowerConfig(blocks=(3, 4)), "tsm_resnet_tower.blocks"),
        (lambda: AudioResNetTowerConfig(mel_scaling="x"), "audio_resnet_tower.mel_scaling"),
        (lambda: mmv(SOUND), "vatt.video = .*expected @video_tower"),
        (lambda: mmv(modalities=("audio", "text")), "video among them"),
        (lambda: mmv(modalities=("video",)), "two or three"),
        (lambda: mmv(modalities="video"), "two or three"),
        (lambda: mmv(kind="agnostic"), "@tsm_resnet_tower.* has no Transformer to share"),
        (lambda: mmv(head="fine"), "common_space.kind = 'fine'"),
        (lambda: ClassifierConfig("audio", S3D, 3), "classifier.tower = .*@audio_tower"),
    ],
)
def test_wrong_values_are_named_as_in_gin(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_other_keys_are_refused():
    values = mmv().to_dict()
    values["video"]["depth"] = 50
    with pytest.raises(UserError, match="video has unknown keys .*depth"):
        VattConfig.from_dict(values)
