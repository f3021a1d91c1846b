"""Shards of noise: clips to measure the input pipeline with, where there are no data."""

from __future__ import annotations

import io
import os

import numpy as np
import tensorflow as tf
from PIL import Image, ImageFilter

from vatt_tf.data.schema import RecordKeys


def write_noise_shard(
    folder: str, records: int, frames: int, frame_rate: float = 10.0, sample_rate: int = 48_000
) -> str:
    """Writes a shard of clips of 320x240 with sound; returns its path."""
    random, keys = np.random.default_rng(0), RecordKeys()
    path = os.path.join(folder, "train-00000-of-00001.tfrecord")
    images = []
    for _ in range(frames):
        noise = random.integers(0, 256, (240, 320, 3), dtype=np.uint8)
        stream = io.BytesIO()
        image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))
        image.save(stream, "JPEG", quality=90)
        images.append(stream.getvalue())
    sound = random.normal(0, 0.1, round(frames / frame_rate * sample_rate)).astype(np.float32)
    with tf.io.TFRecordWriter(path) as writer:
        for _ in range(records):
            record = tf.train.SequenceExample()
            lists, context = record.feature_lists.feature_list, record.context.feature
            for i in random.permutation(frames):
                lists[keys.image].feature.add().bytes_list.value.append(images[i])
            lists[keys.waveform].feature.add().float_list.value.extend(sound)
            context[keys.frame_rate].float_list.value.append(frame_rate)
            context[keys.sample_rate].int64_list.value.append(sample_rate)
            writer.write(record.SerializeToString())
    return path
