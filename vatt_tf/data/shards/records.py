"""One record: read it at its place in a shard and parse it (``tf.train.SequenceExample``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from vatt_tf.data.schema import RecordKeys
from vatt_tf.data.shards.index import FRAMING_BYTES, SHARD_SHIFT, SOURCE_SHIFT, ShardIndex
from vatt_tf.data.shards.labels import HOW_TO_NAME_CLASSES, known_classes


@dataclasses.dataclass(frozen=True)
class RecordTable:
    """The places of all records of several sources as tensors.

    ``row`` numbers the records of a source; ``row + base[source]`` those of all sources.
    """

    files: tf.Tensor
    first_row: tf.Tensor
    offsets: tf.Tensor
    lengths: tf.Tensor
    base: tf.Tensor
    first_shard: tf.Tensor
    frame_rate: tf.Tensor
    sample_rate: tf.Tensor

    @classmethod
    def build(cls, indexes: Sequence[ShardIndex]) -> RecordTable:
        """Joins the indexes of several sources, in their order."""
        base = np.cumsum([0] + [index.records for index in indexes])[:-1]
        shards = np.cumsum([0] + [len(index.files) for index in indexes])[:-1]
        first = [index.first_row[:-1] + b for index, b in zip(indexes, base, strict=True)]
        return cls(
            files=tf.constant([file for index in indexes for file in index.files]),
            first_row=tf.constant(np.concatenate(first), tf.int64),
            offsets=tf.constant(np.concatenate([index.offsets for index in indexes])),
            lengths=tf.constant(np.concatenate([index.lengths for index in indexes])),
            base=tf.constant(base, tf.int64),
            first_shard=tf.constant(shards, tf.int64),
            frame_rate=tf.constant([index.frame_rate for index in indexes], tf.float64),
            sample_rate=tf.constant([index.sample_rate for index in indexes], tf.int64),
        )

    def read(self, source: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the serialized record and its record id."""
        place, shard = self._find(source, row)
        serialized = read_at(self.files[shard], self.offsets[place], self.lengths[place])
        return serialized, self.record_id(source, row)

    def record_id(self, source: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        """The record id (see ``make_record_id``), without reading the record."""
        place, shard = self._find(source, row)
        return (
            tf.bitwise.left_shift(source, SOURCE_SHIFT)
            + tf.bitwise.left_shift(shard - self.first_shard[source], SHARD_SHIFT)
            + (place - self.first_row[shard])
        )

    def _find(self, source: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Number of the record among those of all sources, and of its shard."""
        place = self.base[source] + row
        # The last shard that begins at or before the record (empty shards share a first row).
        shard = tf.searchsorted(self.first_row, [place], side="right")[0] - 1
        return place, tf.cast(shard, tf.int64)


def read_at(file: tf.Tensor, offset: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Reads one record of a TFRecord file in one request; its checksums are verified.

    Args:
        file: String scalar.
        offset: int64, byte where the record's header begins.
        length: int64, bytes of the record's data.
    """
    # tf.data.TFRecordDataset has no offset argument; the op below it does.
    variant = tf.raw_ops.TFRecordDatasetV2(
        filenames=[file],
        compression_type="",
        buffer_size=length + FRAMING_BYTES,
        byte_offsets=[offset],
    )
    dataset = tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))
    return dataset.take(1).get_single_element()


