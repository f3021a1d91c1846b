"""A tiny VATT and a tiny classifier in weights folders."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import keras
import numpy as np

from vatt_tf.data.schema import ClipSpec
from vatt_tf.data.text.tokenizer import WordTokenizer
from vatt_tf.encoders.audio import AudioTowerConfig
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.video import VideoTowerConfig
from vatt_tf.evaluation.calibration import LEVELS
from vatt_tf.models import io
from vatt_tf.models.config.vatt import HeadConfig, VattConfig
from vatt_tf.models.io import save_pretrained
from vatt_tf.models.vatt import build_vatt

WORDS = ("<pad>", "<bos>", "<eos>", "<unk>", "a", "red", "circle", "moves", "left", "piano")
TOKENS = 6
SIZE = {"num_layers": 2, "d_model": 16, "num_heads": 2, "d_ff": 24, "d_kv": 8}
CLIP = ClipSpec(
    frames=4,
    height=16,
    width=24,
    frame_rate=5.0,
    samples=512,
    sample_rate=800,
    mel_bins=8,
    stft_window=64,
    stft_step=32,
    texts=1,
    tokens=TOKENS,
)


def video_tower() -> VideoTowerConfig:
    return VideoTowerConfig(
        frames=CLIP.frames, image_size=(CLIP.height, CLIP.width), patch=(2, 8, 8), **SIZE
    )


def audio_tower(kind: str = "waveform") -> AudioTowerConfig:
    if kind == "waveform":
        return AudioTowerConfig(samples=CLIP.samples, patch=32, **SIZE)
    return AudioTowerConfig(
        input="log_mel", mel_frames=CLIP.mel_frames, mel_bins=CLIP.mel_bins, patch=(4, 4), **SIZE
    )


def config(
    words: int = len(WORDS), head: str = "fac", audio: str = "waveform", text: str = "t5"
) -> VattConfig:
    return VattConfig(
        video=video_tower(),
        audio=audio_tower(audio),
        text=TextTowerConfig(
            kind=text,
            vocab_size=words,
            embedding_dim=8,
            max_tokens=TOKENS,
            trainable_words=True,
            **SIZE,
        ),
        head=HeadConfig(kind=head, va_dim=12, vt_dim=8, vat_dim=10),
    )


def randomise(model: Any, seed: int = 0) -> None:
    """Weights with which the outputs depend on the inputs, as they hardly do at the start."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        offset = 1.0 if variable.name in ("gamma", "scale", "weight") else 0.0
        variable.assign(offset + 0.3 * rng.normal(size=variable.shape))


def save_weights(
    folder: pathlib.Path, seed: int = 0, tokenizer: Any = None, **kinds: str
) -> pathlib.Path:
    """Writes a weights folder of :func:`config`'s model."""
    keras.utils.set_random_seed(seed)
    tokenizer = tokenizer or WordTokenizer(WORDS, TOKENS)
    model = build_vatt(config(tokenizer.vocab_size, **kinds))
    randomise(model, seed)
    clip = dataclasses.replace(CLIP, audio=kinds.get("audio", "waveform"))
    save_pretrained(str(folder), model, clip, tokenizer, step=1)
    return folder


def save_calibrated_weights(folder: pathlib.Path) -> pathlib.Path:
    """:func:`save_weights` with made-up cosines of held-out pairs of words and videos."""
    save_weights(folder)
    true, random = ((low + 1.5 * LEVELS).tolist() for low in (-0.5, -1.0))
    pairs = {
        "true": {"pairs": 20, "quantiles": true},
        "random": {"pairs": 380, "quantiles": random},
    }
    calibration = {
        "model_hash": io.weights_hash(io.load_model(str(folder))),
        "step": 1,
        "data": "tiny/val",
        "clips": 20,
        "spaces": {"vt": {"text": pairs}},
    }
    io.update_description(str(folder), score_calibration=calibration)
    return folder


def save_classifier(folder: pathlib.Path) -> pathlib.Path:
    """Writes a weights folder of a video classifier with three labels."""
    from vatt_tf.models.classifier import build_classifier
    from vatt_tf.models.config.classifier import ClassifierConfig

    keras.utils.set_random_seed(0)
    model = build_classifier(ClassifierConfig(modality="video", tower=video_tower(), num_classes=3))
    randomise(model)
    save_pretrained(str(folder), model, CLIP, None, labels=["goal", "foul", "corner"])
    return folder


def save_multimodal(folder: pathlib.Path, **fields: Any) -> pathlib.Path:
    """Writes a weights folder of a classifier of video, audio and text with three labels."""
    from vatt_tf.models.classifier import build_classifier
    from vatt_tf.models.config.multimodal import MultimodalConfig

    keras.utils.set_random_seed(0)
    parts = config()
    towers = [
        dataclasses.replace(tower, num_layers=1) for tower in (parts.video, parts.audio, parts.text)
    ]
    model = build_classifier(MultimodalConfig(3, *towers, **fields))
    randomise(model)
    tokenizer = WordTokenizer(WORDS, TOKENS)
    save_pretrained(str(folder), model, CLIP, tokenizer, labels=["goal", "foul", "corner"])
    return folder
