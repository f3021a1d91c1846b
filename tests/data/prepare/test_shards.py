"""Records and shard files: content, whole or not at all, disk full."""

import errno
import hashlib
import io
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from vatt_tf.data.media.captions import Caption
from vatt_tf.data.prepare import shards
from vatt_tf.data.prepare.plan import PlanError, Settings, Shard, Video
from vatt_tf.data.prepare.sample_videos import write_video


def one_shard(folder, names=("a",), seconds=2):
    """A shard plan over small videos made in a folder."""
    videos = []
    for index, name in enumerate(names):
        frames = np.full((seconds * 10, 32, 48, 3), 40 * index, np.uint8)
        path = folder / f"{name}.mp4"
        write_video(path, frames, np.zeros(seconds * 24_000, np.float32))
        state = path.stat()
        rows = [(0.0, None, ["dog"], ["a dog"])]
        videos.append(Video(path.name, str(path), "train", state.st_size, state.st_mtime_ns, rows))
    return Shard("train/train-00000-of-00001.tfrecord", "train", videos, ["cat", "dog"])


def test_record_has_dmvr_keys():
    jpeg = shards.jpeg_encoder(90)(np.full((24, 32, 3), 100, np.uint8))
    wave = np.linspace(-1, 1, 1000, dtype=np.float32)
    data = shards.encode_record(
        [jpeg, jpeg],
        wave,
        frame_rate=10.0,
        sample_rate=48_000,
        start=1.25,
        end=1.45,
        filename="a/b.mp4",
        captions=[Caption(1.0, 2.0, "un café")],
        labels=[(1, "dog")],
    )
    example = tf.train.SequenceExample.FromString(data)
    context = example.context.feature
    assert context["clip/start/timestamp"].int64_list.value[:] == [1_250_000]
    assert context["clip/end/timestamp"].int64_list.value[:] == [1_450_000]
    assert context["video/filename"].bytes_list.value[:] == [b"a/b.mp4"]
    assert context["caption/string"].bytes_list.value[:] == ["un café".encode()]
    assert context["caption/start/timestamp"].int64_list.value[:] == [1_000_000]
    assert context["caption/end/timestamp"].int64_list.value[:] == [2_000_000]
    assert context["clip/label/index"].int64_list.value[:] == [1]
    assert context["clip/label/text"].bytes_list.value[:] == [b"dog"]
    assert context["image/frame_rate"].float_list.value[:] == [10.0]
    assert context["WAVEFORM/sample_rate"].int64_list.value[:] == [48_000]
    lists = example.feature_lists.feature_list
    images = [step.bytes_list.value[0] for step in lists["image/encoded"].feature]
    assert np.asarray(Image.open(io.BytesIO(images[0]))).shape == (24, 32, 3)
    assert len(images) == 2
    (sound,) = lists["WAVEFORM/feature/floats"].feature
    np.testing.assert_array_equal(np.float32(sound.float_list.value), wave)


def test_record_without_sound_and_texts_has_no_such_keys():
    data = shards.encode_record(
        [b"x"], None, frame_rate=10.0, sample_rate=48_000, start=0, end=0.1, filename="a"
    )
    example = tf.train.SequenceExample.FromString(data)
    assert sorted(example.feature_lists.feature_list) == ["image/encoded"]
    assert sorted(example.context.feature) == [
        "clip/end/timestamp",
        "clip/start/timestamp",
        "image/frame_rate",
        "video/filename",
    ]


def test_language_and_confidence_of_captions():
    def features(*captions):
        data = shards.encode_record(
            [b"jpeg"],
            None,
            frame_rate=10.0,
            sample_rate=0,
            start=0.0,
            end=1.0,
            filename="a.mp4",
            captions=captions,
        )
        return tf.train.SequenceExample.FromString(data).context.feature

    known = Caption(0.0, 1.0, "eins", "de", 0.5)
    found = features(known, Caption(1.0, 2.0, "two"))
    assert list(found["caption/language"].bytes_list.value) == [b"de", b""]
    half, unknown = found["caption/confidence"].float_list.value
    assert half == 0.5 and np.isnan(unknown)
    assert not {"caption/language", "caption/confidence"} & set(features(Caption(0.0, 1.0, "two")))


@pytest.mark.parametrize("count", [0, 1, 31, 32, 4095, 4096, 100_000])
def test_packed_floats_equal_the_plain_way(count):
    values = np.random.default_rng(0).normal(size=count).astype(np.float32)
    assert shards._float_list(values) == tf.train.FloatList(value=values.tolist())


