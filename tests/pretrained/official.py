"""Small checkpoints in the released code's format, made from manifests of its variables."""

from __future__ import annotations

import pathlib
import zlib

import numpy as np
import tensorflow as tf

FOLDER = pathlib.Path(__file__).parent
CONFIGS = FOLDER / "configs"

# Checkpoint -> gin file that describes it.
CONFIG_OF = {
    "tx_fac": "tx_fac.gin",
    "ut_fac": "ut_fac.gin",
    "vit_finetune": "tx_fac.gin",
    "vit_finetune_from_ut": "ut_fac.gin",
    "wat_finetune": "tx_fac.gin",
    "spt_finetune": "spt.gin",
}


def read_manifest(path: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Checkpoint key -> shape."""
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    return {
        row[0]: () if row[1] == "scalar" else tuple(int(size) for size in row[1].split("x"))
        for row in rows
    }


def values_of(name: str) -> dict[str, np.ndarray]:
    """Random values of a checkpoint's variables, a function of their names."""
    values = {}
    for key, shape in read_manifest(FOLDER / "manifests" / f"{name}.tsv").items():
        random = np.random.default_rng(zlib.crc32(key.encode()))
        value = np.asarray(random.normal(size=shape))
        if key.startswith(("optimizer/iter", "save_counter")):
            values[key] = np.asarray(7, np.int64)
            continue
        if "moving_variance" in key:
            value = 0.3 + np.abs(value)
        elif "gamma" in key or "layer_norm/weight" in key:
            value = 1 + 0.2 * value
        else:
            value = (0.5 if "embedding" in key else 0.2) * value
        values[key] = value.astype(np.float32)
    return values


def write(prefix: str, values: dict[str, np.ndarray]) -> str:
    """Writes a checkpoint (``.index`` and ``.data``); returns its prefix."""
    names = sorted(values)
    tensors = [tf.constant(values[name]) for name in names]
    tf.raw_ops.SaveV2(
        prefix=f"{prefix}.part",
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=tensors,
    )
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=[f"{prefix}.part"], destination_prefix=prefix)
    return prefix


def inputs_of(config: object) -> dict[str, np.ndarray]:
    """The same small batch for every model of a configuration."""
    random = np.random.default_rng(0)
    return {
        "video": random.uniform(-1, 1, (2, *config.video.input_shape)).astype(np.float32),
        "audio": random.uniform(-1, 1, (2, *config.audio.input_shape)).astype(np.float32),
        "text": random.integers(0, 512, (2, 3, 16)).astype(np.int32),
    }
