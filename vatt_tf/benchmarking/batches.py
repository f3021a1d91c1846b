"""Configuration and batches of a run for its benchmark, without a run directory."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from vatt_tf import config as gin_config
from vatt_tf.data.input.noise import write_noise_shard
from vatt_tf.data.input.pipeline import training_dataset
from vatt_tf.training.tasks.config import RunConfig, TrainConfig
from vatt_tf.training.tasks.registry import configured_run, make_task

# Clips in the shard of noise (more would be read from memory just as well) and their frame rate.
_NOISE_CLIPS, _FRAME_RATE = 16, 25.0


def read_config(gin_files: Sequence[str], bindings: Sequence[str]) -> RunConfig:
    """Reads the run of gin files.

    Raises:
        UserError: If they are wrong.
    """
    gin_config.import_configurables()
    gin_config.parse(gin_files, bindings)
    return configured_run()


def synthetic_batch(config: RunConfig, rows: int) -> dict[str, tf.Tensor]:
    """Returns noise in the shape of ``rows`` clips with all modalities."""
    random, clip = np.random.default_rng(0), config.clip
    batch = {"record_id": tf.range(rows, dtype=tf.int64)}
    for modality, tower in config.model_config.towers.items():
        shape: tuple[int, ...] = (rows, *tower.input_shape)
        if modality == "video":
            batch[modality] = tf.constant(random.integers(0, 256, shape), tf.uint8)
        elif modality == "audio":
            batch[modality] = tf.constant(random.normal(0, 0.3, shape), tf.float32)
        else:
            shape = (rows, clip.texts, *tower.input_shape)
            batch[modality] = tf.constant(random.integers(1, tower.vocab_size, shape), tf.int32)
        mask = (rows, clip.texts) if modality == "text" else (rows,)
        batch[f"{modality}_mask"] = tf.ones(mask)
    if not isinstance(config, TrainConfig):
        classes = config.model_config.num_classes
        batch["labels"] = tf.one_hot(random.integers(0, classes, rows), classes)
    return batch


def configured_batches(config: RunConfig, batch_size: int) -> tf.data.Dataset:
    """Yields the batches of the run's data."""
    return make_task(config).dataset(
        batch_size=batch_size, seed=config.seed, shuffle_window=config.shuffle_window, prefetch=1
    )


def noise_shard(config: RunConfig) -> str:
    """Yields a temporary shard of 320 x 240 JPEG noise, a second longer than the run's clips."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    clip = config.clip
    seconds = max(clip.frames / clip.frame_rate, clip.samples / clip.sample_rate) + 1.0
    frames = round(seconds * _FRAME_RATE)
    return write_noise_shard(folder, _NOISE_CLIPS, frames, _FRAME_RATE, clip.sample_rate)


def noise_batches(config: RunConfig, batch_size: int) -> tf.data.Dataset:
    """Yields batches of noise from a shard, through the whole input pipeline of the run.

    Texts and labels, which cost nothing to read, are those of :func:`synthetic_batch`.
    """
    read = training_dataset(
        noise_shard(config),
        config.clip,
        None,
        config.augmentation,
        batch_size=batch_size,
        prefetch=1,
    )
    rest = synthetic_batch(config, batch_size)
    return read.map(lambda batch: {**rest, **batch})
