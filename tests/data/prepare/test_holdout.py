"""What --val_fraction holds out: whole files, of few files their ends; folders without anything."""

import csv
import dataclasses
import json

import pytest

from tests.data.test_prepare import digests, make_video, records
from vatt_tf import prepare as command
from vatt_tf.data.prepare import holdout
from vatt_tf.data.prepare.plan import PlanError, Settings
from vatt_tf.data.prepare.planning import make_plan

SETTINGS = Settings(short_side=32, clip_seconds=1.0, num_shards=1, val_fraction=0.2)
FLAGS = ["--short_side=32", "--clip_seconds=1", "--num_shards=1", "--val_fraction=0.2", "--quiet"]
SRT = "1\n00:00:0{0},100 --> 00:00:0{0},900\n{1}\n\n"


@pytest.fixture(scope="module")
def one_file(tmp_path_factory):
    """One file of 10 s with a caption in each part and one between them."""
    folder = tmp_path_factory.mktemp("one")
    make_video(folder / "long.mp4", seconds=10.0)
    captions = ((1, "early"), (7, "between"), (8, "late"))
    (folder / "long.srt").write_text("".join(SRT.format(*caption) for caption in captions))
    return folder


def times(out, split):
    with open(out / "clips" / f"{split}.csv") as file:
        return [(float(row["start"]), float(row["end"])) for row in csv.DictReader(file)]


def test_the_end_of_one_file_is_held_out_a_clip_apart(one_file, tmp_path, capsys):
    assert command.main([f"--videos={one_file}", f"--out={tmp_path}", *FLAGS, "--jobs=1"]) == 0
    assert "held out by time" in capsys.readouterr().out
    # The last fifth begins at 8 s; training ends a clip before.
    assert times(tmp_path, "train") == [(float(k), float(k + 1)) for k in range(7)]
    assert [start for start, _ in times(tmp_path, "val")] == [8.0, 9.0]
    assert json.loads((tmp_path / "manifest.json").read_text())["held_out"] == "by time"
    words = (tmp_path / "tokenizer/words.txt").read_text().split()
    assert words[-1] == "early"  # the held-out captions are in no vocabulary
    before = digests(tmp_path)
    command.prepare(one_file, tmp_path, SETTINGS)
    assert digests(tmp_path) == before


def test_clips_around_captions_stay_in_their_part(one_file, tmp_path):
    settings = dataclasses.replace(SETTINGS, cut="captions", clip_seconds=0.5)
    content = command.prepare(one_file, tmp_path, settings, tokenizers=())
    captions = {
        split: [
            example.context.feature["caption/string"].bytes_list.value[0]
            for example in records(tmp_path, split)
        ]
        for split in ("train", "val")
    }
    assert captions == {"train": [b"early"], "val": [b"late"]}
    assert content["held_out"] == "by time"


def test_parts_that_overlap_are_refused(one_file, monkeypatch):
    monkeypatch.setattr(holdout, "_parts", lambda *_: ((0.0, 8.5), (8.0, None)))
    with pytest.raises(PlanError, match="0-8.5 s in train, 8-inf s in val"):
        make_plan(one_file, SETTINGS)


def test_few_files_are_split_and_five_are_not(tmp_path):
    folder = tmp_path / "videos"
    for index in range(4):
        make_video(folder / f"{index}.mp4", seconds=10.0 if index else 1.0, level=index)
    plan = make_plan(folder, SETTINGS)
    parts = {(v.file, s.split): v.part for s in plan.shards for v in s.videos}
    assert plan.held_out == "by time"
    assert parts["1.mp4", "train"] == (0.0, 7.0) and parts["1.mp4", "val"] == (8.0, None)
    assert parts["0.mp4", "train"] is None and ("0.mp4", "val") not in parts  # too short
    make_video(folder / "4.mp4", seconds=1.0, level=4)
    plan = make_plan(folder, SETTINGS)
    assert plan.held_out == "by file"
    assert all(video.part is None for shard in plan.shards for video in shard.videos)
    assert make_plan(folder, dataclasses.replace(SETTINGS, val_fraction=0.0)).held_out == ""


def test_held_out_files_of_a_small_folder_have_sound(tmp_path):
    """A file of twelve, and a silent one, is what the names alone would hold out."""
    folder = tmp_path / "videos"
    chance = {n: holdout.number_of(f"split:{n}.mp4") for n in map(str, range(200))}
    names = [n for n in chance if chance[n] >= 0.2][:11] + [n for n in chance if chance[n] < 0.2][
        :1
    ]
    for number, name in enumerate(names):
        make_video(folder / f"{name}.mp4", 1.0, sound=number < 3, level=20 * number)
    plan = make_plan(folder, dataclasses.replace(SETTINGS, val_fraction=0.2))
    splits = {s.split: {v.file for v in s.videos} for s in plan.shards}
    loud = {f"{name}.mp4" for name in names[:3]}
    assert f"{names[-1]}.mp4" in splits["val"] and len(splits["val"] & loud) == 1
    # Half of what was asked for, and no fewer.
    plan = make_plan(folder, dataclasses.replace(SETTINGS, val_fraction=0.8))
    assert sum(len(s.videos) for s in plan.shards if s.split == "val") >= 4
    some = dataclasses.replace(SETTINGS, val_fraction=0.5, sample_rate=0)
    silent = {s.split: len(s.videos) for s in make_plan(folder, some).shards}
    assert silent["val"] >= 3


