"""Mutated files give clips or a reason, within bounds of time, memory and output."""

import random
import sys

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.conftest import CHECKOUT
from tests.data.media import numbered
from tests.data.media.captions.test_properties import FEW

sys.path.insert(0, str(CHECKOUT / "tools"))
import mutated_media

KINDS = {
    "a.mp4": ("libx264", "aac"),
    "a.ts": ("libx264", "aac"),
    "a.flv": ("libx264", "aac"),
    "a.mkv": ("mpeg4", "aac"),
    "a.avi": ("mpeg4", "mp3"),
    "a.mpg": ("mpeg2video", "mp2"),
    "a.webm": ("libvpx", "libopus"),
    "a.mov": ("libx264", "pcm_s16le"),
    "a.m4a": (None, "aac"),
    "a.flac": (None, "flac"),
}


def write_all(folder, kinds, seconds):
    folder.mkdir()
    for name, (video, audio) in kinds.items():
        numbered.write(folder / name, seconds, video=video, audio=audio)


def check(entry):
    assert "dead" not in entry, entry
    assert entry["clips"] or entry["told"], entry
    # A jump of the clock may end one clip more.
    assert max(entry["clips"], entry["windows"]) <= entry["room"] + entry["jumps"], entry
    assert max(entry["prepare"], entry["embed"]) < 20, entry
    assert entry["memory"] < 1500, entry


def test_a_few_mutated_files(tmp_path, made_once):
    few = {name: KINDS[name] for name in ("a.mp4", "a.ts")}
    folder = made_once("mutated_few", lambda path: write_all(path, few, 1.0))
    files = [path.read_bytes() for path in mutated_media.sources([folder])]

    def one(seed, number):
        path = tmp_path / list(few)[number]
        path.write_bytes(
            mutated_media.mutate(files[number], files[1 - number], random.Random(seed))
        )
        found = mutated_media.read(path, "video")
        assert found["clips"] or found["told"]
        assert max(found["clips"], found["windows"]) <= 3 + found["jumps"]

    seeds = st.integers(0, 2**32 - 1)
    hypothesis.given(seeds, st.sampled_from((0, 1)))(
        hypothesis.settings(FEW, max_examples=12)(one)
    )()


@pytest.mark.check
def test_mutated_files_in_processes_of_their_own(tmp_path):
    write_all(tmp_path / "made", KINDS, 4.0)
    public = CHECKOUT.parent / "shared" / "data" / "clips" / "files"
    folders = [tmp_path / "made", *([public] if public.is_dir() else [])]
    entries = list(mutated_media.run(folders, 5000, 200))
    assert len(entries) == 200
    for entry in entries:
        check(entry)


@pytest.mark.check
def test_a_process_that_hangs_is_killed(tmp_path, monkeypatch):
    write_all(tmp_path / "made", {"a.mp4": KINDS["a.mp4"]}, 1.0)
    monkeypatch.setattr(mutated_media, "MOST_SECONDS", 0.001)
    first, second = mutated_media.run([tmp_path / "made"], 0, 2)
    assert first["dead"] == second["dead"] == "hangs"
