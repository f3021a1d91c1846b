"""The whole way from a folder to shards: plan, restart, settings, quarantine, bad input."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from vatt_tf import prepare as command
from vatt_tf.data.lists.manifest import ManifestError, read_rows
from vatt_tf.data.prepare import shards
from vatt_tf.data.prepare.plan import PlanError, Settings
from vatt_tf.data.prepare.planning import make_plan
from vatt_tf.data.prepare.sample_videos import write_video
from vatt_tf.data.shards.clip_table import ACCOUNTS
from vatt_tf.data.shards.lock import only_job
from vatt_tf.errors import UserError

SMALL = Settings(short_side=32, clip_seconds=1.0, num_shards=2)


def make_video(path, seconds=2.0, sound=True, level=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.full((round(seconds * 10), 32, 48, 3), level, np.uint8)
    wave = np.zeros(round(seconds * 24_000), np.float32) if sound else None
    write_video(path, frames, wave)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four videos: with captions, without, without sound, in a folder; none broken."""
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "a.mp4")
    (folder / "a.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\na red ball\n")
    make_video(folder / "b.MP4", sound=False)
    make_video(folder / "sub" / "a.mp4", level=200)
    (folder / "sub" / "a.en.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\na blue ball\n")
    make_video(folder / "sub" / "c.mov", seconds=2.4)
    (folder / "notes.txt").write_text("not a video")
    return folder


def records(out, split="train"):
    """All records of a split as SequenceExamples."""
    paths = sorted(str(path) for path in pathlib.Path(out, split).glob("*.tfrecord"))
    return [
        tf.train.SequenceExample.FromString(data)
        for data in tf.data.TFRecordDataset(paths).as_numpy_iterator()
    ]


def context(example, key):
    feature = example.context.feature[key]
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []


def digests(out):
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(pathlib.Path(out).glob("*/*.tfrecord"))
    }


