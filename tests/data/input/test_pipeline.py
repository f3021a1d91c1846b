"""Batches: order across workers and steps, synchrony, masks, foreign records, bad input."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.data import records
from tests.data.records import SPEC, example, labels, numbered, spec, write_shards
from vatt_tf.data.input.augmentation import Augmentation
from vatt_tf.data.input.pipeline import evaluation_dataset, training_dataset
from vatt_tf.data.schema import ClipSpec, RecordKeys
from vatt_tf.data.shards.index import DataSource
from vatt_tf.data.shards.read_errors import read_errors
from vatt_tf.data.text.tokenizer import WordTokenizer
from vatt_tf.errors import UserError

NONE = Augmentation(crop="center", flip_probability=0, colour_probability=0, audio_noise=0)
WORDS = ("<pad>", "<bos>", "<eos>", "<unk>", "caption", "number", *map(str, range(12)))


@pytest.fixture(scope="module")
def tokenizer():
    return WordTokenizer(WORDS, max_tokens=SPEC.tokens)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return numbered(tmp_path_factory.mktemp("a"), 12, shards=3)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return numbered(tmp_path_factory.mktemp("b"), 5, frames=6)


def batches(dataset, count):
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(count)]


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], name)


def one(folder, record, clip=SPEC, augmentation=NONE, **settings):
    """The only clip of a shard with one record."""
    shards = write_shards(folder, [record])
    source = settings.pop("source", None) or DataSource(str(shards), **settings.pop("rates", {}))
    dataset = training_dataset(source, clip, None, augmentation, batch_size=1, **settings)
    return {k: v[0] for k, v in batches(dataset, 1)[0].items()}


def test_batch_has_static_shapes_and_the_right_types(folder, tokenizer):
    dataset = training_dataset(str(folder), SPEC, tokenizer, batch_size=3)
    described = {k: (v.dtype.name, v.shape.as_list()) for k, v in dataset.element_spec.items()}
    assert described == {
        "video": ("uint8", [3, 4, 16, 16, 3]),
        "video_mask": ("float32", [3]),
        "audio": ("float32", [3, 320, 1]),
        "audio_mask": ("float32", [3]),
        "text": ("int32", [3, 3, 6]),
        "text_mask": ("float32", [3, 3]),
        "label": ("int32", [3]),
        "record_id": ("int64", [3]),
    }
    batch = batches(dataset, 1)[0]
    for label, text, mask in zip(batch["label"], batch["text"], batch["text_mask"], strict=True):
        assert text[0].tolist() == [4, 5, 6 + label, 0, 0, 0] and not text[1:].any()
        assert mask.tolist() == [1, 0, 0]
    dataset = training_dataset(str(folder), spec(audio="log_mel"), None, batch_size=3)
    assert dataset.element_spec["audio"].shape == [3, 20, 8, 1]
    assert "text" not in dataset.element_spec
    dataset = training_dataset(str(folder), spec(audio="none"), None, batch_size=3)
    assert not {"audio", "audio_mask"} & set(dataset.element_spec)


def test_workers_starts_and_threads_give_the_same_bits(folder, other):
    sources = [DataSource(str(folder), weight=2), DataSource(str(other))]

    def read(count, **settings):
        settings = {"batch_size": 4, "seed": 5, "num_parallel_calls": 1} | settings
        return batches(training_dataset(sources, SPEC, None, **settings), count)

    reference = read(6)
    for threaded, plain in zip(read(6, num_parallel_calls=4), reference, strict=True):
        assert_equal(threaded, plain)
    tf.random.set_seed(123)
    for late, plain in zip(read(2, start_step=4), reference[4:], strict=True):
        assert_equal(late, plain)
    halves = [read(6, batch_size=2, num_workers=2, worker_index=i) for i in (0, 1)]
    for step, plain in enumerate(reference):
        joined = {k: np.concatenate([half[step][k] for half in halves]) for k in plain}
        assert_equal(joined, plain)


def test_augmentation_differs_between_epochs(folder):
    dataset = training_dataset(str(folder), SPEC, None, batch_size=12)
    first, second = (
        {label: batch["video"][i] for i, label in enumerate(batch["label"])}
        for batch in batches(dataset, 2)
    )
    assert sorted(first) == sorted(second) == list(range(12))
    assert sum((first[i] != second[i]).any() for i in first) >= 10


def test_sound_starts_with_the_first_frame(tmp_path):
    # The stored sound says its own time: sample i is i / 1000; frame i has brightness 5 * i.
    waveform = np.arange(1600) / 2000
    shards = write_shards(tmp_path, [example(frames=20, waveform=waveform)])
    starts = set()
    dataset = training_dataset(str(shards), SPEC, None, NONE, batch_size=1)
    for batch in batches(dataset, 40):
        frames = batch["video"][0, :, 0, 0, 0] / 5
        assert (np.diff(frames) == 1).all()
        samples = batch["audio"][0, :, 0] * 2000
        np.testing.assert_allclose(samples, frames[0] * 80 + np.arange(320), atol=0.01)
        starts.add(int(frames[0]))
    assert min(starts) < 4 and max(starts) > 12 and max(starts) <= 16


def test_stored_at_25_frames_and_twice_the_sample_rate(tmp_path):
    waveform = np.arange(1600) / 2000
    record = example(
        frames=25, waveform=waveform, levels=range(0, 250, 10), frame_rate=25.0, sample_rate=1600
    )
    clip = one(tmp_path, record, spec(audio_resampling="strided"))
    frames = clip["video"][:, 0, 0, 0] / 10
    first = int(frames[0])
    assert frames.tolist() == [first + i for i in (0, 3, 5, 8)]
    samples = clip["audio"][:, 0] * 2000
    # Every second sample, from the first frame's time on; silence after the end.
    expected = first * 64 + 2 * np.arange(320)
    np.testing.assert_allclose(samples, np.where(expected < 1600, expected, 0), atol=0.01)


def test_short_clip_repeats_both_in_sync(tmp_path):
    # 3 frames and 0.3 s, but only 0.25 s of sound: the rest of each round is silence.
    clip = one(tmp_path, example(frames=3, waveform=1 + np.arange(200) / 1000))
    assert (clip["video"][:, 0, 0, 0] / 5).tolist() == [0, 1, 2, 0]
    rounds = np.concatenate([1 + np.arange(200) / 1000, np.zeros(40)])
    np.testing.assert_allclose(clip["audio"][:, 0], np.tile(rounds, 2)[:320], rtol=1e-6)
    assert clip["video_mask"] == clip["audio_mask"] == 1


def test_sound_only_and_video_only(tmp_path):
    clip = one(tmp_path / "a", example(frames=0, waveform=1 + np.arange(100) / 100))
    assert clip["video_mask"] == 0 and not clip["video"].any() and clip["audio_mask"] == 1
    np.testing.assert_allclose(
        clip["audio"][:, 0], np.tile(1 + np.arange(100) / 100, 4)[:320], rtol=1e-6
    )
    for audio in ("waveform", "log_mel"):
        clip = one(tmp_path / audio, example(samples=0), spec(audio=audio))
        assert clip["video_mask"] == 1 and clip["audio_mask"] == 0 and not clip["audio"].any()
    # A still picture has no time of its own: the sound plays on.
    clip = one(tmp_path / "b", example(frames=1, waveform=np.full(320, 0.5)))
    assert (clip["audio"] == 0.5).all() and clip["video_mask"] == 1


def test_window_without_sound_is_masked(tmp_path):
    record = example(frames=20, waveform=np.full(8, 0.5))
    shards = write_shards(tmp_path, [record])
    for batch in batches(training_dataset(str(shards), SPEC, None, NONE, batch_size=8), 3):
        starts_late = batch["video"][:, 0, 0, 0, 0] > 0
        np.testing.assert_array_equal(batch["audio_mask"], 1.0 - starts_late)


def test_plain_dmvr_records_need_the_rates(tmp_path):
    record = example(frame_rate=None, sample_rate=None, frames=25, levels=range(0, 250, 10))
    with pytest.raises(UserError, match="record 0.*does not say its frame rate.*set data_source"):
        with read_errors(str(tmp_path / "train")):
            one(tmp_path, record)
    clip = one(tmp_path, record, rates={"frame_rate": 25, "sample_rate": 800})
    assert np.diff(clip["video"][:, 0, 0, 0] / 10.0).tolist() == [3, 2, 3]
    with pytest.raises(UserError, match="no multiple of 800 Hz"):
        with read_errors(str(tmp_path / "train")):
            one(tmp_path, record, rates={"frame_rate": 25, "sample_rate": 1000})


def test_other_keys(tmp_path):
    keys = RecordKeys(waveform="waveform/floats", label_index="label/index", image="frames")
    record = example(label=7, samples=1600, keys=keys)
    clip = one(tmp_path, record, keys=keys)
    assert clip["label"] == 7 and clip["audio_mask"] == 1 and clip["video_mask"] == 1
    for wrong in (RecordKeys(), RecordKeys(waveform="waveform/floats"), RecordKeys(image="frames")):
        with pytest.raises(UserError) as error:
            one(tmp_path, record, keys=wrong)
        for part in (".tfrecord record 0", "it has frames (10 steps), waveform/floats", "label"):
            assert part in str(error.value)


def test_waveform_in_the_context(tmp_path):
    record = tf.train.SequenceExample.FromString(example(samples=0))
    record.context.feature["WAVEFORM/feature/floats"].float_list.value.extend([0.5] * 800)
    assert (one(tmp_path, record.SerializeToString())["audio"] == 0.5).all()


def test_captions_near_the_clip(tmp_path):
    # A clip from 100 s on with captions each second; the clip's own caption comes first.
    record = example(
        frames=60,
        levels=range(60),
        start=100.0,
        captions=[str(i) for i in range(8)],
        times=[(98 + i, 98.9 + i) for i in range(8)],
    )
    shards = write_shards(tmp_path, [record])
    words = ("<pad>", "<bos>", "<eos>", "<unk>", *map(str, range(8)))
    tokenizer = WordTokenizer(words, max_tokens=SPEC.tokens)
    dataset = training_dataset(str(shards), SPEC, tokenizer, NONE, batch_size=20)
    batch = batches(dataset, 1)[0]
    seen = set()
    for video, text in zip(batch["video"], batch["text"], strict=True):
        begin = float(video[0, 0, 0, 0]) / 10
        overlap = [min(i - 1.1, begin + 0.4) - max(i - 2, begin) for i in range(8)]
        numbers = text[:, 0] - 4
        assert numbers[0] == np.argmax(overlap)
        assert np.ptp(numbers) == 2 and len(set(numbers)) == 3
        seen.add(numbers[0])
    assert len(seen) >= 4
    assert batch["text_mask"].min() == 1


def test_captions_without_times(tmp_path, tokenizer):
    record = example(captions=[f"number {i}" for i in range(5)])
    shards = str(write_shards(tmp_path, [record]))
    text = batches(training_dataset(shards, SPEC, tokenizer, NONE, batch_size=30), 1)[0]["text"]
    assert all(len(set(row[:, 1])) == 3 for row in text)
    assert set(text[:, :, 1].flatten()) == {6, 7, 8, 9, 10}
    evaluated = next(iter(evaluation_dataset(shards, SPEC, tokenizer, batch_size=1)))
    assert evaluated["caption"][0].numpy().tolist() == [b"number 0", b"number 1", b"number 2"]


def test_captions_that_are_not_utf8_or_empty(tmp_path, tokenizer):
    record = example(captions=[b"number\xff\xfe 3", b"?!", "número".encode("latin-1")])
    shards = str(write_shards(tmp_path, [record]))
    batch = next(iter(evaluation_dataset(shards, SPEC, tokenizer, batch_size=1)))
    assert batch["caption"][0, 0].numpy().decode() == "number   3"
    assert batch["text"][0, 0].numpy().tolist() == [5, 9, 0, 0, 0, 0]
    assert batch["text_mask"].numpy().tolist() == [[1, 0, 1]]


def test_evaluation_reads_every_record_once_in_order(folder, tokenizer):
    dataset = evaluation_dataset(str(folder), SPEC, tokenizer, batch_size=5, windows=3)
    described = {k: v.shape.as_list() for k, v in dataset.element_spec.items()}
    assert described["video"] == [5, 3, 4, 16, 16, 3] and described["audio"] == [5, 3, 320, 1]
    found = batches(dataset, -1)
    assert len(found) == 3
    valid = np.concatenate([b["valid"] for b in found])
    assert valid.tolist() == [True] * 12 + [False] * 3
    joined = {k: np.concatenate([b[k] for b in found]) for k in found[0]}
    assert joined["label"].tolist() == [*range(12), -1, -1, -1]
    assert joined["label_text"][3] == b"class 3" and joined["filename"][11] == b"video_11.mp4"
    assert joined["caption"][2].tolist() == [b"caption number 2", b"", b""]
    for name in ("video_mask", "audio_mask", "text_mask"):
        assert not joined[name][12:].any() and joined[name][:12].any(), name
    # Windows of 4 of 10 frames: at the beginning, in the middle, at the end.
    levels = joined["video"][0, :, :, 0, 0, 0] / 5
    assert levels.tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    again = evaluation_dataset(str(folder), SPEC, tokenizer, batch_size=5, num_parallel_calls=1)
    centre = batches(again, 1)[0]
    assert (centre["video"][0, 0, :, 0, 0, 0] / 5).tolist() == [3, 4, 5, 6]
    assert centre["start"].tolist() == [0.0] * 5


def test_evaluation_puts_the_own_caption_first(tmp_path, tokenizer):
    record = example(
        start=10.0,
        captions=["0", "1", "2"],
        times=[(9.0, 10.2), (10.2, 10.9), (10.9, 12.0)],
    )
    shards = str(write_shards(tmp_path, [record], split="val"))
    for path in (shards, str(tmp_path)):
        batch = next(iter(evaluation_dataset(path, SPEC, tokenizer, batch_size=1)))
        assert batch["caption"][0].numpy().tolist() == [b"1", b"2", b"0"]
        assert float(batch["start"][0]) == 10.0


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            lambda: example(images=[records.jpeg(9)] * 5 + [b"no jpeg"] + [records.jpeg(9)] * 4),
            "damaged JPEG in frame 5",
        ),
        (lambda: example(images=[records.jpeg(9)[:200]] * 10), "damaged JPEG in frame 0"),
        (
            lambda: example(images=[records.jpeg(9), records.jpeg(9, (8, 8))] * 5),
            "frames of different sizes: (24, 32) and (8, 8)",
        ),
        (lambda: example(frames=0, samples=0), "has neither frames"),
        (lambda: b"no record", "is no tf.train.SequenceExample"),
        (lambda: example(captions=["a", "b"], times=[(0, 1)]), "another number of caption times"),
    ],
    ids=["jpeg", "cut jpeg", "sizes", "empty", "garbage", "times"],
)
def test_bad_record_is_named(tmp_path, record, message):
    good = [example(i) for i in range(3)]
    shards = str(write_shards(tmp_path, [*good, record(), *good], shards=2))
    with pytest.raises(UserError) as error, read_errors(shards):
        for _ in evaluation_dataset(shards, spec(audio="none"), None, batch_size=2):
            pass
    assert "train-00000-of-00002.tfrecord record 3" in str(error.value)
    assert message in str(error.value) and "it has " in str(error.value)


def test_shard_damaged_while_training(tmp_path):
    shards = write_shards(tmp_path, [example(i) for i in range(6)], shards=2)
    file = shards / "train-00001-of-00002.tfrecord"
    whole = bytearray(file.read_bytes())

    def read():
        dataset = training_dataset(str(shards), SPEC, None, batch_size=6)
        yield
        with read_errors(str(shards)):
            list(dataset.take(1))

    for content, message in (
        (whole[: len(whole) // 2] + b"\x00\x01" + whole[len(whole) // 2 + 2 :], "record 1 (byte"),
        (whole[:-20], "is cut short: record 2"),
    ):
        file.write_bytes(whole)
        reading = read()
        next(reading)
        file.write_bytes(content)
        with pytest.raises(UserError, match="train-00001-of-00002.tfrecord") as error:
            next(reading)
        assert message in str(error.value)


def test_errors_of_the_program_pass(folder):
    with pytest.raises(tf.errors.InvalidArgumentError), read_errors(str(folder)):
        tf.debugging.Assert(False, ["something else"])


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 0},
        {"batch_size": 3, "global_batch_size": 8, "num_workers": 2},
        {"batch_size": 3, "worker_index": 1},
        {"batch_size": 3, "start_step": -1},
        {"batch_size": 3, "shuffle_window": 0},
    ],
)
def test_arguments_that_do_not_fit(folder, settings):
    with pytest.raises(UserError):
        training_dataset(str(folder), SPEC, None, **settings)


def test_settings_are_checked(folder, tokenizer):
    with pytest.raises(UserError, match="load it with max_tokens=16"):
        training_dataset(str(folder), spec(tokens=16), tokenizer, batch_size=1)
    for name, value in (("crop", "middle"), ("hue", 0.6), ("min_area", 0.0), ("min_aspect", 3.0)):
        with pytest.raises(UserError, match=f"augmentation.{name}"):
            Augmentation(**{name: value})
    for name, value in (("audio", "mp3"), ("frames", -1), ("height", 1.5), ("frame_rate", "10")):
        with pytest.raises(UserError, match=name):
            ClipSpec(**{name: value})


def test_vgg_crop(folder):
    dataset = training_dataset(str(folder), SPEC, None, Augmentation(crop="vgg"), batch_size=12)
    assert batches(dataset, 1)[0]["video"].any()
    assert sorted(labels(dataset, 1)) == list(range(12))


def test_clips_without_video_or_without_sound(tmp_path):
    """What no tower reads is not in the batches; a sound alone may begin anywhere."""
    folder = write_shards(tmp_path, [example(n, captions=["a"]) for n in range(4)])
    sound = dataclasses.replace(SPEC, frames=0)
    changed = Augmentation(audio_roll_probability=1.0, time_mask=0.2, audio_noise=0.0)
    (batch,) = batches(training_dataset(folder, sound, None, changed, batch_size=4), 1)
    assert "video" not in batch and "video_mask" not in batch
    assert batch["audio"].shape == (4, 320, 1) and (batch["audio_mask"] == 1).all()
    (batch,) = batches(evaluation_dataset(folder, sound, None, batch_size=4, windows=2), 1)
    assert "video" not in batch and batch["audio"].shape == (4, 2, 320, 1)
    # The two windows are spaced over the sound, not over frames.
    assert batch["audio"][0, 1, 0, 0] > batch["audio"][0, 0, 0, 0]
    silent = dataclasses.replace(SPEC, audio="none", sample_rate=999)  # its rate is not looked at
    (batch,) = batches(evaluation_dataset(folder, silent, None, batch_size=4), 1)
    assert "audio" not in batch and batch["video"].shape[0] == 4
