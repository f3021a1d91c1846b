"""A small prepared folder and a configuration that trains on it in seconds."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from tests.data.records import example, jpeg
from vatt_tf import config
from vatt_tf.data.vocabulary import build_vocabulary

WORDS = ("red", "green", "blue", "circle", "square", "moves", "turns")

GIN = """
include 'runs/pretrain.gin'
TRAIN_DATA = '{shards}/train'
EVAL_DATA = '{shards}/val'
STEPS = 6
BATCH_SIZE = 4

video_tower.frames = 4
video_tower.image_size = (16, 16)
video_tower.patch = (2, 8, 8)
audio_tower.samples = 320
audio_tower.patch = 32
text_tower.vocab_size = 32
text_tower.embedding_dim = 8
text_tower.max_tokens = 6
common_space.va_dim = 8
common_space.vt_dim = 8
{sizes}
train.texts = 2
train.sample_rate = 800
train.log_every = 2
train.checkpoint_every = 3
"""

SIZES = "\n".join(
    f"{tower}.{name} = {value}"
    for tower in ("video_tower", "audio_tower", "text_tower")
    for name, value in dict(num_layers=1, d_model=8, num_heads=2, d_ff=16, d_kv=4).items()
)


def record(number: int) -> bytes:
    rng = np.random.default_rng(number)
    images = [jpeg(int(level)) for level in rng.integers(20, 235, 8)]
    captions = [f"{rng.choice(WORDS)} {rng.choice(WORDS)} {rng.choice(WORDS)}" for _ in range(2)]
    return example(
        number,
        images=images,
        waveform=rng.uniform(-0.5, 0.5, 640),
        captions=captions,
        label=number % 3,
    )


@pytest.fixture(scope="session")
def shards(made_once) -> pathlib.Path:
    """``train`` (10 records in 2 shards), ``val`` (5 records) and a word vocabulary."""
    return made_once("shards [a]?", write_shards)  # a name that could be a pattern


def write_shards(folder: pathlib.Path) -> None:
    import tensorflow as tf

    for split, counts in (("train", (6, 4)), ("val", (5,))):
        (folder / split).mkdir(parents=True)
        for shard, count in enumerate(counts):
            path = folder / split / f"{split}-{shard:05d}-of-{len(counts):05d}.tfrecord"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for row in range(count):
                    writer.write(record(100 * shard + row + 1000 * (split == "val")))
    build_vocabulary([" ".join(WORDS)], str(folder / "tokenizer"), ("word",))


@pytest.fixture(scope="session")
def whole_run(shards, made_once) -> pathlib.Path:
    """A finished run of what ``gin_file`` says, without more bindings; read only."""
    from vatt_tf import train

    def make(folder: pathlib.Path) -> None:
        path = folder.with_suffix(".gin")
        path.write_text(GIN.format(shards=shards, sizes=SIZES))
        config.clear()
        assert train.main([f"--gin_file={path}", f"--run_dir={folder}"]) == 0
        config.clear()

    return made_once("whole_run", make)


@pytest.fixture
def gin_file(shards, tmp_path) -> str:
    """Path of a configuration for ``shards``; gin is clean before and after."""
    path = tmp_path / "run.gin"
    path.write_text(GIN.format(shards=shards, sizes=SIZES))
    config.clear()
    yield str(path)
    config.clear()
