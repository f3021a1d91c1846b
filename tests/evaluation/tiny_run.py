"""A tiny random model in a weights folder, and shards that it can read."""

from __future__ import annotations

import json
import pathlib

import keras
import numpy as np

from tests.data.records import SPEC, example, write_shards
from vatt_tf.data.text.tokenizer import WordTokenizer
from vatt_tf.encoders.audio import AudioTowerConfig
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.video import VideoTowerConfig
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.config.vatt import HeadConfig, VattConfig
from vatt_tf.models.io import save_pretrained
from vatt_tf.models.vatt import build_vatt

_SIZE = dict(num_layers=2, d_model=16, num_heads=2, d_ff=16, d_kv=8)
WORDS = ("<pad>", "<bos>", "<eos>", "<unk>", "caption", "number", "class", "0", "1", "2", "3")


def save_tiny_model(folder: pathlib.Path, kind: str = "fac", step: int = 7) -> pathlib.Path:
    """Writes a weights folder: 2 layers of width 16, clips of ``tests.data.records.SPEC``."""
    keras.utils.set_random_seed(0)
    config = VattConfig(
        video=VideoTowerConfig(frames=4, image_size=16, patch=(2, 8, 8), **_SIZE),
        audio=AudioTowerConfig(samples=320, patch=32, **_SIZE),
        text=TextTowerConfig(
            vocab_size=len(WORDS), embedding_dim=8, max_tokens=6, trainable_words=True, **_SIZE
        ),
        head=HeadConfig(kind=kind, va_dim=12, vt_dim=8, vat_dim=10),
    )
    model = build_vatt(config)
    _spread(model)
    save_pretrained(str(folder), model, SPEC, WordTokenizer(WORDS, max_tokens=6), step=step)
    return folder


def _spread(model: keras.Model) -> None:
    """Random weights that are large: at the usual start features hardly depend on the input."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        offset = 1.0 if variable.name in ("gamma", "scale", "weight") else 0.0
        variable.assign(offset + 0.4 * rng.normal(size=variable.shape))


def write_tiny_shards(folder: pathlib.Path, count: int = 11) -> pathlib.Path:
    """Writes a prepared folder with a val split; record 2 has no sound, record 3 no caption."""
    rng = np.random.default_rng(0)
    records = [
        example(
            i,
            levels=rng.integers(0, 255, 6).tolist(),
            waveform=rng.uniform(-0.5, 0.5, 600) if i != 2 else np.zeros(0),
            captions=[f"caption number {i % 4}"] if i != 3 else [],
            label=i % 3,
            start=float(i),
        )
        for i in range(count)
    ]
    write_shards(folder, records, shards=2, split="val")
    manifest = {
        "format": 1,
        "settings": {"frame_rate": 10.0, "sample_rate": 800},
        "splits": {"val": {"shards": [], "records": count}, "train": {"shards": [], "records": 0}},
        "labels": ["class 0", "class 1", "class 2"],
    }
    for path in sorted((folder / "val").glob("*.tfrecord")):
        manifest["splits"]["val"]["shards"].append(
            {"file": f"val/{path.name}", "bytes": path.stat().st_size}
        )
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def save_tiny_classifier(
    folder: pathlib.Path,
    modality: str = "video",
    *,
    multi_label: bool = False,
    labels: tuple[str, ...] | None = ("class 2", "class 0", "class 1"),
    step: int = 9,
) -> pathlib.Path:
    """Writes a weights folder: classes in another order than the shards' indices."""
    keras.utils.set_random_seed(0)
    tower = {
        "video": VideoTowerConfig(frames=4, image_size=16, patch=(2, 8, 8), **_SIZE),
        "audio": AudioTowerConfig(samples=320, patch=32, **_SIZE),
    }[modality]
    model = build_classifier(
        ClassifierConfig(modality, tower, num_classes=3, multi_label=multi_label)
    )
    _spread(model)
    save_pretrained(str(folder), model, SPEC, None, labels=labels, step=step)
    return folder


def write_labelled_shards(
    folder: pathlib.Path, splits: dict[str, int], classes: int = 3
) -> pathlib.Path:
    """Writes a prepared folder whose classes differ in brightness; clips are 10 frames long."""
    manifest: dict = {
        "format": 1,
        "settings": {"frame_rate": 10.0, "sample_rate": 800},
        "splits": {},
        "labels": [f"class {c}" for c in range(classes)],
    }
    rng = np.random.default_rng(0)
    for number, (split, count) in enumerate(splits.items()):
        records = [
            example(
                100 * number + i,
                levels=(60 + 70 * (i % classes) + rng.integers(-20, 20, 10)).tolist(),
                waveform=rng.uniform(-0.5, 0.5, 800) * (0.2 + i % classes),
                captions=[f"caption number {i % classes}"],
                label=i % classes,
            )
            for i in range(count)
        ]
        shards = write_shards(folder, records, split=split)
        files = [{"file": f"{split}/{path.name}"} for path in shards.glob("*.tfrecord")]
        manifest["splits"][split] = {"shards": files, "records": count}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