@dataclasses.dataclass(frozen=True)
class Record:
    """A parsed record; what it lacks is empty, or the value in brackets.

    Attributes:
        record_id: int64.
        frames: string ``[stored frames]``, one JPEG each.
        waveform: float32 ``[stored samples]``.
        captions: string ``[captions]``, as stored (bytes that may not be UTF-8).
        caption_times: float64 ``[captions or 0, 2]``, begin and end in seconds.
        label: int32, first label index (-1).
        label_indices: int64 ``[labels]``.
        label_names: string ``[labels or 0]``.
        filename: string ("").
        start: float64, begin of the clip in seconds (0).
        end: float64, end of the clip in seconds (begin + what is stored).
        frame_rate: float64, stored frames per second.
        sample_rate: int64, stored samples per second.
    """

    record_id: tf.Tensor
    frames: tf.Tensor
    waveform: tf.Tensor
    captions: tf.Tensor
    caption_times: tf.Tensor
    label: tf.Tensor
    label_indices: tf.Tensor
    label_names: tf.Tensor
    filename: tf.Tensor
    start: tf.Tensor
    end: tf.Tensor
    frame_rate: tf.Tensor
    sample_rate: tf.Tensor

    @classmethod
    def of(
        cls,
        record_id: tf.Tensor,
        *,
        frames: Any = (),
        waveform: Any = (),
        captions: Any = (),
        frame_rate: float = 0.0,
        sample_rate: int = 0,
        label_names: Any = (),
    ) -> Record:
        """A record of what its source holds; the rest is empty.

        Args:
            record_id: int64.
            frames: string ``[n]``, one JPEG each.
            waveform: float32 ``[n]`` in [-1, 1].
            captions: string ``[n]``.
            frame_rate: Frames per second; needed where there are frames.
            sample_rate: Samples per second; needed where there is a waveform.
            label_names: string ``[n]``, the classes.
        """
        frames, waveform = tf.cast(frames, tf.string), tf.cast(waveform, tf.float32)
        rates = tf.constant(frame_rate, tf.float64), tf.constant(sample_rate, tf.int64)
        counts = tf.cast(tf.size(frames), tf.float64), tf.cast(tf.size(waveform), tf.float64)
        lengths = [
            tf.math.divide_no_nan(count, tf.cast(rate, tf.float64))
            for count, rate in zip(counts, rates, strict=True)
        ]
        names = tf.cast(label_names, tf.string)
        return cls(
            record_id=record_id,
            frames=frames,
            waveform=waveform,
            captions=tf.cast(captions, tf.string),
            caption_times=tf.zeros([0, 2], tf.float64),
            label=tf.constant(-1),
            label_indices=tf.zeros([0], tf.int64),
            label_names=names,
            filename=tf.constant(""),
            start=tf.constant(0.0, tf.float64),
            end=tf.reduce_max(tf.stack(lengths)),
            frame_rate=rates[0],
            sample_rate=rates[1],
        )


def require(condition: tf.Tensor, record_id: tf.Tensor, message: str | tf.Tensor) -> None:
    """Stops with a message that names the record (``read_errors`` turns the id into a file)."""
    where = tf.strings.join(["record_id=", tf.strings.as_string(record_id), ";", message])
    tf.debugging.Assert(condition, [where])