def test_one_file_with_sound_is_left_to_train_on(tmp_path):
    for number in range(6):
        make_video(tmp_path / f"{number}.mp4", 1.0, sound=number == 0, level=20 * number)
    plan = make_plan(tmp_path, SETTINGS)
    held = {v.file for s in plan.shards for v in s.videos if s.split == "val"}
    assert held and "0.mp4" not in held


@pytest.mark.parametrize("changes", [{"clip_seconds": 5.0}, {"cut": "whole"}])
def test_a_file_that_cannot_be_split_is_trained_on(one_file, changes):
    plan = make_plan(one_file, dataclasses.replace(SETTINGS, **changes))
    assert [shard.split for shard in plan.shards] == ["train"] and plan.held_out == ""
    assert "holds nothing out" in plan.warnings[0]["warning"]


def test_fingerprints_of_whole_files_are_what_they_were(one_file):
    plan = make_plan(one_file, dataclasses.replace(SETTINGS, val_fraction=0.0))
    (video,) = plan.shards[0].videos
    assert len(video.content()) == len(dataclasses.fields(video)) - 1
    half = dataclasses.replace(video, part=(0.0, 5.0))
    shard = dataclasses.replace(plan.shards[0], videos=[half])
    assert shard.fingerprint(SETTINGS) != plan.shards[0].fingerprint(SETTINGS)


def test_a_change_of_what_is_held_out_is_reported():
    (note,) = holdout.changes({"held_out": "by time"}, "by file")
    assert "held out by file now, before by time" in note
    assert not list(holdout.changes({}, "by file")) and not list(holdout.changes(None, "by time"))


def test_silent_videos_without_captions_are_refused(tmp_path):
    folder, out = tmp_path / "camera", tmp_path / "out"
    for index in range(2):
        make_video(folder / f"{index}.mp4", 1.0, sound=False, level=50 + index)
    with pytest.raises(PlanError, match=r"none of the 2 videos has sound.*name\.srt.*convert"):
        command.prepare(folder, out, Settings(short_side=32))
    assert not out.exists()
    alone = Settings(short_side=32, sample_rate=0)
    assert command.prepare(folder, out, alone)["splits"]["train"]["records"] == 2
    (folder / "1.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\na ball\n")
    content = command.prepare(folder, tmp_path / "words", Settings(short_side=32))
    assert content["splits"]["train"]["with_captions"] == 1


def test_copies_of_a_file_are_on_one_side(tmp_path):
    """Compared with the plan of the folder without copies; files of one size are no copies yet."""
    (tmp_path / "videos/backup").mkdir(parents=True)
    for index in range(20):
        (tmp_path / f"videos/{index}.mp4").write_bytes(bytes([index]) * 300_000)
    settings = dataclasses.replace(SETTINGS, val_fraction=0.5)

    def splits():
        plan = make_plan(tmp_path / "videos", settings)
        return {v.file: s.split for s in plan.shards for v in s.videos}, plan.warnings

    before, warnings = splits()
    assert warnings == [] and set(before.values()) == {"train", "val"}
    for index in range(20):
        content = (tmp_path / f"videos/{index}.mp4").read_bytes()
        (tmp_path / f"videos/backup/{index}.mp4").write_bytes(content)
    after, warnings = splits()
    assert after == before | {f"backup/{name}": split for name, split in before.items()}
    assert len(warnings) == 20
    assert warnings[0]["warning"].startswith("it holds the same as ")


def test_clips_that_two_splits_share_are_reported(tmp_path, capsys):
    """The same sound and frames under two names, which a list puts into two splits."""
    for name in ("a", "b", "other"):
        make_video(tmp_path / f"videos/{name}.mp4", seconds=1.0, level=9 + 90 * (name == "other"))
    (tmp_path / "m.csv").write_text("path,split\na.mp4,train\nb.mp4,val\nother.mp4,val\n")
    flags = [f"--manifest={tmp_path / 'm.csv'}", "--tokenizers=", "--jobs=1"]
    videos, out = tmp_path / "videos", tmp_path / "out"
    assert command.main([f"--videos={videos}", f"--out={out}", *FLAGS[:3], "--quiet", *flags]) == 0
    note = "1 clip of val shown in train too: b.mp4 0-1 s is a.mp4 0-1 s"
    assert f"  {note}\n" in capsys.readouterr().out
    warnings = json.loads((out / "manifest.json").read_text())["warnings"]
    assert warnings == [{"file": "clips/val.csv", "warning": note}]
