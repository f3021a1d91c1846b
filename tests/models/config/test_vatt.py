"""Configuration of a model."""

from __future__ import annotations

import dataclasses
import json

import gin
import pytest

from tests.models import tiny
from vatt_tf.encoders.agnostic import AgnosticTowerConfig
from vatt_tf.encoders.audio import AudioTowerConfig
from vatt_tf.encoders.sizes import SIZES
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.video import VideoTowerConfig
from vatt_tf.errors import UserError
from vatt_tf.models.config.vatt import HeadConfig, VattConfig


@pytest.fixture(autouse=True)
def clean_gin():
    gin.clear_config()
    yield
    gin.clear_config()


def test_defaults_are_bbs_at_the_paper_sizes():
    config = VattConfig()
    assert config.video.sequence.tokens == 1568 and config.audio.sequence.tokens == 1200
    assert config.video.transformer_size() == SIZES["base"]
    assert config.text.transformer_size() == SIZES["small"]
    assert config.video.input_shape == (32, 224, 224, 3)
    assert config.audio.input_shape == (153_600, 1)


def agnostic_of_two() -> VattConfig:
    return tiny.agnostic().with_modalities(["video", "text"])


@pytest.mark.parametrize("make", [VattConfig, tiny.specific, tiny.agnostic, agnostic_of_two])
def test_json_round_trip(make):
    config = make()
    text = json.dumps(config.to_dict())
    assert VattConfig.from_dict(json.loads(text)) == config


def test_json_round_trip_ignores_gin():
    stored = VattConfig().to_dict()
    gin.parse_config("video_tower.size = 'large'")
    assert VattConfig().video.size == "large"
    assert VattConfig.from_dict(stored).video.size == "base"


def test_a_field_of_a_later_version_has_its_default_in_older_files():
    stored = VattConfig().to_dict()
    del stored["audio"]["mel_scaling"]
    gin.parse_config("audio_tower.mel_scaling = 'fixed'")
    assert VattConfig.from_dict(stored).audio.mel_scaling == "min_max"


def test_shaw_positions_are_stored_and_older_files_mean_t5():
    config = VattConfig(text=TextTowerConfig(positions="shaw", max_distance=4))
    stored = json.loads(json.dumps(config.to_dict()))
    assert VattConfig.from_dict(stored) == config
    for name in ("positions", "max_distance"):
        del stored["text"][name]
    gin.parse_config("text_tower.positions = 'shaw'")
    assert VattConfig.from_dict(stored).text == dataclasses.replace(
        config.text, positions="t5", max_distance=16
    )


def test_from_dict_wants_exactly_its_keys():
    stored = VattConfig().to_dict()
    with pytest.raises(UserError, match=r"video has unknown keys \['colour'\]"):
        VattConfig.from_dict({**stored, "video": {**stored["video"], "colour": 1}})
    del stored["audio"]["samples"]
    with pytest.raises(UserError, match=r"audio .*lacks \['samples'\]"):
        VattConfig.from_dict(stored)
    with pytest.raises(UserError, match="expected an object"):
        VattConfig.from_dict({})


