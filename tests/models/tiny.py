"""Models of a few thousand parameters, for the tests."""

from __future__ import annotations

import dataclasses

import numpy as np

from vatt_tf.encoders.agnostic import AgnosticTowerConfig
from vatt_tf.encoders.audio import AudioTowerConfig
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.video import VideoTowerConfig
from vatt_tf.models.config.vatt import HeadConfig, VattConfig

SIZE = {"num_layers": 2, "d_model": 16, "num_heads": 2, "d_ff": 24, "d_kv": 8}
VIDEO = {"frames": 4, "image_size": (16, 24), "patch": (2, 8, 8)}
AUDIO = {"samples": 256, "patch": 32}
TEXT = {"vocab_size": 32, "embedding_dim": 10, "max_tokens": 6, "trainable_words": True}


def specific(head: str = "fac", **changes) -> VattConfig:
    config = VattConfig(
        video=VideoTowerConfig(**VIDEO, **SIZE),
        audio=AudioTowerConfig(**AUDIO, **SIZE),
        text=TextTowerConfig(**TEXT, **SIZE),
        head=HeadConfig(kind=head, va_dim=12, vt_dim=8, vat_dim=12),
    )
    return dataclasses.replace(config, **changes)


def agnostic(head: str = "fac", **changes) -> VattConfig:
    config = VattConfig(
        kind="agnostic",
        video=VideoTowerConfig(**VIDEO),
        audio=AudioTowerConfig(**AUDIO),
        text=TextTowerConfig(**TEXT),
        agnostic=AgnosticTowerConfig(post_projection=20, **SIZE),
        head=HeadConfig(kind=head, va_dim=12, vt_dim=8, vat_dim=12),
    )
    return dataclasses.replace(config, **changes)


def batch(clips: int = 3, texts: int = 2) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "video": generator.integers(0, 256, (clips, 4, 16, 24, 3)).astype("uint8"),
        "audio": generator.uniform(-1, 1, (clips, 256, 1)).astype("float32"),
        "text": generator.integers(0, 32, (clips, texts, 6)).astype("int32"),
    }
