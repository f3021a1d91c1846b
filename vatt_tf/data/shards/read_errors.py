"""Errors while reading records, told with file and record number.

tf.data raises its errors from C++ without saying which record was read: ``read_errors`` finds
the record, checks it, and says what is wrong with it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from vatt_tf.data.schema import RecordKeys
from vatt_tf.data.shards.index import (
    DataSource,
    ShardIndex,
    Sources,
    as_sources,
    index_source,
    make_record_id,
    split_record_id,
)
from vatt_tf.data.shards.records import parse_record, read_at
from vatt_tf.errors import UserError
from vatt_tf.wording import count_of

_RECORD_ID = re.compile(r"record_id=(\d+);([^\n\]]*)")
_JPEG_START = b"\xff\xd8"
# A float list longer than this under another name than the waveform's looks like sound.
_SOUND_VALUES = 1000
# Where the first records are damaged, so many are tried to see what a record holds.
_TRIED_RECORDS = 100
NOT_FINITE = "has NaN or infinite numbers in its sound"


def record_keys(serialized: bytes) -> str:
    """Lists the features of a record: ``image/encoded (32 steps), caption/string, ...``."""
    try:
        example = tf.train.SequenceExample.FromString(serialized)
    except Exception as error:  # protobuf's DecodeError class differs between its versions
        return f"nothing readable ({error})"
    steps = [
        f"{name} ({count_of(len(features.feature), 'step')})"
        for name, features in sorted(example.feature_lists.feature_list.items())
    ]
    found = steps + [name for name in sorted(example.context.feature)]
    return ", ".join(found) or "no features"


def check_keys(
    source: DataSource, index: ShardIndex, keys: RecordKeys, *, tolerate_damage: bool = False
) -> None:
    """Checks that the first record of a source has what the keys name.

    A record may lack video or sound, so a wrong key would silently mask a whole modality. The
    first record tells: frames or sound under other names are an error.

    Args:
        source: The source.
        index: Its records.
        keys: Names of the features.
        tolerate_damage: Take the first record that is not damaged.

    Raises:
        UserError: If it has neither frames nor sound under their keys, or has either under
            another name.
    """
    if source.has_own_layout:
        return
    row = 0
    if tolerate_damage:
        tried = range(min(index.records, _TRIED_RECORDS))
        row = next((i for i in tried if not find_fault(index, i, keys)), 0)
    shard = _shard_of(index, row)
    where = f"{index.files[shard]} record {row - index.first_row[shard]}"
    try:
        serialized = _read(index, row)
        example = tf.train.SequenceExample.FromString(serialized)
    except Exception as error:
        raise UserError(f"{where} cannot be read: {error}") from error
    lists = example.feature_lists.feature_list
    has_video = bool(lists[keys.image].feature) if keys.image in lists else False
    in_context = keys.waveform in example.context.feature
    has_audio = in_context or (keys.waveform in lists and bool(lists[keys.waveform].feature))
    other: dict[str, list[str]] = {"image": [], "waveform": []}
    for name, features in lists.items():
        first = features.feature[0] if features.feature else tf.train.Feature()
        if first.bytes_list.value and first.bytes_list.value[0].startswith(_JPEG_START):
            other["image"].append(name)
        if len(first.float_list.value) > _SOUND_VALUES:
            other["waveform"].append(name)
    wrong = [] if has_video else other["image"]
    wrong += [] if has_audio else other["waveform"]
    if wrong or not (has_video or has_audio):
        guess = f" ({', '.join(wrong)} looks like it)" if wrong else ""
        raise UserError(
            f"{where} has no {keys.image if not has_video else keys.waveform}{guess}; it has "
            f"{record_keys(serialized)}: name the features of {source.path} with RecordKeys"
        )


def explain_read_error(
    error: Exception,
    sources: Sources,
    keys: RecordKeys | None = None,
    *,
    splits: Sequence[str] = ("train",),
) -> UserError | None:
    """Finds the record behind an error that tf.data raised.

    If the error does not name the record, all records are looked through until one is damaged.

    Args:
        error: What was raised.
        sources: The sources that were read, in the same order.
        keys: Names of the features.
        splits: The splits that they were read for.

    Returns:
        An error that names file and record, or None if no record is at fault.
    """
    keys = keys or RecordKeys()
    found = _RECORD_ID.search(str(error))
    try:
        indexes = [index_source(source, splits) for source in as_sources(sources)]
    except UserError as damaged:
        return damaged  # A shard was cut since the start, or has gone.
    for record_id in [int(found.group(1))] if found else _all_ids(indexes):
        number, shard, row = split_record_id(record_id)
        if number >= len(indexes) or shard >= len(indexes[number].files):
            continue
        index = indexes[number]
        place = int(index.first_row[shard]) + row
        where = f"{index.files[shard]} record {row} (byte {index.offsets[place]})"
        try:
            serialized = _read(index, place)
        except tf.errors.OpError as damage:
            return UserError(
                f"{where} {_unreadable(damage)}; copy the shard again or make it again with "
                "`python -m vatt_tf.prepare`"
            )
        told = _plain(found.group(2)).strip(" ,") if found else ""
        fault = told or _fault(serialized, keys, index)
        if fault:
            return UserError(f"{where} {fault}; it has {record_keys(serialized)}")
    return None


def find_fault(index: ShardIndex, row: int, keys: RecordKeys) -> str | None:
    """Reads a record and says what is wrong with it (``has a damaged JPEG in frame 3 ...``).

    Args:
        index: The records of a source.
        row: Number of the record in the source.
        keys: Names of the features.

    Returns:
        The fault, or None for a sound record.
    """
    try:
        serialized = _read(index, row)
    except tf.errors.OpError as damage:
        return _unreadable(damage)
    return None if index.has_own_layout else _fault(serialized, keys, index)


@contextlib.contextmanager
def read_errors(
    sources: Sources,
    keys: RecordKeys | None = None,
    *,
    splits: Sequence[str] = ("train",),
) -> Iterator[None]:
    """Context in which a dataset is read: damaged records are named.

    Args:
        sources: The sources of the dataset.
        keys: Names of the features.
        splits: ``pipeline.TRAINING_SPLITS`` or ``pipeline.EVALUATION_SPLITS``.

    Raises:
        UserError: In place of a tf.data error that a record is the cause of; other errors pass.
    """
    try:
        yield
    except (
        tf.errors.DataLossError,
        tf.errors.InvalidArgumentError,
        tf.errors.NotFoundError,
    ) as error:
        explained = explain_read_error(error, sources, keys, splits=splits)
        if explained is None:
            raise
        raise explained from error


def _plain(told: str) -> str:
    """A message in which TensorFlow escaped quotes and the like."""
    unescaped = told.encode().decode("unicode_escape")  # bytes of UTF-8 as characters
    return unescaped.encode("latin-1", "replace").decode("utf-8", "replace")


def _all_ids(indexes: Sequence[ShardIndex]) -> Iterator[int]:
    for number, index in enumerate(indexes):
        for shard, count in enumerate(np.diff(index.first_row)):
            for row in range(count):
                yield make_record_id(number, shard, row)


def _shard_of(index: ShardIndex, row: int) -> int:
    """Shard that holds a record (empty shards share a first row with their successor)."""
    return int(np.searchsorted(index.first_row, row, side="right")) - 1


def _unreadable(damage: tf.errors.OpError) -> str:
    return f"is damaged: {damage.message.splitlines()[0]}"


def _read(index: ShardIndex, row: int) -> bytes:
    """Reads a record by its number in the source."""
    return read_at(
        tf.constant(index.files[_shard_of(index, row)]),
        tf.constant(index.offsets[row]),
        tf.constant(index.lengths[row]),
    ).numpy()


def _fault(serialized: bytes, keys: RecordKeys, index: ShardIndex) -> str | None:
    """Says what is wrong with a record that can be read, or None."""
    try:
        example = tf.train.SequenceExample.FromString(serialized)
    except Exception as error:
        return f"is no tf.train.SequenceExample ({error})"
    size, lists = None, example.feature_lists.feature_list
    for number, step in enumerate(lists[keys.image].feature if keys.image in lists else ()):
        values = step.bytes_list.value
        if len(values) != 1:
            return (
                f"has {count_of(len(values), 'image')} in step {number} of {keys.image}, expected 1"
            )
        try:
            frame = tf.io.decode_jpeg(values[0], channels=3)
        except tf.errors.OpError:
            start = bytes(values[0][:8])
            return (
                f"has a damaged JPEG in frame {number} ({len(values[0])} bytes, beginning with "
                f"{start!r})"
            )
        if size not in (None, tuple(frame.shape[:2])):
            return f"has frames of different sizes: {size} and {tuple(frame.shape[:2])}"
        size = tuple(frame.shape[:2])
    rates = np.float64(index.frame_rate), np.int64(index.sample_rate)
    try:
        record = parse_record(tf.constant(serialized), tf.constant(0, tf.int64), keys, *rates)
    except tf.errors.InvalidArgumentError as error:
        told = _RECORD_ID.search(error.message)
        return _plain(told.group(2)).strip(" ,") if told else error.message.splitlines()[0]
    return None if np.isfinite(record.waveform).all() else NOT_FINITE
