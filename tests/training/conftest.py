"""A small prepared folder and a configuration that trains on it in seconds."""

from __future__ import annotations

import contextlib
import pathlib

import numpy as np
import pytest

from tests.data.records import example, jpeg
from vatt_tf import config
from vatt_tf.data.text.vocabulary import build_vocabulary

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

WHOLE_RUN = ("train.evaluate_every=3", "train.keep_checkpoints=9", "train.checkpoint_minutes=0")

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
    """A finished run of what ``gin_file`` and ``WHOLE_RUN`` say; read only.

    What it printed stands beside it in ``folder.out``.
    """
    from vatt_tf import train

    def make(folder: pathlib.Path) -> None:
        path = folder.with_suffix(".gin")
        path.write_text(GIN.format(shards=shards, sizes=SIZES))
        config.clear()
        arguments = [f"--gin_file={path}", f"--run_dir={folder}"]
        with (
            open(folder.with_suffix(".out"), "w", encoding="utf-8") as out,
            contextlib.redirect_stdout(out),
        ):
            assert train.main(arguments + [f"--gin_bindings={one}" for one in WHOLE_RUN]) == 0
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


def write_counted_shards(folder: pathlib.Path, captions: bool = False, sound: bool = True) -> None:
    """As ``prepare`` leaves them: a manifest that counts; 8 clips to train on, 6 held out."""
    import json

    import tensorflow as tf

    splits = {}
    for split, count in (("train", 8), ("val", 6)):
        (folder / split).mkdir(parents=True)
        with tf.io.TFRecordWriter(str(folder / split / f"{split}-00000-of-00001.tfrecord")) as out:
            for row in range(count):
                rng = np.random.default_rng(row + 100 * (split == "val"))
                wave = rng.uniform(-0.5, 0.5, 640) * (0.1 + row / 8) if sound else np.zeros(0)
                images = [jpeg(int(level)) for level in rng.integers(20, 235, 8)]
                texts = [str(rng.choice(WORDS))] if captions else []
                number = row + 100 * (split == "val")  # other files
                out.write(example(number, images=images, waveform=wave, captions=texts))
        splits[split] = {
            "records": count,
            "with_audio": count * sound,
            "with_captions": count * captions,
        }
    content = {"format": 1, "settings": {}, "splits": splits, "held_out": "by time"}
    (folder / "manifest.json").write_text(json.dumps(content))
    if captions:
        build_vocabulary([" ".join(WORDS)], str(folder / "tokenizer"), ("word",))


@pytest.fixture(scope="session")
def captionless(made_once) -> pathlib.Path:
    """``run.gin``, ``shards`` without captions and a finished ``run`` on them; read only."""
    from vatt_tf import train

    def make(folder: pathlib.Path) -> None:
        write_counted_shards(folder / "shards")
        text = GIN.format(shards=folder / "shards", sizes=SIZES)
        (folder / "run.gin").write_text(text + "train.evaluate_every = 3\n")
        config.clear()
        run = [f"--gin_file={folder / 'run.gin'}", f"--run_dir={folder / 'run'}"]
        assert train.main(run) == 0
        config.clear()

    return made_once("captionless", make)
