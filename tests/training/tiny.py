"""A model and batches that train in milliseconds."""

from __future__ import annotations

import keras
import numpy as np

from vatt_tf.encoders.audio import AudioTowerConfig
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.video import VideoTowerConfig
from vatt_tf.models.classifier import build_classifier
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.config.vatt import HeadConfig, VattConfig
from vatt_tf.models.vatt import build_vatt

TEXTS, TOKENS, VOCABULARY = 2, 4, 20


def tiny_config(dropout: float = 0.0, drop_token: float = 0.0) -> VattConfig:
    size = dict(num_layers=1, d_model=8, num_heads=2, d_ff=16, d_kv=4, dropout_rate=dropout)
    patches = dict(position_dropout_rate=dropout, drop_token_rate=drop_token)
    return VattConfig(
        video=VideoTowerConfig(frames=4, image_size=16, patch=(2, 8, 8), **size, **patches),
        audio=AudioTowerConfig(samples=64, patch=8, **size, **patches),
        text=TextTowerConfig(
            vocab_size=VOCABULARY,
            embedding_dim=6,
            max_tokens=TOKENS,
            trainable_words=True,
            **size,
        ),
        head=HeadConfig(va_dim=8, vt_dim=6),
    )


def tiny_model(seed: int = 0, **rates: float):
    """A model whose clips differ: at the usual start the features hardly depend on the input, and
    BatchNorm would magnify rounding errors a thousandfold."""
    keras.utils.set_random_seed(seed)
    return spread(build_vatt(tiny_config(**rates)), seed)


def tiny_classifier(classes: int, multi_label: bool = False, modality: str = "video"):
    """A classifier on one tower of :func:`tiny_config`, spread in the same way."""
    keras.utils.set_random_seed(0)
    tower = tiny_config().tower(modality)
    return spread(build_classifier(ClassifierConfig(modality, tower, classes, multi_label)), 0)


def spread(model, seed: int):
    """Gives a model weights that tell clips apart, see :func:`tiny_model`."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        offset = 1.0 if variable.name in ("gamma", "scale", "weight") else 0.0
        variable.assign(offset + 0.4 * rng.normal(size=variable.shape))
    return model


def tiny_batch(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """A batch as the pipeline makes it, with some modalities missing."""
    rng = np.random.default_rng(seed)
    text_mask = (rng.random((rows, TEXTS)) < 0.8).astype("float32")
    audio_mask = (rng.random(rows) < 0.8).astype("float32")
    audio_mask[0] = 1
    text_mask[0] = 1
    return {
        "video": rng.integers(0, 256, (rows, 4, 16, 16, 3), dtype=np.uint8),
        "video_mask": np.ones(rows, "float32"),
        "audio": rng.normal(size=(rows, 64, 1)).astype("float32"),
        "audio_mask": audio_mask,
        "text": rng.integers(0, VOCABULARY, (rows, TEXTS, TOKENS)).astype("int32"),
        "text_mask": text_mask,
        "label": np.full(rows, -1, "int32"),
        "record_id": np.arange(rows, dtype=np.int64) + rows * seed,
    }
