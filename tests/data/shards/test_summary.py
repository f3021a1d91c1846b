"""What is in the records: tables of prepare, records without one, leaks, classes."""

import csv
import math
import random

import pytest
from PIL import Image

from tests.data.media.test_readers import IMAGES, SOUNDS, saved, write_wav
from tests.data.records import example, write_shards
from vatt_tf import prepare as command
from vatt_tf.data.prepare.plan import PlanError
from vatt_tf.data.shards import overlap as leaks
from vatt_tf.data.shards.overlap import same_clips
from vatt_tf.data.shards.summary import check_classes, class_counts, read_inventory, refuse_shared
from vatt_tf.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Six sounds of two classes; one is in val under another name."""
    root = tmp_path_factory.mktemp("inventory")
    lines = ["path,start,end,label,split"]
    for number in range(4):
        write_wav(root / "sounds" / f"{number}.wav", 0.5 + 0.1 * number)
        lines.append(f"{number}.wav,,,{'ab'[number % 2]},{'train' if number < 3 else 'val'}")
    write_wav(root / "sounds" / "copy.wav", 0.6)
    lines += ["copy.wav,,,a,val", "0.wav,,,c|d,train"]
    (root / "m.csv").write_text("\n".join(lines))
    command.prepare(root / "sounds", root / "out", SOUNDS, manifest=root / "m.csv")
    return root / "out"


def test_table_agrees_with_the_records(prepared):
    (train, val) = (read_inventory(str(prepared), (split,)) for split in ("train", "val"))
    assert sorted(train.files) == ["0.wav", "1.wav", "2.wav"] and len(val) == 2
    by_file = dict(zip(train.files, train.labels, strict=True))
    assert by_file == {"0.wav": ("a", "c|d"), "1.wav": ("b",), "2.wav": ("a",)}
    ends = dict(zip(train.files, train.ends, strict=True))
    assert ends == {"0.wav": 0.5, "1.wav": 0.6, "2.wav": 0.7} and not train.starts.any()
    assert all(len(content) == 16 for content in train.content)
    with open(prepared / "clips" / "train.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == list(train.files)
    assert rows[0]["shard"].startswith("train/train-00000-of-") and rows[0]["record"] == "0"
    # Without the table the records themselves say the same.
    (prepared / "clips" / "train.csv").rename(prepared / "clips" / "away")
    read = read_inventory(str(prepared), ("train",))
    (prepared / "clips" / "away").rename(prepared / "clips" / "train.csv")
    assert (read.files, read.labels, read.content) == (train.files, train.labels, train.content)
    assert read.ends.tolist() == train.ends.tolist() and read.folders == train.folders


def test_damaged_table_is_named(prepared):
    table = prepared / "clips" / "val.csv"
    text = table.read_text()
    try:
        table.write_text(text.replace("0.0,", "x,"))
        with pytest.raises(UserError, match=r"val.csv is damaged.*or delete it"):
            read_inventory(str(prepared), ("val",))
    finally:
        table.write_text(text)


def test_same_content_in_train_and_val_is_refused(prepared):
    train = read_inventory(str(prepared), ("train",))
    val = read_inventory(str(prepared), ("val",))
    words = r"1 of the 2 records of .* are in .* too: copy.wav 0-0.6 s \(train: 1.wav 0-0.6 s\)"
    with pytest.raises(UserError, match=words):
        refuse_shared(train, val)


def test_overlapping_times_are_refused(tmp_path):
    def shards(name, spans):
        records = [
            example(n, frames=3, levels=[n, 5 * i + ord(name[0]) % 50, 9], start=s, samples=0)
            for i, (n, s) in enumerate(spans)
        ]
        return read_inventory(str(write_shards(tmp_path, records, split=name)), ("train",))

    train = shards("train", [(0, 0.0), (1, 0.0)])
    refuse_shared(train, shards("later", [(0, 5.0), (2, 0.0)]))
    same_folder = shards("train", [(1, 0.1)])
    with pytest.raises(UserError, match=r"video_1.mp4 0.1-0.4 s \(train: video_1.mp4 0-0.3 s\)"):
        refuse_shared(train, same_folder)


def test_spans_that_touch_do_not_overlap():
    first = [("a", 0.0, 10.0), ("a", 10.0, 20.0), ("b", 0.0, 0.3)]
    assert same_clips(first, [("a", 20.0, 30.0), ("a", 9.96, 10.0), ("c", 0.0, 1.0)]) == [(0, 1)]
    assert same_clips(first, [("a", 9.96, 15.0), ("b", 0.25, 0.5)]) == [(1, 0)]
    assert same_clips(first, [("b", 0.1, 0.5), ("a", 0.0, float("inf"))]) == [
        (0, 1),
        (1, 1),
        (2, 0),
    ]


def _every_pair(first, second):
    """The definition: the overlap is longer than 0.1 s or half of the shorter span."""
    return {
        (i, j)
        for i, (file, start, end) in enumerate(first)
        for j, (other, other_start, other_end) in enumerate(second)
        if file == other
        and min(end, other_end) - max(start, other_start)
        > min(0.1, min(end - start, other_end - other_start) / 2)
    }


@pytest.mark.parametrize("few", [0, leaks.FEW_PAIRS])
def test_shared_spans_are_those_of_the_definition(monkeypatch, few):
    monkeypatch.setattr(leaks, "FEW_PAIRS", few)
    for seed in range(400):
        rng = random.Random(seed)

        def spans(rng=rng):
            lengths = [0, 1, 2, 3, 5, 8, 13, 64, 300, math.inf]  # 1/64 s: exact numbers
            starts = [rng.randrange(300) / 64 for _ in range(rng.randrange(25))]
            return [(rng.choice("ab"), s, s + rng.choice(lengths) / 64) for s in starts]

        first, second = spans(), spans()
        expected, found = _every_pair(first, second), same_clips(first, second)
        assert set(found) <= expected and len(set(found)) == len(found)
        for side in (0, 1):
            assert {pair[side] for pair in found} == {pair[side] for pair in expected}
        assert found == sorted(found) and len(found) <= len(first) + len(second)


def test_spans_of_a_long_recording():
    # All pairs would be 1.6e9, in the second case all of them shared.
    spans = [("a", float(start), start + 1.0) for start in range(100_000)]
    assert same_clips(spans[::5], [s for i, s in enumerate(spans) if i % 5]) == []
    whole = [("a", 0.0, math.inf)] * 40_000
    assert len(same_clips(whole, whole)) == 2 * len(whole) - 1


def test_classes(prepared, tmp_path):
    train = read_inventory(str(prepared), ("train",))
    names = ("b", "a", "c|d")
    assert class_counts(train, names).tolist() == [1, 2, 1]
    assert check_classes(train, names, "training data").tolist() == [1, 2, 1]
    with pytest.raises(UserError, match=r"0.wav 0-0.5 s has the class 'c\|d', which is none of"):
        class_counts(train, ("a", "b"))
    with pytest.raises(UserError, match="training data .* has no example of 1 of 4 classes: e"):
        check_classes(train, (*names, "e"), "training data")
    with pytest.raises(UserError, match=r"1 record without a class or with several: 0.wav"):
        check_classes(train, names, "training data", single_label=True)
    foreign = [example(i, frames=1, label=None) for i in range(2)]
    none = read_inventory(str(write_shards(tmp_path, foreign)), ("train",))
    with pytest.raises(UserError, match="has no labels: at least two classes"):
        check_classes(none, names, "val data")
    same = read_inventory(
        str(write_shards(tmp_path / "one", [example(frames=1, label=1)] * 2)), ("train",)
    )
    with pytest.raises(UserError, match="has one class only, 'class 1'"):
        check_classes(same, ("class 0", "class 1"), "training data")


def test_the_same_clip_in_two_splits_is_refused(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        saved(folder / f"{number}.png", Image.new("L", (4, 4), number))
    lines = [f"{number}.png,{split}" for number in range(12) for split in ("train", "val")]
    (tmp_path / "m.csv").write_text("path,split\n" + "\n".join(lines))
    with pytest.raises(PlanError, match=r"12 clips in two splits: 0.png .*and 2 more") as error:
        command.prepare(folder, tmp_path / "out", IMAGES, manifest=tmp_path / "m.csv")
    assert "10.png (0-inf s in train, 0-inf s in val)" in str(error.value)
    assert not (tmp_path / "out").exists()
    # Other parts of one file may be in different splits.
    write_wav(tmp_path / "sounds" / "a.wav", 2.0)
    (tmp_path / "m.csv").write_text("path,start,end,split\na.wav,0,1,train\na.wav,1,2,val\n")
    content = command.prepare(
        tmp_path / "sounds", tmp_path / "two", SOUNDS, manifest=tmp_path / "m.csv"
    )
    assert {name: split["records"] for name, split in content["splits"].items()} == {
        "train": 1,
        "val": 1,
    }
