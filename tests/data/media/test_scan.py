"""What is looked for in a folder, and what is left out."""

from __future__ import annotations

import os

from vatt_tf.data.media.scan import find_files, scan
from vatt_tf.deflate import _image_files


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_folders_are_left_out_by_whatever_path_they_are_reached(tmp_path):
    make(tmp_path / "v", "a.mp4", "index/b.mp4", "c.srt", "other/index/d.mp4")
    os.symlink(tmp_path / "v" / "index", tmp_path / "v" / "link")
    found, captions = scan(
        tmp_path / "v", (".mp4",), [], leave_out=(tmp_path / "v/other/../index",)
    )
    assert found == ["a.mp4", "other/index/d.mp4"] and dict(captions) == {"c": ["c.srt"]}
    # The folder itself is looked into, whatever is left out.
    assert len(scan(tmp_path / "v", (".mp4",), [], leave_out=(tmp_path / "v",))[0]) == 3
    assert len(scan(tmp_path / "v", (".mp4",), [])[0]) == 3


def test_names_that_are_not_utf8(tmp_path):
    make(tmp_path, "a.mp4", "caf\udce9.mp4", "d\udcff/b.mp4")
    quarantine = []
    assert scan(tmp_path, (".mp4",), quarantine)[0] == ["a.mp4"]
    assert [entry["file"] for entry in quarantine] == ["caf\\xe9.mp4", "d\\xff/b.mp4"]
    names = sorted(find_files(tmp_path, (".mp4",)))
    assert names == ["a.mp4", "caf\udce9.mp4", "d\udcff/b.mp4"]
    assert all((tmp_path / name).is_file() for name in names)


def test_images_for_deflation_that_are_not_read(tmp_path):
    make(tmp_path, "a.png", "caf\udce9.png")
    files, lines = _image_files(str(tmp_path))
    assert files == [f"{tmp_path}/a.png"]
    assert lines == ["caf\\xe9.png: the file name is not valid UTF-8; rename the file"]