def test_folder_to_shards(videos, tmp_path):
    content = command.prepare(videos, tmp_path, SMALL)
    assert json.loads((tmp_path / "manifest.json").read_text()) == content
    train = content["splits"]["train"]
    assert [shard["file"] for shard in train["shards"]] == [
        "train/train-00000-of-00002.tfrecord",
        "train/train-00001-of-00002.tfrecord",
    ]
    # 2 s make two clips of 1 s; the rest of 0.4 s of c.mov is left out.
    assert (train["records"], train["with_audio"], train["with_captions"]) == (8, 6, 2)
    assert train["seconds"] == 8.0
    assert content["videos"] == 4 and content["quarantine"] == [] and content["warnings"] == []
    for shard in train["shards"]:
        data = (tmp_path / shard["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
    found = {
        (
            context(example, "video/filename")[0],
            context(example, "clip/start/timestamp")[0],
        ): example
        for example in records(tmp_path)
    }
    assert len(found) == 8
    second = found[b"sub/a.mp4", 1_000_000]
    assert context(second, "caption/string") == [b"a blue ball"]
    assert context(second, "caption/start/timestamp") == [1_000_000]
    assert "WAVEFORM/feature/floats" not in found[b"b.MP4", 0].feature_lists.feature_list
    assert len(second.feature_lists.feature_list["image/encoded"].feature) == 10
    sound = second.feature_lists.feature_list["WAVEFORM/feature/floats"].feature[0]
    assert len(sound.float_list.value) == 48_000


def test_vocabulary_of_the_train_captions(videos, tmp_path):
    pytest.importorskip("vatt_tf.data.text.tokenizer")
    content = command.prepare(videos, tmp_path, SMALL)
    assert content["tokenizers"] == {"word": "tokenizer/words.txt"}
    words = (tmp_path / "tokenizer" / "words.txt").read_text().split()
    assert words == ["<pad>", "<bos>", "<eos>", "<unk>", "a", "ball", "blue", "red"]


def test_any_number_of_processes_gives_the_same_shards(videos, tmp_path):
    one = command.prepare(videos, tmp_path / "one", SMALL, jobs=1)
    two = command.prepare(videos, tmp_path / "two", SMALL, jobs=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert one == two


def test_restart_keeps_finished_shards_and_gives_the_same_bytes(videos, tmp_path, monkeypatch):
    whole = command.prepare(videos, tmp_path / "whole", SMALL, tokenizers=())
    build, built = shards.build_shard, []

    def interrupted(shard, *rest):
        if built:
            raise KeyboardInterrupt
        built.append(shard.name)
        return build(shard, *rest)

    out = tmp_path / "out"
    monkeypatch.setattr(shards, "build_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command.prepare(videos, out, SMALL, tokenizers=())
    assert not (out / "manifest.json").exists()
    (out / "train" / "train-00001-of-00002.tfrecord.tmp-123").write_bytes(b"half")
    kept = (out / built[0]).stat()

    again = []
    monkeypatch.setattr(
        shards, "build_shard", lambda shard, *rest: again.append(shard.name) or build(shard, *rest)
    )
    content = command.prepare(videos, out, SMALL, tokenizers=())
    assert len(again) == 1 and again != built
    assert (out / built[0]).stat().st_mtime_ns == kept.st_mtime_ns
    assert digests(out) == digests(tmp_path / "whole")
    assert content == whole
    assert not list(out.glob("*/*.tmp-*"))
    # Nothing is left to do now.
    assert command.prepare(videos, out, SMALL, tokenizers=()) == whole
    assert len(again) == 1


def test_other_settings_are_refused(videos, tmp_path):
    command.prepare(videos, tmp_path, SMALL, tokenizers=())
    before = digests(tmp_path)
    other = Settings(short_side=32, clip_seconds=1.0, num_shards=2, frame_rate=5.0)
    with pytest.raises(PlanError, match=r"other settings: --frame_rate=10.0 \(now 5.0\)"):
        command.prepare(videos, tmp_path, other, tokenizers=())
    assert digests(tmp_path) == before


def test_changed_video_is_made_again(tmp_path):
    folder, out = tmp_path / "videos", tmp_path / "out"
    for name in "ab":
        make_video(folder / f"{name}.mp4", 1.0)
    command.prepare(folder, out, SMALL, tokenizers=())
    before = digests(out)
    make_video(folder / "b.mp4", 1.0, level=200)
    command.prepare(folder, out, SMALL, tokenizers=())
    after = digests(out)
    assert sum(before[name] != after[name] for name in before) == 1
    (folder / "b.mp4").unlink()
    command.prepare(folder, out, SMALL, tokenizers=())
    assert list(digests(out)) == ["train/train-00000-of-00001.tfrecord"]


def test_second_run_at_the_same_time_is_refused(videos, tmp_path):
    with only_job(tmp_path, "prepare", tmp_path / ACCOUNTS):
        with pytest.raises(PlanError, match="another prepare is at work"):
            command.prepare(videos, tmp_path, SMALL)


def test_bad_files_are_quarantined_and_the_job_goes_on(tmp_path):
    folder = tmp_path / "videos"
    make_video(folder / "good.mp4", 1.0)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("hello " * 500)
    (folder / "sound.wav").write_bytes(b"RIFF")
    (folder / "good.srt").write_text("no captions here")
    content = command.prepare(folder, tmp_path / "out", SMALL)
    assert content["splits"]["train"]["records"] == 1
    reasons = {entry["file"]: entry["reason"] for entry in content["quarantine"]}
    assert reasons["empty.mp4"] == "the file is empty (0 bytes)"
    assert reasons["text.mp4"].startswith("not a readable media file: Invalid data found")
    assert "not a readable media file" in reasons["sound.wav"]
    assert reasons["good.mp4"].startswith("captions not used:")
    assert content["tokenizers"] == {}


def test_folder_without_a_usable_video(tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    arguments = [f"--videos={tmp_path / 'videos'}", f"--out={tmp_path / 'out'}", "--quiet"]
    assert command.main(arguments) == 2
    assert "no video file found (looked for .mp4 .mov" in capsys.readouterr().err
    (tmp_path / "videos" / "a.mp4").write_bytes(b"")
    assert command.main([*arguments, "--jobs=1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "a.mp4: the file is empty" in error
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["quarantine"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--videos=/no/such"], "--videos=/no/such: no such folder"),
        ([], "--videos=DIR is missing"),
        (["--videos=.", "--sample"], "leave --videos and --manifest out"),
        (["--videos=.", "--frame_rate=-1"], "--frame_rate is -1.0"),
        (["--videos=.", "--tokenizers=letters"], "'letters' is none of word, wordpiece"),
        (["--videos=.", "--jobs=0"], "argument --jobs: expected a whole number"),
        (["--videos=.", "--", "--region=x"], "flags after -- are for --runner=beam"),
    ],
)
def test_wrong_flags_give_one_line(tmp_path, capsys, arguments, words):
    try:
        code = command.main([*arguments[:1], f"--out={tmp_path / 'out'}", *arguments[1:]])
    except SystemExit as error:  # the parser's own
        code = error.code
    assert code == 2
    captured = capsys.readouterr().err
    assert captured.startswith("error: ") and words in captured and captured.count("\n") == 1


def test_file_names_of_every_kind(tmp_path):
    """Names with dashes, colons, spaces, unicode; the same name twice; hidden files; link loops."""
    folder = tmp_path / "videos"
    names = ["-dash.mp4", "a:b.mp4", "späße 1.mp4", "x/a.mp4", "y/a.mp4", "y/a.b.mp4"]
    for name in names:
        make_video(folder / name, 1.0, sound=False)
    make_video(folder / ".hidden.mp4", 1.0)
    os.symlink(folder, folder / "x" / "loop")
    (folder / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nof no video here\n")
    (folder / "y" / "a.b.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\ndotted\n")
    content = command.prepare(folder, tmp_path / "out", SMALL, tokenizers=())
    assert content["quarantine"] == [] and content["videos"] == len(names)
    found = {
        context(example, "video/filename")[0].decode(): context(example, "caption/string")
        for example in records(tmp_path / "out")
    }
    assert sorted(found) == sorted(names)
    assert found.pop("y/a.b.mp4") == [b"dotted"]
    assert not any(found.values())


def test_two_videos_that_share_one_caption_file(tmp_path):
    folder = tmp_path / "videos"
    make_video(folder / "a.mp4", 1.0)
    make_video(folder / "a.mkv", 1.0)
    (folder / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nboth\n")
    content = command.prepare(folder, tmp_path / "out", SMALL, tokenizers=())
    assert content["splits"]["train"]["with_captions"] == 2
    (warning,) = content["warnings"]
    assert warning["warning"] == "a.srt is used for 2 videos: a.mkv, a.mp4"


def test_captions_in_another_folder(tmp_path):
    make_video(tmp_path / "videos" / "deep" / "a.mp4", 1.0)
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions" / "a.align").write_text("0 10000 sil\n10000 20000 hello\n")
    content = command.prepare(
        tmp_path / "videos",
        tmp_path / "out",
        SMALL,
        captions_dir=tmp_path / "captions",
        tokenizers=(),
    )
    assert content["splits"]["train"]["with_captions"] == 1
    assert context(records(tmp_path / "out")[0], "caption/end/timestamp") == [800_000]


def test_picture_and_sound_of_a_record_belong_together(tmp_path):
    """A white frame and a beep every 0.7 s: less than a frame apart in every clip."""
    frames = np.zeros((60, 32, 48, 3), np.uint8)
    frames[::7] = 255
    tone = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(2400) / 24_000)
    sound = np.zeros(6 * 24_000, np.float32)
    for index in range(0, 60, 7):
        sound[index * 2400 : (index + 1) * 2400] = tone
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", frames, sound)
    settings = Settings(clip_seconds=1.5)
    command.prepare(tmp_path / "videos", tmp_path / "out", settings, tokenizers=())
    examples = records(tmp_path / "out")
    assert len(examples) == 4
    for example in examples:
        lists = example.feature_lists.feature_list
        images = [step.bytes_list.value[0] for step in lists["image/encoded"].feature]
        bright = [tf.io.decode_jpeg(image).numpy().mean() > 128 for image in images]
        wave = np.float32(lists["WAVEFORM/feature/floats"].feature[0].float_list.value)
        loud = np.sqrt((wave.reshape(len(images), 4800)[:, 1200:3600] ** 2).mean(1)) > 0.2
        assert bright == loud.tolist() and 2 <= sum(bright) <= 3


def test_manifest_csv(videos, tmp_path):
    csv = tmp_path / "m.csv"
    csv.write_text(
        "split,path,start,end,label,caption,extra\n"
        "val,a.mp4,0.5,1.5,red,first,1\n"
        "train,sub/a.mp4,0,1,blue,second,2\n"
        "train,sub/a.mp4,0,1,ball,another,3\n"
        "train,sub/a.mp4,0,1,ball,another,4\n"
        ",sub/a.mp4,1,2,blue,third,5\n"
        "train,sub/c.mov,,,grey,,6\n"
        "train,gone.mp4,0,1,red,lost,7\n"
        "train,a.mp4,2,1,red,turned,8\n"
        "train,a.mp4,x,1,red,letters,9\n"
        "train,a.mp4,-1,1,red,negative,10\n"
        "train,a.mp4,7,8,red,late,11\n"
        "train,a.mp4,0,500,red,long,12\n"
        "train,b.MP4,1.0,9.0,red,short,13\n"
        "to/kenizer,b.MP4,0,1,red,folder,14\n"
    )
    content = command.prepare(videos, tmp_path / "out", SMALL, manifest=csv, tokenizers=())
    assert content["labels"] == ["ball", "blue", "grey", "red"]
    assert content["splits"]["val"]["records"] == 1
    (val,) = records(tmp_path / "out", "val")
    assert context(val, "caption/string") == [b"first"]
    assert context(val, "clip/label/index") == [3]
    assert context(val, "clip/start/timestamp") == [500_000]
    found = {
        (context(e, "video/filename")[0], context(e, "clip/start/timestamp")[0]): e
        for e in records(tmp_path / "out")
    }
    assert len(found) == 5  # two of sub/a.mp4, two of c.mov (cut), one of b.MP4
    twice = found[b"sub/a.mp4", 0]
    assert context(twice, "caption/string") == [b"another", b"second", b"third"]
    assert context(twice, "clip/label/text") == [b"blue", b"ball"]
    assert context(found[b"sub/c.mov", 0], "clip/label/text") == [b"grey"]
    assert context(found[b"b.MP4", 1_000_000], "clip/end/timestamp") == [2_000_000]
    reasons = [f"{entry['file']}: {entry['reason']}" for entry in content["quarantine"]]
    for words in (
        "gone.mp4: no such file",
        "a.mp4: m.csv line 9: end (1 s) is not after start (2 s)",
        "a.mp4: m.csv line 10: start is 'x'",
        "a.mp4: m.csv line 11: start is '-1'",
        "a.mp4: the span from 7 s on begins after the end of the video (2.00 s)",
        "a.mp4: the span 0-500 s is longer than --max_clip_seconds=120",
        "b.MP4: m.csv line 15: 'to/kenizer' cannot be the name of a split",
    ):
        assert any(words in reason for reason in reasons), words
    assert len(reasons) == 7
    notes = [entry["warning"] for entry in content["warnings"]]
    assert any("line 5 repeats line 4" in note or "line 5 repeats line 3" in note for note in notes)
    assert any("the span 1-9 s ends after the video" in note for note in notes)


def test_manifest_without_path_column(tmp_path):
    csv = tmp_path / "m.csv"
    csv.write_text("clip,start,end\na.mp4,0,1\n")
    with pytest.raises(ManifestError, match=r"no column 'path'.*\['clip', 'start', 'end'\]"):
        read_rows(csv)
    csv.write_text("path\n")
    with pytest.raises(ManifestError, match="no line below its header"):
        read_rows(csv)
    with pytest.raises(ManifestError, match="cannot be read"):
        read_rows(tmp_path / "none.csv")
    csv.write_bytes("path,caption\na.mp4,caf\xe9\n".encode("latin-1"))
    rows = read_rows(csv)
    assert rows.rows[0].captions == ["café"]
    assert "m.csv line 2: byte 0xe9 is not UTF-8" in rows.warnings[0]["warning"]


def test_cut_around_captions_and_whole(tmp_path):
    folder = tmp_path / "videos"
    make_video(folder / "a.mp4", 6.0)
    (folder / "a.json").write_text(
        json.dumps([[0.2, 0.6, "one"], [2.9, 3.1, "two"], [5, 6, "three"]])
    )
    around = Settings(cut="captions", clip_seconds=2.0, num_shards=1)
    command.prepare(folder, tmp_path / "around", around, tokenizers=())
    spans = [
        (context(e, "clip/start/timestamp")[0] / 1e6, context(e, "clip/end/timestamp")[0] / 1e6)
        for e in records(tmp_path / "around")
    ]
    assert spans == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)]
    assert context(records(tmp_path / "around")[0], "caption/string") == [b"one", b"two", b"three"]
    whole = Settings(cut="whole", num_shards=1)
    command.prepare(folder, tmp_path / "whole", whole, tokenizers=())
    (example,) = records(tmp_path / "whole")
    assert len(example.feature_lists.feature_list["image/encoded"].feature) == 60
    short = Settings(cut="whole", max_clip_seconds=5.0, num_shards=1)
    with pytest.raises(UserError, match="longer than --max_clip_seconds=5"):
        command.prepare(folder, tmp_path / "short", short, tokenizers=())


def test_val_fraction_holds_out_whole_videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for index in range(100):
        (folder / f"{index}.mp4").write_bytes(b"x")
    plan = make_plan(folder, Settings(val_fraction=0.2))
    split = {video.file: shard.split for shard in plan.shards for video in shard.videos}
    assert len(split) == 100
    assert 10 <= sum(name == "val" for name in split.values()) <= 30
    for index in range(2, 100):
        (folder / f"{index}.mp4").unlink()
    plan = make_plan(folder, Settings(val_fraction=0.01))
    assert sorted(shard.split for shard in plan.shards) == ["train", "val"]


def test_plan_does_not_look_at_the_clock_or_the_order(videos):
    plans = [make_plan(videos, SMALL) for _ in range(2)]
    assert [s.fingerprint(SMALL) for s in plans[0].shards] == [
        s.fingerprint(SMALL) for s in plans[1].shards
    ]


@pytest.mark.check
def test_kill_and_start_again(tmp_path):
    """kill -9 in the middle of the work: the next run finishes with the same bytes."""
    folder, out = tmp_path / "videos", tmp_path / "out"
    for index in range(24):
        make_video(folder / f"{index}.mp4", 6.0, level=10 * index)
    settings = Settings(num_shards=12)
    command.prepare(folder, tmp_path / "whole", settings, tokenizers=())
    arguments = [f"--videos={folder}", f"--out={out}", "--num_shards=12", "--tokenizers="]
    run = [sys.executable, "-m", "vatt_tf.prepare", *arguments, "--quiet", "--jobs=2"]
    process = subprocess.Popen(run)
    deadline = time.monotonic() + 120
    while not list(out.glob("train/*.tfrecord")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(out.glob("train/*.tfrecord"))
    assert subprocess.run(run, check=False).returncode == 0
    assert digests(out) == digests(tmp_path / "whole")
    assert not list(out.glob("*/*.tmp-*"))


@pytest.mark.check
def test_worker_that_crashes_costs_one_file(videos, tmp_path):
    """A file that kills its process is quarantined after a second try; the rest is made."""
    trap = pathlib.Path(__file__).with_name("crashing_decoder.py")
    run = subprocess.run(
        [sys.executable, str(trap), str(videos), str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
    )
    assert run.returncode == 0, run.stderr
    content = json.loads((tmp_path / "manifest.json").read_text())
    (entry,) = content["quarantine"]
    assert entry["file"] == "sub/c.mov"
    assert "crashed twice on this file (signal 9, SIGKILL)" in entry["reason"]
    assert content["splits"]["train"]["records"] == 6
