"""Tiny records for tests: real JPEGs of 32x24 pixels, short sounds, any set of keys."""

from __future__ import annotations

import dataclasses
import io
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from vatt_tf.data.schema import ClipSpec, RecordKeys

# Small enough to be fast; 4 frames at 10 fps and 0.4 s of sound.
SPEC = ClipSpec(
    frames=4,
    height=16,
    width=16,
    frame_rate=10.0,
    samples=320,
    sample_rate=800,
    stft_window=32,
    stft_step=16,
    mel_bins=8,
    texts=3,
    tokens=6,
)


def jpeg(level: int, size: tuple[int, int] = (24, 32)) -> bytes:
    """A grey frame of one brightness, which survives JPEG almost exactly."""
    pixels = np.full((*size, 3), level, np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def example(
    number: int = 0,
    *,
    frames: int = 10,
    levels: Sequence[int] | None = None,
    waveform: np.ndarray | None = None,
    samples: int = 800,
    captions: Sequence[str | bytes] = (),
    times: Sequence[tuple[float, float]] = (),
    start: float = 0.0,
    label: int | None = None,
    frame_rate: float | None = 10.0,
    sample_rate: int | None = 800,
    images: Sequence[bytes] | None = None,
    keys: RecordKeys | None = None,
) -> bytes:
    """A serialized record; frame i has brightness ``5 * i`` unless levels are given."""
    keys = keys or RecordKeys()
    record = tf.train.SequenceExample()
    lists, context = record.feature_lists.feature_list, record.context.feature
    if levels is None:
        levels = [5 * i for i in range(frames)]
    for image in [jpeg(level) for level in levels] if images is None else images:
        lists[keys.image].feature.add().bytes_list.value.append(image)
    if waveform is None:
        waveform = np.linspace(0.1, 0.9, samples) if samples else np.zeros(0)
    if len(waveform):
        lists[keys.waveform].feature.add().float_list.value.extend(waveform.astype(np.float32))
    raw = [c if isinstance(c, bytes) else c.encode() for c in captions]
    context[keys.caption].bytes_list.value.extend(raw)
    for begin, end in times:
        context[keys.caption_start].int64_list.value.append(round(begin * 1e6))
        context[keys.caption_end].int64_list.value.append(round(end * 1e6))
    if label is not None:
        context[keys.label_index].int64_list.value.append(label)
        context[keys.label_text].bytes_list.value.append(f"class {label}".encode())
    context[keys.clip_start].int64_list.value.append(round(start * 1e6))
    context[keys.filename].bytes_list.value.append(f"video_{number}.mp4".encode())
    if frame_rate is not None:
        context[keys.frame_rate].float_list.value.append(frame_rate)
    if sample_rate is not None:
        context[keys.sample_rate].int64_list.value.append(sample_rate)
    return record.SerializeToString()


def write_shards(
    folder: pathlib.Path, records: Sequence[bytes], shards: int = 1, split: str = "train"
) -> pathlib.Path:
    """Writes records into shards, one after the other; returns the folder of the shards."""
    folder = pathlib.Path(folder) / split
    folder.mkdir(parents=True, exist_ok=True)
    for shard, part in enumerate(np.array_split(np.arange(len(records)), shards)):
        path = folder / f"{split}-{shard:05d}-of-{shards:05d}.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for i in part:
                writer.write(records[i])
    return folder


def numbered(folder: pathlib.Path, count: int, shards: int = 1, **settings) -> pathlib.Path:
    """Shards of ``count`` records whose label is their number."""
    records = [
        example(i, label=i, captions=[f"caption number {i}"], **settings) for i in range(count)
    ]
    return write_shards(folder, records, shards)


def labels(dataset: tf.data.Dataset, batches: int) -> list[int]:
    """Labels of the first batches, in order."""
    return [int(x) for batch in dataset.take(batches) for x in batch["label"]]


def spec(**changes) -> ClipSpec:
    """The tests' clip with changes."""
    return dataclasses.replace(SPEC, **changes)
