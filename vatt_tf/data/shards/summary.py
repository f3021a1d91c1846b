"""What is in the records of a data set: files, times, classes and a hash of the content.

From the tables that ``prepare`` writes (``clips/<split>.csv``), or from the records themselves.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from vatt_tf.data.schema import RecordKeys, split_labels
from vatt_tf.data.shards.clip_table import INVENTORY
from vatt_tf.data.shards.index import DataSource, as_sources, index_source, read_manifest
from vatt_tf.data.shards.labels import HOW_TO_NAME_CLASSES, known_classes
from vatt_tf.data.shards.overlap import content_hash, same_clips, tell_some
from vatt_tf.errors import UserError
from vatt_tf.wording import count_of

# Bytes of records without a table that are read to look for the clips of another set in them.
MOST_READ = 2**30


@dataclasses.dataclass(frozen=True)
class Inventory:
    """The records of a source in their order; all sequences have one entry a record.

    Attributes:
        path: The source as given.
        folders: Prepared data set (or folder of foreign shards) that the record belongs to.
        files: Path of the original file, relative to the videos folder; "" when unknown.
        starts: float64 ``[records]``, seconds.
        ends: float64 ``[records]``, seconds.
        labels: Class names of each record; indices where the records have no names.
        content: 16 hex digits of the hash of frames and sound.
        unread: Shards without a table that are not listed because they are too large to be read.
    """

    path: str
    folders: tuple[str, ...]
    files: tuple[str, ...]
    starts: np.ndarray
    ends: np.ndarray
    labels: tuple[tuple[str | int, ...], ...]
    content: tuple[str, ...]
    unread: int = 0

    def __len__(self) -> int:
        return len(self.files)

    def describe(self, index: int) -> str:
        """A record for a message: ``talk.mp4 0-10 s``."""
        name = self.files[index] or f"record {index}"
        return f"{name} {self.starts[index]:g}-{self.ends[index]:g} s"


def read_inventory(
    source: DataSource | str | os.PathLike,
    splits: Sequence[str],
    keys: RecordKeys | None = None,
    *,
    like: Inventory | None = None,
) -> Inventory:
    """Lists the records of a source.

    Args:
        source: Data source or path.
        splits: For the top folder of a prepared data set, the splits to look for
            (``pipeline.TRAINING_SPLITS`` or ``EVALUATION_SPLITS``).
        keys: Names of the features, for records that are read; None: DMVR's.
        like: Lists only the records with a file or a content of these, so that training data of
            any size take little memory and time.

    Raises:
        UserError: There is no data, or a shard is damaged.
    """
    (found,), keys = as_sources(source), keys or RecordKeys()
    index = index_source(found, splits, tolerate_damage=like is not None)
    wanted = None if like is None else _marks(like)
    tables: dict[str, tuple[dict[str, list[tuple]], Counter[str]]] = {}
    rows: list[tuple] = []
    unread, read = 0, 0
    for file, first, count in zip(
        index.files, index.first_row, np.diff(index.first_row), strict=False
    ):
        folder, name = os.path.split(file)
        if folder not in tables:
            tables[folder] = _read_table(file, wanted)
        table, counts = tables[folder]
        if counts[name] == count or (wanted is not None and counts[name]):
            rows += table.get(name, ())
            continue
        read += int(index.lengths[first : first + count].sum())
        if wanted is not None and (read > MOST_READ or index.has_own_layout):
            unread += 1
        else:
            rows += (row for row in _read_records(file, keys) if _is_wanted(row, wanted))
    columns: Any = zip(*rows, strict=True) if rows else [()] * 6
    folders, files, starts, ends, labels, content = columns
    return Inventory(
        path=str(found.path),
        folders=folders,
        files=files,
        starts=np.array(starts, np.float64),
        ends=np.array(ends, np.float64),
        labels=labels,
        content=content,
        unread=unread,
    )


def _marks(table: Inventory) -> set[Any]:
    """What a record shares with one of these if it may be the same clip."""
    named = zip(table.folders, table.files, strict=True)
    return {*table.content, *(name for name in named if name[1])}


def _is_wanted(row: tuple, wanted: set[Any] | None) -> bool:
    return wanted is None or row[:2] in wanted or row[-1] in wanted


def join_inventories(parts: Sequence[Inventory]) -> Inventory:
    """The records of several sources, one after the other."""
    return Inventory(
        path=", ".join(part.path for part in parts),
        folders=tuple(folder for part in parts for folder in part.folders),
        files=tuple(file for part in parts for file in part.files),
        starts=np.concatenate([part.starts for part in parts]),
        ends=np.concatenate([part.ends for part in parts]),
        labels=tuple(labels for part in parts for labels in part.labels),
        content=tuple(content for part in parts for content in part.content),
    )


def _root(file: str) -> str:
    """The prepared data set of a shard; of a foreign shard the folder in which it lies."""
    manifest = read_manifest(file)
    folder = os.path.dirname(manifest["path"] if manifest else file)
    return folder if "://" in folder else os.path.realpath(folder)


def _read_table(file: str, wanted: set[Any] | None) -> tuple[dict[str, list[tuple]], Counter[str]]:
    """The table that belongs to a shard's folder: wanted rows, and the number of all, by shard."""
    root = _root(file)
    path = os.path.join(root, INVENTORY, f"{os.path.basename(os.path.dirname(file))}.csv")
    table: dict[str, list[tuple]] = defaultdict(list)
    counts: Counter[str] = Counter()
    if not tf.io.gfile.exists(path):
        return table, counts
    try:
        with tf.io.gfile.GFile(path, "r") as stream:
            for row in csv.DictReader(stream):
                span = float(row["start"]), float(row["end"])
                entry = (root, row["file"], *span, split_labels(row["labels"]), row["content"])
                name = os.path.basename(row["shard"])
                counts[name] += 1
                if _is_wanted(entry, wanted):
                    table[name].append(entry)
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}): run "
            "`python -m vatt_tf.prepare` again, or delete it "
            "to have the records read instead"
        ) from error
    return table, counts


