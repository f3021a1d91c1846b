"""Parameter counts and variable shapes against those measured on the released code."""

from __future__ import annotations

import collections
import csv

import pytest

from vatt_tf.encoders.agnostic import AgnosticTowerConfig
from vatt_tf.encoders.audio import AudioTowerConfig
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.video import VideoTowerConfig
from vatt_tf.models.config.vatt import VattConfig
from vatt_tf.models.vatt import abstract_vatt, parameter_counts
from vatt_tf.pretrained import official_names
from vatt_tf.pretrained.source import SUFFIX

SPECTROGRAM = {"input": "log_mel", "mel_frames": 144}

SYSTEMS = {
    "bbs": VattConfig(),
    "mbs": VattConfig(video=VideoTowerConfig(size="medium")),
    "lbs": VattConfig(video=VideoTowerConfig(size="large")),
    "ma_medium": VattConfig(kind="agnostic"),
    "ma_base": VattConfig(kind="agnostic", agnostic=AgnosticTowerConfig(size="base")),
}
TOTALS = {  # All variables, trainable ones (docs/architecture.md).
    "bbs": (213_540_652, 193_877_292),
    "mbs": (280_569_132, 260_905_772),
    "lbs": (431_723_820, 412_060_460),
    "ma_medium": (182_653_696, 162_990_336),
    "ma_base": (113_628_928, 93_965_568),
}
TOWERS = [
    ("video", VideoTowerConfig(size="base"), 87_446_016),
    ("video", VideoTowerConfig(size="medium"), 154_343_424),
    ("video", VideoTowerConfig(size="large"), 305_498_112),
    ("video", VideoTowerConfig(size="xlarge"), 533_695_488),
    ("audio", AudioTowerConfig(size="base"), 86_078_976),
    ("audio", AudioTowerConfig(size="medium"), 152_520_704),
    ("audio", AudioTowerConfig(size="large"), 303_675_392),
    ("audio", AudioTowerConfig(size="base", **SPECTROGRAM), 85_056_768),
    ("audio", AudioTowerConfig(size="medium", **SPECTROGRAM), 151_157_760),
    ("text", TextTowerConfig(size="small"), 38_699_052),
    ("text", TextTowerConfig(size="base"), 104_854_956),
    ("text", TextTowerConfig(kind="linear"), 20_277_248),
]
HEADS = {"bbs": 1_316_608, "mbs": 1_447_680, "lbs": 1_447_680, "ma_medium": 1_709_824}


@pytest.fixture(scope="module")
def models():
    return {name: abstract_vatt(config) for name, config in SYSTEMS.items()}


@pytest.mark.parametrize("name", sorted(TOTALS))
def test_systems(models, name):
    counts = parameter_counts(models[name])
    assert (counts["total"], counts["trainable"]) == TOTALS[name]
    if name in HEADS:
        assert counts["head"] == HEADS[name]


@pytest.mark.parametrize(("modality", "tower", "expected"), TOWERS)
def test_towers(modality, tower, expected):
    counts = parameter_counts(abstract_vatt(VattConfig(**{modality: tower})))
    assert counts[modality] == expected


def test_frozen_parts(models):
    """Not trained are the word table and the BatchNorms' moving statistics."""
    counts = parameter_counts(models["bbs"])
    assert counts["total"] - counts["trainable"] == 65_536 * 300 + 2_560


def test_pieces_of_the_agnostic_model(models):
    tower = models["ma_medium"].agnostic_tower
    pieces = collections.Counter()
    for variable in tower.weights:
        part, layer = variable.path.split("/")[2:4]
        count = 1
        for size in variable.shape:
            count *= size
        pieces[part if part == "transformer" else f"{part}/{layer}"] += count
    assert pieces == {
        "transformer": 151_156_736,
        "video/patch_embedding": 3_146_752,
        "audio/patch_embedding": 132_096,
        "text/word_embedding": 19_660_800,
        "video/pre_projection": 1_049_600,
        "audio/pre_projection": 1_049_600,
        "text/pre_projection": 308_224,
        "video/positions": 38_912,
        "audio/positions": 1_230_848,
        "text/positions": 18_432,
        "video/post_projection": 1_049_600,
        "audio/post_projection": 1_049_600,
        "text/post_projection": 1_049_600,
        "video/agg_token": 1024,
        "audio/agg_token": 1024,
        "text/agg_token": 1024,
    }


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_variables_are_those_of_the_release(models, name, shared_dir):
    """One-to-one by name, shape and trainability; a fused qkv stands for three."""
    path = shared_dir / "reference" / "official_vatt" / f"variables_{name}.tsv"
    expected = {}
    with path.open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            key = row["checkpoint_key"]
            if key.startswith("model/") and ".OPTIMIZER_SLOT" not in key:
                shape = tuple(int(size) for size in row["shape"].split("x"))
                expected[key.removesuffix(SUFFIX)] = (shape, row["trainable"] == "1")
    ours = {}
    for variable in models[name].weights:
        keys = official_names.model_keys(variable.path)
        shape = tuple(variable.shape)
        for key in keys:
            assert key not in ours
            ours[key] = ((*shape[:-1], shape[-1] // len(keys)), variable.trainable)
    assert ours == expected
