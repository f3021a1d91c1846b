"""Which records ``--data`` means."""

from __future__ import annotations

import json

import pytest

from vatt_tf.errors import UserError
from vatt_tf.evaluation.source import find_source


def prepared(tmp_path, **splits):
    manifest = {
        "splits": {name: {"records": n} for name, n in splits.items()},
        "labels": ["a", "b"],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for name in splits:
        (tmp_path / name).mkdir()
    return tmp_path


def test_root_gives_val_else_test(tmp_path):
    found = find_source(str(prepared(tmp_path, train=10, test=4, val=3)))
    assert (found.split, found.records, found.labels) == ("val", 3, ("a", "b"))
    assert found.path == str(tmp_path / "val")


def test_empty_val_is_passed_over_and_a_split_can_be_named(tmp_path):
    root = prepared(tmp_path, train=10, val=0, test=4)
    assert find_source(str(root)).split == "test"
    named = find_source(str(root / "train"))
    assert (named.split, named.records, named.labels) == ("train", 10, ("a", "b"))
    assert named.data_source().path == str(root / "train")


def test_folders_without_manifest_are_taken_as_they_are(tmp_path):
    assert find_source(str(tmp_path)).path == str(tmp_path)
    assert find_source(str(tmp_path / "*-of-*")).split is None


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match=r"no such folder; make one with .*vatt_tf\.prepare"):
        find_source(str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"none of the held-out splits.*it has: train"):
        find_source(str(prepared(tmp_path, train=10)))
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="not a readable manifest"):
        find_source(str(tmp_path))


def test_an_existing_folder_is_no_pattern(tmp_path, monkeypatch):
    for name, records in (("set[12]", 3), ("set1", 9), ("se?", 4)):
        (tmp_path / name).mkdir()
        prepared(tmp_path / name, val=records)
    monkeypatch.chdir(tmp_path)
    for data, count in (("set[12]", 3), ("set[12]/val", 3), ("se?/val", 4), ("set1", 9)):
        found = find_source(data)
        assert (found.split, found.records, found.labels) == ("val", count, ("a", "b"))
        assert found.path == f"{data.removesuffix('/val')}/val"
    assert find_source("set[1]/val/*").path == "set[1]/val/*"


def test_the_home_folder_and_a_folder_called_tilde(tmp_path, monkeypatch):
    (tmp_path / "~").mkdir()
    prepared(tmp_path / "~", val=2)
    prepared(tmp_path, val=5)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_source("~").path == find_source("~/val").path == f"{tmp_path}/val"
    assert find_source("~").data_source().path == f"{tmp_path}/val"
    for data in ("./~", "./~/val"):
        found = find_source(data)
        assert (found.path, found.records) == ("./~/val", 2)
        assert found.data_source().path == "./~/val"


def test_training_clips_are_not_held_out(tmp_path):
    """Without a manifest, as after `cp`, or while `prepare` is at work."""
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    (tmp_path / "train/train-00000-of-00001.tfrecord").touch()
    with pytest.raises(UserError, match=r"none of the held-out splits.*it has: train.*/train, or"):
        find_source(str(tmp_path))
    assert find_source(str(tmp_path / "train")).path == str(tmp_path / "train")
    assert find_source(str(tmp_path), ("train",)).split == "train"
    (tmp_path / "val/val-00000-of-00001.tfrecord").touch()
    found = find_source(str(tmp_path))
    assert (found.path, found.split) == (str(tmp_path / "val"), "val")
