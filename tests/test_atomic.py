"""Files and folders appear whole or not at all."""

import json
import os

import pytest

from vatt_tf import atomic
from vatt_tf.errors import UserError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_takes_its_place_when_it_is_whole(tmp_path, durable):
    path = tmp_path / "new/page.html"
    for text in ("first", "second"):
        with atomic.new_file(path, suffix=".part", durable=durable) as temporary:
            temporary.write_text(text)
            assert temporary.name.endswith(f".tmp-{os.getpid()}.part")
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text and names(path.parent) == ["page.html"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_file_that_was_not_finished_leaves_the_earlier_one(tmp_path, error):
    path = tmp_path / "page.html"
    path.write_text("first")
    with pytest.raises(error), atomic.new_file(path) as temporary:
        temporary.write_text("sec")
        raise error
    assert path.read_text() == "first" and names(tmp_path) == ["page.html"]


def test_a_folder(tmp_path):
    with pytest.raises(OSError), atomic.new_folder(tmp_path / "a/b") as temporary:
        (temporary / "file").touch()
        raise OSError
    assert names(tmp_path / "a") == []
    with atomic.new_folder(tmp_path / "a/b") as temporary:
        (temporary / "file").touch()
        assert not (tmp_path / "a/b").exists()
    assert names(tmp_path / "a") == ["b"] and names(tmp_path / "a/b") == ["file"]
    with pytest.raises(UserError, match="exists already"), atomic.new_folder(tmp_path / "a/b"):
        pytest.fail("entered")


def test_json(tmp_path):
    path = tmp_path / "facts.json"
    assert atomic.read_json(path) is None
    atomic.write_json(path, {"name": "été", "byte": "\udcff"})
    assert atomic.read_json(path) == {"name": "été", "byte": "\udcff"}
    assert "été" in path.read_text() and path.read_text().endswith("}\n")
    path.write_text(json.dumps({"cut": 1})[:-2])
    assert atomic.read_json(path) is None
    with pytest.raises(ValueError):
        atomic.write_json(path, float("nan"), allow_nan=False)
    assert names(tmp_path) == ["facts.json"]
