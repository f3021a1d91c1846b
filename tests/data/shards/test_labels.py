"""Label files, classes of prepared shards, classes in batches."""

import json

import pytest
import tensorflow as tf

from tests.data.records import SPEC, example, numbered, write_shards
from vatt_tf.data.input.pipeline import evaluation_dataset, training_dataset
from vatt_tf.data.schema import join_labels, split_labels
from vatt_tf.data.shards.labels import (
    labels_of,
    look_alikes,
    normal_label,
    read_labels,
)
from vatt_tf.data.shards.read_errors import read_errors
from vatt_tf.errors import UserError


def test_label_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("dog \ncafé\nsea waves\n\n", encoding="utf-8")
    assert read_labels(path) == ("dog", "café", "sea waves")
    path.write_text("cafe\u0301\nbig  \u00a0cat\n", encoding="utf-8")
    assert read_labels(path) == ("caf\u00e9", "big cat")
    for text, words in (
        ("big cat\nbig  cat\n", "line 2: the class 'big cat' stands in line 1 already"),
        ("", "is empty: expected one class per line"),
        ("a\n\nb\n", "line 2 is empty"),
        ("a\nb\na\n", "line 3: the class 'a' stands in line 1 already"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=words):
            read_labels(path)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_labels(tmp_path / "none.txt")


def test_label_file_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "labels.txt").write_text("dog\ncat\n")
    assert read_labels("~/labels.txt") == ("dog", "cat")


def test_labels_that_look_alike():
    names = ["Dog", "cat", "dog", "big cat", "big_cat", "ﬁre", "fire"]
    assert look_alikes(names) == [["Dog", "dog"], ["big cat", "big_cat"], ["ﬁre", "fire"]]
    assert normal_label(" a\u200b \t b ") == "a b"


def test_cell_of_labels():
    for labels in ((), ("dog",), ("a|b", "c\\", "d, e")):
        assert split_labels(join_labels(labels)) == labels
    assert join_labels(("a", "b")) == "a|b"


def test_labels_of_the_manifest(tmp_path):
    first = numbered(tmp_path / "one", 2).parent
    second = numbered(tmp_path / "two", 2).parent
    for folder, labels in ((first, ["b", "a"]), (second, ["a", "c"])):
        content = {"splits": {}, "labels": labels}
        (folder / "manifest.json").write_text(json.dumps(content))
    assert labels_of(str(first), ("train",)) == ("b", "a")
    assert labels_of([str(first), str(second)], ("train",)) == ("b", "a", "c")
    (second / "manifest.json").unlink()
    with pytest.raises(UserError, match="do not say which classes.*give a label file"):
        labels_of(str(second), ("train",))


def labelled(names, indices):
    record = tf.train.SequenceExample.FromString(example(frames=2))
    context = record.context.feature
    context["clip/label/index"].int64_list.value.extend(indices)
    context["clip/label/text"].bytes_list.value.extend(name.encode() for name in names)
    return record.SerializeToString()


def test_classes_are_looked_up_by_name(tmp_path):
    # The stored indices belong to another order of the classes.
    records = [labelled(["dog|", "café"], [7, 9]), labelled([], []), labelled([], [2, 0])]
    shards = str(write_shards(tmp_path, records))
    names = ("cat", "café", "dog|")
    dataset = evaluation_dataset(shards, SPEC, None, batch_size=4, label_names=names)
    batch = next(iter(dataset))
    assert batch["labels"].dtype == tf.float32
    assert batch["labels"].numpy().tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert batch["label"].numpy().tolist() == [7, -1, 2, -1]
    texts = [split_labels(text.decode()) for text in batch["label_text"].numpy()[:3]]
    assert texts == [("dog|", "café"), (), ()]
    assert batch["label_index"].numpy()[:3].tolist() == [b"", b"", b"2|0"]
    dataset = training_dataset(shards, SPEC, None, batch_size=3, label_names=names)
    batch = next(iter(dataset))
    assert dataset.element_spec["labels"].shape == [3, 3]
    assert sorted(map(tuple, batch["labels"].numpy())) == [(0, 0, 0), (0, 1, 1), (1, 0, 1)]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (labelled(["dog", "wölfe"], [0, 1]), "record 1 .*the class 'wölfe', which is none of the"),
        (labelled([], [2]), "record 1 .*has the class index 2, which .* 2 classes cat, dog"),
        (labelled([], [-1]), "has the class index -1"),
    ],
)
def test_unknown_class_is_named(tmp_path, record, words):
    shards = str(write_shards(tmp_path, [labelled(["dog"], [0]), record]))
    with pytest.raises(UserError, match=words), read_errors(shards):
        for _ in evaluation_dataset(shards, SPEC, None, batch_size=1, label_names=("cat", "dog")):
            pass
