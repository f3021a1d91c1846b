"""``prepare --dry_run``: files, hours and gigabytes from a probe of some files."""

import re

import pytest

from tests.data.test_prepare import make_video
from vatt_tf import prepare
from vatt_tf.data.prepare import volume
from vatt_tf.data.prepare.volume import duration, gigabytes, length_of, spread

FLAGS = ["--clip_seconds=1", "--short_side=32", "--jobs=1"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        make_video(folder / f"{number}.mp4", seconds=2.0)
    return folder


def test_a_dry_run_estimates_what_a_run_makes(videos, tmp_path, capsys):
    flags = [f"--videos={videos}", f"--out={tmp_path / 'o'}", *FLAGS]
    assert prepare.main([*flags, "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert not (tmp_path / "o").exists()
    assert "files       6 files, " in text and "about 12 s (6 probed)" in text
    assert "for 12 s in clips" in text and "nothing was written" in text
    assert prepare.main([*flags, "--quiet"]) == 0
    made = sum(path.stat().st_size for path in (tmp_path / "o").rglob("*.tfrecord"))
    told = float(re.search(r"shards      \d+, about ([\d.]+) MB", text)[1])
    assert told * 1e6 == pytest.approx(made, rel=0.2, abs=1e5)


def test_the_times_of_a_manifest_count(videos, tmp_path, capsys):
    (tmp_path / "rows.csv").write_text("path,start,end\n0.mp4,0,0.5\n1.mp4,1,2\n")
    flags = [f"--videos={videos}", f"--out={tmp_path / 'o'}", f"--manifest={tmp_path}/rows.csv"]
    assert prepare.main([*flags, *FLAGS, "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert "files       2 files, " in text and "for 2 s in clips" in text  # 1.5 s


def test_files_that_cannot_be_read_are_named(videos, tmp_path, monkeypatch):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 50)
    good = videos / "0.mp4"
    found = length_of([(broken, 400), (good, good.stat().st_size)])
    assert found.probed == 2 and "broken.mp4" in found.unusable[0]
    assert "unusable    1 of the 2 probed: " in volume.unusable_lines(found)[0]
    nothing = length_of([(broken, 400)])
    assert nothing.seconds == 0 and nothing.files == 1
    assert "about 0 clips of 2 s" in volume.describe_index(nothing, 2.0, 2.0, 8, 0.1)


def test_units():
    assert spread(3) == [0, 1, 2] and spread(100, 4) == [12, 37, 62, 87]
    assert [duration(s) for s in (40, 720, 12_600)] == ["40 s", "12 min", "3.5 hours"]
    assert gigabytes(1.25e9) == "1.25 GB" and gigabytes(3e5) == "0.3 MB"