def test_gin_fills_every_part():
    gin.parse_config(
        """
        vatt.kind = 'specific'
        video_tower.size = 'tiny'
        video_tower.image_size = 64
        video_tower.d_kv = 16
        audio_tower.input = 'log_mel'
        text_tower.kind = 'linear'
        common_space.kind = 'shared'
        """
    )
    config = gin.get_configurable("vatt")()
    assert config.video.image_size == (64, 64)
    assert config.video.transformer_size() == dataclasses.replace(SIZES["tiny"], d_kv=16)
    assert config.audio.patch == (16, 5) and not config.audio.has_bias
    assert config.audio.input_shape == (150, 80, 1) and config.audio.sequence.tokens == 9 * 16
    assert config.text.output_dim == 2048
    assert config.head.kind == "shared"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: VideoTowerConfig(size="huge"),
            "video_tower.size = 'huge': expected one of 'tiny'",
        ),
        (lambda: VideoTowerConfig(image_size=(224,)), r"video_tower.image_size = \(224,\)"),
        (lambda: VideoTowerConfig(image_size="224"), "video_tower.image_size = '224'"),
        (lambda: VideoTowerConfig(image_size=(8, 224)), r"image_size = \(8, 224\).*one patch"),
        (lambda: VideoTowerConfig(frames=2), "video_tower.frames = 2: expected at least one patch"),
        (lambda: VideoTowerConfig(frames=32.0), "video_tower.frames = 32.0: expected a positive"),
        (lambda: VideoTowerConfig(num_heads=0), "video_tower.num_heads = 0"),
        (lambda: VideoTowerConfig(d_model=True), "video_tower.d_model = True"),
        (lambda: VideoTowerConfig(dropout_rate=1.0), r"video_tower.dropout_rate = 1.0.*\[0, 1\)"),
        (lambda: VideoTowerConfig(drop_token_rate="half"), "video_tower.drop_token_rate = 'half'"),
        (
            lambda: VideoTowerConfig(drop_token_rate=0.9999),
            "video_tower.drop_token_rate = 0.9999: expected a fraction that drops some, not all",
        ),
        (lambda: VideoTowerConfig(pre_projection=1), "video_tower.pre_projection = 1"),
        (lambda: AudioTowerConfig(input="mp3"), "audio_tower.input = 'mp3': expected one of"),
        (lambda: AudioTowerConfig(mel_scaling="db"), "audio_tower.mel_scaling = 'db'"),
        (lambda: AudioTowerConfig(waveform_scaling="db"), "audio_tower.waveform_scaling = 'db'"),
        (lambda: AudioTowerConfig(samples=100), "audio_tower.samples = 100: expected at least one"),
        (lambda: AudioTowerConfig(patch=(16, 5)), r"audio_tower.patch = \(16, 5\)"),
        (lambda: AudioTowerConfig(input="log_mel", patch=128), "audio_tower.patch = 128"),
        (lambda: AudioTowerConfig(input="log_mel", mel_frames=8), "audio_tower.mel_frames"),
        (lambda: TextTowerConfig(kind="bert"), "text_tower.kind = 'bert'"),
        (lambda: TextTowerConfig(vocab_size=-1), "text_tower.vocab_size = -1"),
        (lambda: TextTowerConfig(positions="sine"), "text_tower.positions = 'sine': expected one"),
        (lambda: TextTowerConfig(max_distance=0), "text_tower.max_distance = 0: expected a pos"),
        (
            lambda: TextTowerConfig(kind="linear", positions="shaw"),
            "text_tower.positions = 'shaw': expected 't5': text_tower.kind = 'linear' has none",
        ),
        (lambda: TextTowerConfig(trainable_words=None), "text_tower.trainable_words = None"),
        (lambda: AgnosticTowerConfig(post_projection=0), "agnostic_tower.post_projection = 0"),
        (lambda: HeadConfig(kind="both"), "common_space.kind = 'both'"),
        (lambda: HeadConfig(vt_dim="256"), "common_space.vt_dim = '256'"),
        (lambda: VattConfig(kind="mixed"), "vatt.kind = 'mixed'"),
        (lambda: VattConfig(video="base"), "vatt.video = 'base': expected @video_tower"),
    ],
)
def test_wrong_values_are_named_as_in_gin(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"video": VideoTowerConfig(size="large")}, "video_tower.size = 'large'"),
        ({"video": VideoTowerConfig(dropout_rate=0.0)}, "video_tower.dropout_rate = 0.0"),
        ({"audio": AudioTowerConfig(use_bias=False)}, "audio_tower.use_bias = False"),
        ({"text": TextTowerConfig(kind="linear")}, "text_tower.kind = 'linear'"),
        ({"text": TextTowerConfig(positions="shaw")}, "text_tower.positions = 'shaw'"),
    ],
)
def test_settings_that_the_agnostic_model_would_not_read(part, message):
    with pytest.raises(UserError, match=f"{message}: not read when vatt.kind is 'agnostic'"):
        VattConfig(kind="agnostic", **part)