def test_write_records(tmp_path):
    account = shards.write_records(tmp_path / "train" / "a.tfrecord", [b"one", b"two"])
    data = (tmp_path / "train" / "a.tfrecord").read_bytes()
    assert account == {
        "records": 2,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    found = tf.data.TFRecordDataset(str(tmp_path / "train" / "a.tfrecord"))
    assert list(found.as_numpy_iterator()) == [b"one", b"two"]
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["a.tfrecord"]


def test_failure_while_reading_leaves_nothing(tmp_path):
    def records():
        yield b"one"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write_records(tmp_path / "a.tfrecord", records())
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_records_are_not_those_of_the_disk(tmp_path):
    def records():
        yield b"one"
        raise OSError("the video is gone")

    with pytest.raises(OSError, match="the video is gone") as caught:
        shards.write_records(tmp_path / "a.tfrecord", records())
    assert not isinstance(caught.value, shards.ShardWriteError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_at_the_end_of_a_shard(tmp_path, monkeypatch, step):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(shards.ShardWriteError, match="a.tfrecord: .*Input/output error"):
        shards.write_records(tmp_path / "a.tfrecord", [b"one"])
    assert list(tmp_path.iterdir()) == []


def test_full_disk_of_the_system(tmp_path, monkeypatch):
    """/dev/full answers every write with "No space left on device"."""
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    writer = tf.io.TFRecordWriter
    monkeypatch.setattr(tf.io, "TFRecordWriter", lambda path: writer("/dev/full"))
    with pytest.raises(shards.ShardWriteError) as caught:
        shards.write_records(tmp_path / "a.tfrecord", [bytes(1_000_000)] * 3)
    message = str(caught.value)
    assert "a.tfrecord" in message and "No space left on device" in message
    assert "MiB free" in message and "finished ones are kept" in message
    assert list(tmp_path.iterdir()) == []


class FullDisk:
    """A TFRecord writer for which the disk fills up at the second record."""

    def __init__(self, path):
        self.path, self.count = path, 0
        pathlib.Path(path).write_bytes(b"half")

    def write(self, record):
        self.count += 1
        if self.count == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    def close(self):
        pass


def test_disk_full_keeps_finished_shards(tmp_path, monkeypatch):
    shard = one_shard(tmp_path, ("a", "b"))
    out = tmp_path / "out"
    first = Shard("train/train-00000-of-00002.tfrecord", "train", shard.videos[:1], shard.labels)
    shards.build_shard(first, Settings(), out)
    monkeypatch.setattr(tf.io, "TFRecordWriter", FullDisk)
    second = Shard("train/train-00001-of-00002.tfrecord", "train", shard.videos, shard.labels)
    with pytest.raises(shards.ShardWriteError, match="train-00001-of-00002.*No space left"):
        shards.build_shard(second, Settings(), out)
    assert [path.name for path in (out / "train").iterdir()] == ["train-00000-of-00002.tfrecord"]
    assert shards.finished_shard(first, Settings(), out) is not None
    assert shards.finished_shard(second, Settings(), out) is None


def test_build_shard_twice_gives_the_same_bytes(tmp_path):
    shard = one_shard(tmp_path, ("a", "b"))
    first = shards.build_shard(shard, Settings(), tmp_path / "one")
    second = shards.build_shard(shard, Settings(), tmp_path / "two")
    assert first == second
    assert (first["records"], first["with_audio"], first["with_captions"]) == (2, 2, 2)
    assert first["captions"] == ["a dog", "a dog"]


def test_finished_shard_needs_the_same_input_and_the_whole_file(tmp_path):
    shard, settings, out = one_shard(tmp_path), Settings(), tmp_path / "out"
    shards.build_shard(shard, settings, out)
    assert shards.finished_shard(shard, settings, out) is not None
    assert shards.finished_shard(shard, Settings(frame_rate=5.0), out) is None
    shard.videos[0].changed += 1
    assert shards.finished_shard(shard, settings, out) is None
    shard.videos[0].changed -= 1
    data = (out / shard.name).read_bytes()
    (out / shard.name).write_bytes(data[:-5])
    assert shards.finished_shard(shard, settings, out) is None


def test_skipped_file_is_quarantined(tmp_path):
    shard = one_shard(tmp_path, ("a", "b"))
    shard.skip["a.mp4"] = "the decoder crashed"
    account = shards.build_shard(shard, Settings(), tmp_path / "out")
    assert account["records"] == 1
    reason = {"file": "a.mp4", "reason": "the decoder crashed", "records": 0}
    assert account["quarantine"] == [reason]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"frame_rate": 0}, "--frame_rate is 0"),
        ({"short_side": 0}, "--short_side is 0"),
        ({"cut": "scenes"}, "fixed or captions or whole"),
        ({"clip_seconds": 0.0}, "--clip_seconds is 0.0"),
        ({"clip_seconds": 200.0}, "more than --max_clip_seconds=120"),
        ({"val_fraction": 1.0}, "--val_fraction is 1.0"),
        ({"sample_rate": 10}, "--sample_rate is 10"),
    ],
)
def test_settings_are_checked(values, words):
    with pytest.raises(PlanError) as caught:
        Settings(**values)
    assert words in str(caught.value)