def parse_record(
    serialized: tf.Tensor,
    record_id: tf.Tensor,
    keys: RecordKeys,
    frame_rate: tf.Tensor,
    sample_rate: tf.Tensor,
) -> Record:
    """Parses a serialized ``tf.train.SequenceExample``.

    Args:
        serialized: String scalar.
        record_id: int64, named in errors.
        keys: Names of the features.
        frame_rate: float64, stored frames per second of records that do not say it (0: unknown).
        sample_rate: int64, likewise for sound.
    """
    text, number = tf.io.RaggedFeature(tf.string), tf.io.RaggedFeature(tf.int64)
    real = tf.io.RaggedFeature(tf.float32)
    context, lists = tf.io.parse_single_sequence_example(
        serialized,
        context_features={
            keys.caption: text,
            keys.caption_start: number,
            keys.caption_end: number,
            keys.label_index: number,
            keys.label_text: text,
            keys.clip_start: number,
            keys.clip_end: number,
            keys.filename: text,
            keys.frame_rate: real,
            keys.sample_rate: number,
            keys.waveform: real,
        },
        sequence_features={
            keys.image: tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
            keys.waveform: real,
        },
        example_name=tf.strings.join(["record_id=", tf.strings.as_string(record_id), ";"]),
    )
    frames = lists[keys.image]
    waveform = tf.concat([lists[keys.waveform].flat_values, context[keys.waveform]], 0)
    has_video, has_audio = tf.size(frames) > 0, tf.size(waveform) > 0
    require(
        has_video | has_audio,
        record_id,
        f"has neither frames ({keys.image}) nor sound ({keys.waveform})",
    )
    frame_rate = tf.cast(_first(context[keys.frame_rate], frame_rate), tf.float64)
    sample_rate = _first(context[keys.sample_rate], sample_rate)
    require(
        (frame_rate > 0) | ~has_video,
        record_id,
        f"does not say its frame rate ({keys.frame_rate}): set data_source.frame_rate",
    )
    require(
        (sample_rate > 0) | ~has_audio,
        record_id,
        f"does not say its sample rate ({keys.sample_rate}): set data_source.sample_rate",
    )
    seconds = tf.maximum(
        tf.math.divide_no_nan(tf.cast(tf.size(frames), tf.float64), frame_rate),
        tf.math.divide_no_nan(
            tf.cast(tf.size(waveform), tf.float64), tf.cast(sample_rate, tf.float64)
        ),
    )
    start = _seconds(_first(context[keys.clip_start], 0))
    end = tf.where(
        tf.size(context[keys.clip_end]) > 0,
        _seconds(_first(context[keys.clip_end], 0)),
        start + seconds,
    )
    captions = context[keys.caption]
    begins, ends = context[keys.caption_start], context[keys.caption_end]
    require(
        (tf.size(begins) == tf.size(ends))
        & ((tf.size(begins) == 0) | (tf.size(begins) == tf.size(captions))),
        record_id,
        f"has another number of caption times ({keys.caption_start}, {keys.caption_end}) than "
        f"captions ({keys.caption})",
    )
    timed = tf.minimum(tf.size(begins), tf.size(ends))
    times = _seconds(tf.stack([begins[:timed], ends[:timed]], 1))
    return Record(
        record_id=record_id,
        frames=frames,
        waveform=waveform,
        captions=captions,
        caption_times=times,
        label=tf.cast(_first(context[keys.label_index], -1), tf.int32),
        label_indices=context[keys.label_index],
        label_names=context[keys.label_text],
        filename=_first(context[keys.filename], ""),
        start=start,
        end=end,
        frame_rate=frame_rate,
        sample_rate=sample_rate,
    )


def class_vector(record: Record, names: Sequence[str]) -> tf.Tensor:
    """The classes of a record, multi-hot: by name, or by index where the record has no names.

    Args:
        record: The record.
        names: All classes in index order.

    Returns:
        float32 ``[classes]``, 1 for each label of the record; zeros for a record without labels.
    """
    known = f"is none of the {len(names)} classes {known_classes(names)}: {HOW_TO_NAME_CLASSES}"
    same = record.label_names[:, tf.newaxis] == tf.constant(list(names))
    strange = tf.boolean_mask(record.label_names, ~tf.reduce_any(same, 1))
    message = tf.strings.join(["has the class '", _first(strange, ""), f"', which {known}"])
    require(tf.size(strange) == 0, record.record_id, message)
    named = tf.size(record.label_names) > 0
    indices = record.label_indices
    strange = tf.boolean_mask(indices, (indices < 0) | (indices >= len(names)))
    index = tf.strings.as_string(_first(strange, -1))
    message = tf.strings.join(["has the class index ", index, f", which {known}"])
    require(named | (tf.size(strange) == 0), record.record_id, message)
    numbers = tf.range(len(names), dtype=tf.int64)
    by_index = tf.reduce_any(indices[:, tf.newaxis] == numbers, 0)
    return tf.cast(tf.where(named, tf.reduce_any(same, 0), by_index), tf.float32)


def _first(values: tf.Tensor, default: tf.Tensor | int | str) -> tf.Tensor:
    """First of possibly no values."""
    default = tf.cast(default, values.dtype) if values.dtype != tf.string else default
    return tf.concat([values, tf.reshape(default, [1])], 0)[0]


def _seconds(microseconds: tf.Tensor) -> tf.Tensor:
    return tf.cast(microseconds, tf.float64) / 1e6