def _read_records(file: str, keys: RecordKeys) -> Iterator[tuple]:
    root = _root(file)
    for serialized in tf.data.TFRecordDataset(file).as_numpy_iterator():
        try:
            example = tf.train.SequenceExample.FromString(serialized)
        except Exception as error:  # protobuf's DecodeError class differs between its versions
            raise UserError(f"{file} holds what is no tf.train.SequenceExample") from error
        yield (root, *_record(example, keys))


def _record(example: Any, keys: RecordKeys) -> tuple:
    context, lists = example.context.feature, example.feature_lists.feature_list
    frames = [step.bytes_list.value[0] for step in lists[keys.image].feature]
    steps = [*lists[keys.waveform].feature, context[keys.waveform]]
    sound = [np.array(step.float_list.value, np.float32) for step in steps]
    waveform = np.concatenate(sound)

    def numbers(key: str) -> list[int]:
        return list(context[key].int64_list.value)

    def texts(key: str) -> list[str]:
        return [value.decode("utf-8", "replace") for value in context[key].bytes_list.value]

    start = (numbers(keys.clip_start) or [0])[0] / 1e6
    rate = (list(context[keys.frame_rate].float_list.value) or [0.0])[0]
    length = len(frames) / rate if rate else len(waveform) / (numbers(keys.sample_rate) or [1])[0]
    end = (numbers(keys.clip_end) or [round((start + length) * 1e6)])[0] / 1e6
    labels = tuple(texts(keys.label_text) or numbers(keys.label_index))
    content = content_hash(frames, waveform if len(waveform) else None)
    return (texts(keys.filename) or [""])[0], start, end, labels, content


def refuse_shared(train: Inventory, test: Inventory, run: str = "") -> None:
    """Refuses to test on what was trained on.

    A record is shared when frames and sound are the same, or when it comes from the same file of
    the same prepared data set and the times overlap.

    Args:
        train: The training clips.
        test: The held-out clips.
        run: Name of the configurable of a run that can be told to train all the same.

    Raises:
        UserError: There is a shared record; the message lists them.
    """
    pairs = set(same_clips(_spans(train), _spans(test)))
    first: dict[str, int] = {}
    for i, content in enumerate(train.content):
        first.setdefault(content, i)
    pairs |= {(first[c], j) for j, c in enumerate(test.content) if c in first}
    if pairs:
        by_test = {j: i for i, j in sorted(pairs, reverse=True)}
        told = [
            f"{test.describe(j)} (train: {train.describe(i)})" for j, i in sorted(by_test.items())
        ]
        raise UserError(
            f"{len(told)} of the {len(test)} records of {test.path} are in the training data "
            f"{train.path} too: {tell_some(told)}. Give each clip one split and prepare again"
            + (f", or set {run}.allow_shared_clips=True" if run else "")
        )


