"""The tool that measures a stranger's first hour: its folders, queries and checks, untrained."""

from __future__ import annotations

import dataclasses
import shutil
import sys

import numpy as np
import pytest

from tests.conftest import CHECKOUT
from vatt_tf.data import media
from vatt_tf.data.media.captions import read_captions
from vatt_tf.data.prepare.sample_videos import write_video
from vatt_tf.embed import embed

sys.path.insert(0, str(CHECKOUT / "tools"))
import first_hour
import first_hour_sets

sys.path.remove(str(CHECKOUT / "tools"))

# Share of the folders that are measured: some videos of each.
SIZE = 0.1


def noise(seconds, height=32, width=64, seed=0):
    """Frames of 25 a second that differ from video to video, and from left to right."""
    random = np.random.default_rng(seed)
    frames = np.empty((round(25 * seconds), height, width, 3), np.uint8)
    frames[:] = (
        random.integers(0, 256, (1, height // 16, width // 16, 3)).repeat(16, 1).repeat(16, 2)
    )
    frames[:, :, : width // 2] //= 4
    return frames


@pytest.fixture(name="data", scope="module")
def find_data(shared_dir):
    return shared_dir / "data"


@pytest.fixture(name="japanese", scope="module")
def make_japanese(data, weights_folder, tmp_path_factory):
    """A run directory as the quickstart leaves it for the Japanese folder, and its captions."""
    place = tmp_path_factory.mktemp("hour")
    (place / "videos").mkdir()
    captions = first_hour_sets.SETS["b"].build(data, place / "videos", SIZE)
    shutil.copytree(weights_folder, place / "run")
    embed(place / "videos", place / "run" / "index", run_dir=str(place / "run"), quiet=True)
    (place / "run" / "report.html").touch()
    return place / "run", captions


# --- The folders ---


def test_files_are_joined_and_turned(tmp_path):
    """What a player shows is the same where the frames lie on their side and say so."""
    upright = noise(1.0, height=64, width=32)
    sound = np.zeros(24_000, np.float32)
    write_video(tmp_path / "plain.mp4", np.rot90(upright, 1, (1, 2)).copy(), sound, frame_rate=25)
    first_hour_sets.join([tmp_path / "plain.mp4"] * 3, tmp_path / "three.mp4", rotation=-90)
    facts = media.probe(tmp_path / "three.mp4")
    assert (facts.width, facts.height, facts.rotation) == (32, 64, 270)
    assert facts.has_audio and facts.duration == pytest.approx(3.0, abs=0.15)
    clip = media.read_clip(tmp_path / "three.mp4", 2.0, frame_rate=25)
    assert not clip.damage and len(clip.frames) >= 24
    assert abs(clip.frames.mean(0) - upright[0]).mean() < 12


def test_folders(data, tmp_path):
    for letter, found in first_hour_sets.SETS.items():
        (tmp_path / letter).mkdir()
        captions = found.build(data, tmp_path / letter, SIZE if letter != "f" else 0.01)
        names = {path.name for path in (tmp_path / letter).iterdir()}
        videos = {name for name in names if not name.endswith(".srt")}
        assert set(captions) in (set(), videos)
        assert {name.replace(".mp4", ".srt") for name in captions} == names - videos
        assert bool(found.queries(captions)) == (letter in "bf")
    assert len(list((tmp_path / "a").iterdir())) == 4
    for name, (width, height) in {"phone_00.mp4": (162, 288), "phone_01.mp4": (162, 288)}.items():
        facts = media.probe(tmp_path / "c" / name)
        assert (facts.width, facts.height) == (width, height) and facts.has_audio
    assert media.probe(tmp_path / "c" / "phone_01.mp4").rotation == 270
    assert media.probe(tmp_path / "d" / "long.mp4").duration == pytest.approx(60, abs=3)
    captions = first_hour_sets.SETS["f"].build(data, tmp_path / "f", 0.01)
    file, text = next(iter(captions.items()))
    ((caption,), _) = read_captions((tmp_path / "f" / file).with_suffix(".srt"))
    assert caption.text == text and 0 < caption.start < caption.end < 3


def test_queries():
    captions = {"a": "bin blue at f two now", "b": "set red at f two now"}
    queries = first_hour_sets.three_words(captions)
    assert len(queries) == 20 + 20 - 4  # "at f two", ...: what both say is asked once
    assert all(first_hour.holding(captions, query) for query in queries)
    assert first_hour.holding(captions, "at two now") == {"a", "b"}
    assert first_hour.holding(captions, "a blue at") == set()  # whole words
    captions = {"a": "東京で犬が三匹、雪の日"}
    queries = first_hour_sets.japanese_queries(captions)
    assert set(queries) == {"東京", "犬", "三", "雪"}


# --- The checks ---


def test_pieces_are_shifted_against_the_clips(japanese):
    run, captions = japanese
    found = first_hour.pieces(run / "index")
    assert len(found) == len(set(found)) <= first_hour.QUERIES
    assert {file for file, _, _ in found[: len(captions)]} == set(captions)  # in turn
    for _, start, end in found:
        assert (start - 1.0) % 0.8 == pytest.approx(0.0, abs=1e-6) and end - start > 0.5


def test_a_piece_is_half_the_size(tmp_path):
    write_video(tmp_path / "a.mp4", noise(2.0), None, frame_rate=25)
    first_hour.cut_piece(tmp_path / "a.mp4", 1.0, 1.8, tmp_path / "b.mp4")
    facts = media.probe(tmp_path / "b.mp4")
    assert (facts.width, facts.height) == (32, 16) and facts.duration == pytest.approx(0.8, abs=0.1)
    write_video(tmp_path / "tiny.mp4", noise(2.0)[:, :2, :2], None, frame_rate=25)
    first_hour.cut_piece(tmp_path / "tiny.mp4", 1.0, 1.8, tmp_path / "c.mp4")
    assert media.probe(tmp_path / "c.mp4").width == 2


def test_a_row(japanese):
    run, captions = japanese
    row = first_hour.check("b", run, 1.25, captions)
    queries = len(first_hour_sets.japanese_queries(captions))
    assert (row.videos, row.minutes, row.report, row.search) == (4, 1.25, True, True)
    assert row.words == f"{queries}/{queries}" and row.by_example.endswith("/8")
    assert row.embeddings.endswith("%)")
    # A caption that the index does not have: its clip cannot come first.
    first, *_ = captions
    query = next(q for q in first_hour_sets.japanese_queries(captions) if q not in captions[first])
    wrong = {**captions, first: captions[first] + query}
    assert first_hour.by_words(run / "index", run, captions, [query]) == 1
    assert first_hour.by_words(run / "index", run, wrong, [query]) == 0


def test_a_run_that_ended_early(tmp_path):
    (tmp_path / "videos").mkdir()
    row = first_hour.check("a", tmp_path / "run", 0.5, {})
    assert not row.report and not row.search and row.cells()[3:] == ["NO", "NO", "-", "-", "-"]


def test_the_quickstart_is_typed_as_documented(tmp_path, monkeypatch, capsys):
    typed = []

    def run(command, **_):
        typed.append(command)
        return first_hour.subprocess.CompletedProcess(command, 2)

    monkeypatch.setattr(first_hour.subprocess, "run", run)
    first_hour.run_quickstart(tmp_path / "v", tmp_path / "r", tmp_path / "log", ["STEPS=3"])
    places = [f"VIDEOS={tmp_path / 'v'}", f"DATA={tmp_path / 'r'}_data", f"RUN={tmp_path / 'r'}"]
    assert typed == [["make", "quickstart", *places, "STEPS=3"]]
    assert "ended with 2" in capsys.readouterr().out


def test_a_folder_of_others_stays(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "letter.doc").touch()
    with pytest.raises(SystemExit, match="not of this tool"):
        first_hour.measure("a", tmp_path, tmp_path, 1.0, [])
    assert (tmp_path / "a" / "letter.doc").exists()


# --- The table ---


def test_the_document_keeps_its_text(tmp_path, monkeypatch):
    document = tmp_path / "first_hour.md"
    shutil.copy(first_hour.DOCUMENT, document)
    before = document.read_text()
    row = first_hour.Row("a: x", 40, 3.14, True, True, "36/40")
    first_hour.write_document([row, dataclasses.replace(row, name="b: y")], document)
    first_hour.write_document([row], document)
    text = document.read_text()
    assert "| a: x | 40 | 3.1 | yes | yes | 36/40 | - | - |" in text and "b: y" not in text
    around = [part.split("| --- |")[0] for part in (before, text)]
    assert around[0] == around[1] and before.split("| column |")[1] == text.split("| column |")[1]
    assert max(map(len, first_hour.as_text([row]).splitlines())) <= 120


@pytest.mark.parametrize(
    "flags", [["--sets=a,x"], ["--size=0"], ["--size=2"], ["--write", "--sets=a"]]
)
def test_flags_that_are_refused(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        first_hour.main(flags)
    assert ended.value.code == 2 and flags[-1].split("=")[0] in capsys.readouterr().err
