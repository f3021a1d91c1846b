"""What a tower is: its registration, its JSON form, the messages of both."""

from __future__ import annotations

import dataclasses

import pytest

from vatt_tf.encoders.tower import (
    TOWERS,
    TowerConfig,
    check_tower,
    register,
    tower_from_dict,
    towers_of,
)
from vatt_tf.errors import UserError


@pytest.mark.parametrize("name", TOWERS.names())
def test_json_form_gives_the_same_tower(name):
    tower = TOWERS[name]()
    assert tower_from_dict(tower.modality, tower.to_dict(), tower.modality) == tower


@pytest.mark.parametrize("name", TOWERS.names())
def test_clip_and_width_are_those_of_the_encoder(name):
    tower = TOWERS[name]()
    assert tower.build(name=tower.modality).output_dim == tower.output_dim
    assert tower.clip_fields and tower.input_shape


@pytest.mark.parametrize("modality", ["video", "audio", "text"])
def test_the_transformer_is_the_first(modality):
    assert towers_of(modality)[0].name == f"{modality}_tower"


def test_unknown_kind_lists_what_is_registered():
    expected = "video.kind is 'own', expected one of None, 's3d', 'tsm_resnet'; import the module"
    with pytest.raises(UserError, match=expected):
        tower_from_dict("video", {"kind": "own"}, "video")


def test_a_tower_of_another_modality():
    with pytest.raises(UserError, match=r"vatt.video = .*: expected @video_tower\(\) or @s3d"):
        check_tower("vatt.video", "video", TOWERS["audio_tower"]())


@dataclasses.dataclass(frozen=True)
class WithoutKind(TowerConfig):
    width: int = 3


def test_kinds_must_differ():
    with pytest.raises(ValueError, match="tower own: kind None is video_tower's"):
        register("own", "video")(WithoutKind)
    with pytest.raises(ValueError, match="modality is 'smell'"):
        register("own", "smell")
    assert "own" not in TOWERS.names()
