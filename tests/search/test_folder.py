"""The index on disk: growing, surviving a kill, refusing what does not belong together."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vatt_tf.errors import UserError
from vatt_tf.search_index.folder import Entry, create_or_resume, open_index

MODEL = {"kind": "run_dir", "address": "/runs/a", "hash": "a" * 64}
SETTINGS = {"videos": "/videos", "clip_seconds": 0.4}
SPACES = {"vt": {"dim": 3, "partners": ["text"]}, "va": {"dim": 2, "partners": ["audio"]}}


def opened(path, **changes):
    arguments = {"model": MODEL, "settings": SETTINGS, "spaces": SPACES, **changes}
    return create_or_resume(path, **arguments)


def add(index, file, clips, value, reason=""):
    times = [(float(i), i + 0.5) for i in range(clips)]
    entry = Entry(file, 10, 1, 0, times, reason)
    index.add(entry, {s: np.full((clips, SPACES[s]["dim"]), value) for s in SPACES})


@pytest.fixture(name="path")
def make_index(tmp_path):
    path = tmp_path / "index"
    with opened(path) as index:
        add(index, "a.mp4", 2, 1.0)
        add(index, "bad.mp4", 0, 0.0, "no moov atom")
        add(index, "b.mp4", 3, 2.0)
        index.save_manifest()
    return path


def test_what_was_added_is_read_again(path):
    index = open_index(path)
    clips = index.clips()
    assert clips.files == ["a.mp4", "b.mp4"] and clips.video.tolist() == [0, 0, 1, 1, 1]
    assert clips.rows is None and clips.times[3].tolist() == [1.0, 1.5]
    assert index.vectors("va", clips).tolist() == [[1, 1]] * 2 + [[2, 2]] * 3
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["counts"] == {"videos": 2, "clips": 5, "seconds": 2.5, "quarantined": 1}
    assert manifest["quarantine"] == [{"file": "bad.mp4", "reason": "no moov atom"}]
    assert manifest["model"] == MODEL and manifest["settings"] == SETTINGS


def test_replaced_gone_and_returned_videos(path):
    with opened(path) as index:
        add(index, "a.mp4", 1, 5.0)
    index = open_index(path)
    clips = index.clips()
    assert clips.files == ["b.mp4", "a.mp4"] and clips.rows.tolist() == [2, 3, 4, 5]
    assert index.vectors("vt", clips)[:, 0].tolist() == [2, 2, 2, 5]
    with opened(path) as index:
        index.mark("b.mp4", False)
    assert open_index(path).clips().files == ["a.mp4"]
    with opened(path) as index:
        index.mark("b.mp4", True)
    assert open_index(path).clips().files == ["b.mp4", "a.mp4"]


@pytest.mark.parametrize("torn", [b'{"file": "c.mp4", "size": 1', b"\xff\xfe", b'{"a": 1}'])
def test_what_a_killed_run_left_is_cut_off(path, torn):
    log = path / "videos.jsonl"
    size, before = log.stat().st_size, open_index(path).log_bytes
    log.write_bytes(log.read_bytes() + torn)
    vectors = path / "vectors_vt.f32"
    vectors.write_bytes(vectors.read_bytes() + b"12345")
    index = open_index(path)  # a search may look in between
    assert index.log_bytes == before == size and len(index.clips()) == 5
    with opened(path) as index:
        assert log.stat().st_size == size and vectors.stat().st_size == 5 * 3 * 4
        add(index, "c.mp4", 1, 7.0)
    index = open_index(path)
    assert index.vectors("vt", index.clips())[:, 0].tolist() == [1, 1, 2, 2, 2, 7]


def test_damage_is_refused(path):
    vectors = path / "vectors_vt.f32"
    data = vectors.read_bytes()
    vectors.write_bytes(data[:-1])
    with pytest.raises(UserError, match="has 59 bytes, expected 60"):
        open_index(path)
    vectors.write_bytes(data)
    log = path / "videos.jsonl"
    log.write_bytes(b"{}\n" + log.read_bytes())
    with pytest.raises(UserError, match="line 1 is damaged"):
        open_index(path)
    (path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="not readable as JSON"):
        open_index(path)
    (path / "manifest.json").write_text('{"splits": {}}')
    with pytest.raises(UserError, match="not the manifest of an index"):
        open_index(path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": {**MODEL, "hash": "b" * 64}}, "model is aaaaaaaaaaaa .* and bbbbbbbbbbbb"),
        ({"settings": {**SETTINGS, "clip_seconds": 2}}, "clip_seconds is 0.4 there and 2 now"),
        ({"spaces": {"vt": SPACES["vt"]}}, "spaces are"),
    ],
)
def test_other_model_or_settings_are_refused(path, changes, message):
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=message):
        with opened(path, **changes):
            pass
    assert (path / "manifest.json").read_bytes() == before


def test_the_same_model_elsewhere_is_welcome(path):
    with opened(path, model={**MODEL, "kind": "server", "address": "localhost:8500"}):
        pass
    assert open_index(path).manifest["model"]["kind"] == "server"


def test_one_process_at_a_time(path):
    with opened(path):
        with pytest.raises(UserError, match="another embed is at work"):
            with opened(path):
                pass


def test_other_folders_are_left_alone(tmp_path):
    with pytest.raises(UserError, match="no index there .* vatt_tf.embed"):
        open_index(tmp_path / "absent")
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="not empty and holds no index"):
        with opened(tmp_path):
            pass
    with pytest.raises(UserError, match="is a file, expected a folder"):
        with opened(tmp_path / "letter.txt"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
