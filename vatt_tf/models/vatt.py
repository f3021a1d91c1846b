"""The VATT model: three towers and the head that compares what they see, hear and read."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import keras
import numpy as np
from keras import ops

from vatt_tf.encoders.agnostic import AgnosticEncoder
from vatt_tf.encoders.audio import SpectrogramEncoder, WaveformEncoder
from vatt_tf.encoders.text import LinearTextEncoder, TextEncoder
from vatt_tf.encoders.video import VideoEncoder
from vatt_tf.errors import UserError
from vatt_tf.heads.common_space import CommonSpace, DisjointHead, FACHead, SharedHead
from vatt_tf.models.base import ConfiguredModel
from vatt_tf.models.config import (
    AudioTowerConfig,
    HeadConfig,
    TextTowerConfig,
    VattConfig,
    VideoTowerConfig,
)

MODALITIES = ("video", "audio", "text")
Model = TypeVar("Model", bound=keras.Model)


@keras.saving.register_keras_serializable("vatt_tf")
class VATT(ConfiguredModel):
    """Video-audio-text Transformer (Akbari et al., NeurIPS 2021).

    Towers turn raw inputs into features (:meth:`encode`), the head maps features into common spaces
    (:meth:`project`); calling the model does both. The head computes in float32 under every dtype
    policy, because BatchNorm statistics and similarities need it.

    Args:
        config: The model's configuration.
        dtype: Dtype policy of the towers; Keras's global policy by default.

    Call arguments:
        inputs: Dict with any of ``video`` (uint8, or float in [-1, 1], [B, T, H, W, 3]), ``audio``
            ([B, samples, 1] or [B, frames, mel, 1]) and ``text`` (integer [B, P, L] or [B, L]).
        training: Switches dropout, DropToken and batch statistics on.

    Returns:
        Dict from space to a dict from modality to embedding, float32, not normalised; e.g. with the
        FAC head ``{"va": {"video": [B, 512], "audio": [B, 512]}, "vt": {"video": [B, 256],
        "text": [B, P, 256]}}``.
    """

    config_class = VattConfig

    def __init__(self, config: VattConfig, name: str = "vatt", **kwargs: Any) -> None:
        super().__init__(config, name=name, **kwargs)
        policy = self.dtype_policy
        # Named attributes: TensorFlow checkpoints silently skip layers kept in dicts.
        if config.kind == "agnostic":
            self.agnostic_tower = _agnostic_tower(config, policy)
        else:
            self.video_tower = video_tower(config.video, policy)
            self.audio_tower = audio_tower(config.audio, policy)
            self.text_tower = _text_tower(config.text, policy)
        self.head = _head(config.head)

    def tower(self, modality: str) -> keras.layers.Layer:
        """The encoder of ``"video"``, ``"audio"`` or ``"text"``."""
        if modality not in MODALITIES:
            raise ValueError(f"modality must be one of {MODALITIES}, got {modality!r}")
        if self.config.kind == "agnostic":
            return getattr(self.agnostic_tower, modality)
        return getattr(self, f"{modality}_tower")

    def build(self, input_shape: Any = None) -> None:
        """Makes all variables for the configured input sizes; ``input_shape`` is not read."""
        config = self.config
        if config.kind == "agnostic":
            self.agnostic_tower.build()
        else:
            for modality in MODALITIES:
                self.tower(modality).build((None, *getattr(config, modality).input_shape))
        self.head.build(
            {modality: (None, self.tower(modality).output_dim) for modality in MODALITIES}
        )

    def encode(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Pooled features of the modalities present.

        Returns:
            ``video`` [B, d], ``audio`` [B, d], ``text`` [B, P, d] ([B, d] for text [B, L]).
        """
        features = {}
        for modality in MODALITIES:
            if modality not in inputs:
                continue
            value = inputs[modality]
            if modality == "text":
                features[modality] = self._encode_text(value, training)
            else:
                outputs = self.tower(modality)(value, training=training)
                features[modality] = outputs["features_pooled"]
        return features

    def _encode_text(self, ids: Any, training: bool) -> Any:
        ids = ops.convert_to_tensor(ids)
        rows = ops.reshape(ids, (-1, ids.shape[-1]))
        features = self.tower("text")(rows, training=training)["features_pooled"]
        if len(ids.shape) == 2:
            return features
        return ops.reshape(features, (*ops.shape(ids)[:-1], features.shape[-1]))

    def project(self, features: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Embeddings in the common spaces, float32, of the features of :meth:`encode`."""
        return self.head(features, training=training)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        return self.project(self.encode(inputs, training=training), training=training)

    @property
    def tower_variables(self) -> list[keras.Variable]:
        """Trainable variables of the towers."""
        head = {id(variable) for variable in self.head.trainable_variables}
        return [variable for variable in self.trainable_variables if id(variable) not in head]

    @property
    def head_variables(self) -> list[keras.Variable]:
        """Trainable variables of the head."""
        return self.head.trainable_variables

    def set_word_vectors(self, vectors: np.ndarray) -> None:
        """Puts given word vectors into the word table, e.g. word2vec.

        Args:
            vectors: float [vocab_size, embedding_dim].

        Raises:
            UserError: When the shape differs from the configured one.
        """
        table = self.tower("text").word_embedding.embeddings
        if tuple(vectors.shape) != tuple(table.shape):
            raise UserError(
                f"word vectors have shape {tuple(vectors.shape)}, the text tower wants "
                f"{tuple(table.shape)}: set text_tower.vocab_size and text_tower.embedding_dim"
            )
        table.assign(vectors)


def build_vatt(config: VattConfig, dtype: Any = None) -> VATT:
    """Makes a model with all its variables.

    Args:
        config: The model's configuration.
        dtype: Dtype policy of the towers, e.g. ``"mixed_bfloat16"``; Keras's global one by default.
    """
    model = VATT(config, dtype=dtype)
    model.build()
    return model


def abstract_vatt(config: VattConfig) -> VATT:
    """A VATT whose variables have names and shapes but no memory, see :func:`abstract`."""
    return abstract(lambda: build_vatt(config))


def abstract(build: Callable[[], Model]) -> Model:
    """Makes a model whose variables have names and shapes but no memory, to count and compare.

    LBS has 1.7 GB of weights; this takes none of it. The model cannot be called.

    Args:
        build: Makes the model and its variables.
    """
    made: list[Model] = []

    def make() -> None:
        with keras.StatelessScope(initialize_variables=False):
            made.append(build())

    # In its own thread: Keras keeps the list of variables that wait for a value per thread, and
    # those of this model must never get one.
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def parameter_counts(model: VATT) -> dict[str, int]:
    """Parameters of a built (or abstract) model.

    Returns:
        ``video``, ``audio``, ``text`` (a shared Transformer counts in each), ``head``, and over the
        whole model ``total`` and ``trainable``, every variable once.
    """
    counts = {modality: _count(model.tower(modality).weights) for modality in MODALITIES}
    counts["head"] = _count(model.head.weights)
    counts["total"] = _count(model.weights)
    counts["trainable"] = _count(model.trainable_weights)
    return counts


def _count(variables: list[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


def _transformer_arguments(config: Any) -> dict[str, Any]:
    size = config.transformer_size()
    return {
        "d_model": size.d_model,
        "num_layers": size.num_layers,
        "num_heads": size.num_heads,
        "d_ff": size.d_ff,
        "d_kv": size.d_kv,
        "dropout_rate": config.dropout_rate,
    }


def _video_input(video: VideoTowerConfig) -> dict[str, Any]:
    return {
        "frames": video.frames,
        "image_size": video.image_size,
        "patch": video.patch,
        "drop_token_rate": video.drop_token_rate,
    }


def _audio_input(audio: AudioTowerConfig) -> dict[str, Any]:
    arguments = {
        "patch": audio.patch,
        "drop_token_rate": audio.drop_token_rate,
        "use_bias": audio.has_bias,
    }
    if audio.input == "waveform":
        return {"samples": audio.samples, **arguments}
    return {"frames": audio.mel_frames, "mel_bins": audio.mel_bins, **arguments}


def _text_input(text: TextTowerConfig) -> dict[str, Any]:
    return {
        "vocab_size": text.vocab_size,
        "embedding_dim": text.embedding_dim,
        "trainable_words": text.trainable_words,
    }


def video_tower(video: VideoTowerConfig, policy: Any) -> VideoEncoder:
    """The video tower of a configuration, not built."""
    return VideoEncoder(
        **_video_input(video),
        **_transformer_arguments(video),
        position_dropout_rate=video.position_dropout_rate,
        pre_projection=video.pre_projection,
        post_projection=video.post_projection,
        dtype=policy,
        name="video",
    )


def audio_tower(audio: AudioTowerConfig, policy: Any) -> WaveformEncoder | SpectrogramEncoder:
    """The audio tower of a configuration, not built."""
    encoder = WaveformEncoder if audio.input == "waveform" else SpectrogramEncoder
    return encoder(
        **_audio_input(audio),
        **_transformer_arguments(audio),
        position_dropout_rate=audio.position_dropout_rate,
        pre_projection=audio.pre_projection,
        post_projection=audio.post_projection,
        dtype=policy,
        name="audio",
    )


def _text_tower(text: TextTowerConfig, policy: Any) -> TextEncoder | LinearTextEncoder:
    if text.kind == "linear":
        width = text.linear_width()
        return LinearTextEncoder(**_text_input(text), d_model=width, dtype=policy, name="text")
    return TextEncoder(
        **_text_input(text), **_transformer_arguments(text), dtype=policy, name="text"
    )


def _agnostic_tower(config: VattConfig, policy: Any) -> AgnosticEncoder:
    agnostic = config.agnostic
    return AgnosticEncoder(
        **_transformer_arguments(agnostic),
        position_dropout_rate=agnostic.position_dropout_rate,
        post_projection=agnostic.post_projection,
        video=_video_input(config.video),
        audio={"input": config.audio.input, **_audio_input(config.audio)},
        text={**_text_input(config.text), "max_tokens": config.text.max_tokens},
        dtype=policy,
        name="agnostic",
    )


def _head(head: HeadConfig) -> CommonSpace:
    if head.kind == "shared":
        return SharedHead(head.vat_dim, dtype="float32", name="head")
    kinds = {"fac": FACHead, "disjoint": DisjointHead}
    return kinds[head.kind](head.va_dim, head.vt_dim, dtype="float32", name="head")