def _spans(table: Inventory) -> list[tuple[Any, float, float]]:
    names = zip(table.folders, table.files, strict=True)
    spans = zip(names, table.starts, table.ends, strict=True)
    # Without a file name a record only has its content.
    return [(name if name[1] else object(), start, end) for name, start, end in spans]


def class_counts(table: Inventory, label_names: Sequence[str]) -> np.ndarray:
    """How many records each class has.

    Args:
        table: The records.
        label_names: All classes in index order.

    Returns:
        int64 ``[classes]``.

    Raises:
        UserError: A record has a class that is none of them.
    """
    counts = np.zeros(len(label_names), np.int64)
    places = {name: index for index, name in enumerate(label_names)}
    for record, labels in enumerate(table.labels):
        for label in set(labels):
            index = places.get(label, -1) if isinstance(label, str) else label
            if not 0 <= index < len(label_names):
                raise UserError(
                    f"{table.path}: {table.describe(record)} has the class '{label}', "
                    f"which is none of the {len(label_names)} classes "
                    f"{known_classes(label_names)}: mend the label or {HOW_TO_NAME_CLASSES}"
                )
            counts[index] += 1
    return counts


def check_scored(table: Inventory, run: str, *, single_label: bool) -> None:
    """Checks that the evaluations of a run can score these records.

    Args:
        table: The records.
        run: Name of the run's configurable, for messages.
        single_label: Whether a record has one class at most.

    Raises:
        UserError: No record has a class, or one has several although ``single_label``.
    """
    if not any(table.labels):
        raise UserError(
            f"{run}.eval_data={table.path} (macro EVAL_DATA): none of the {len(table)} "
            f"clips has a label: label them and prepare again, or set {run}.evaluate_every=0"
        )
    several = [i for i, labels in enumerate(table.labels) if len(set(labels)) > 1]
    if single_label and several:
        told = [f"{table.describe(i)}: {list(table.labels[i])}" for i in several]
        raise UserError(
            f"{run}.eval_data={table.path} (macro EVAL_DATA): "
            f"{count_of(len(several), 'clip')} with "
            f"several classes: {tell_some(told)}. Give each one class, or train a multi-label "
            "classifier"
        )


def check_classes(
    table: Inventory,
    label_names: Sequence[str],
    what: str,
    *,
    single_label: bool = False,
) -> np.ndarray:
    """Checks that a classifier can be trained on these records.

    Args:
        table: The records.
        label_names: All classes in index order.
        what: What the records are for, e.g. ``training data``; named in errors.
        single_label: Whether every record has to have exactly one class.

    Returns:
        ``class_counts``.

    Raises:
        UserError: An unknown class, a class without examples, one class only, or records with
            another number of classes than one.
    """
    counts = class_counts(table, label_names)
    where = f"the {what} {table.path}"
    if np.count_nonzero(counts) < 2:
        found = [name for name, count in zip(label_names, counts, strict=True) if count]
        raise UserError(
            f"{where} has {f'one class only, {found[0]!r}' if found else 'no labels'}: at least "
            "two classes with examples are needed"
        )
    empty = [name for name, count in zip(label_names, counts, strict=True) if not count]
    if empty:
        raise UserError(
            f"{where} has no example of {len(empty)} of {len(label_names)} classes: "
            f"{tell_some(empty)}. Add examples, or {HOW_TO_NAME_CLASSES} (without these)"
        )
    sizes = Counter(len(set(labels)) for labels in table.labels)
    if single_label and set(sizes) != {1}:
        odd = [i for i, labels in enumerate(table.labels) if len(set(labels)) != 1]
        told = [f"{table.describe(i)}: {list(table.labels[i])}" for i in odd]
        raise UserError(
            f"{where} has {count_of(len(odd), 'record')} without a class or with several: "
            f"{tell_some(told)}. "
            "Give each one class, or train a multi-label classifier"
        )
    return counts
