"""Encoders from their configurations, and the features that a model reads off them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from vatt_tf.encoders.audio import SpectrogramEncoder, WaveformEncoder
from vatt_tf.encoders.audio_resnet import SpectrogramResNetEncoder
from vatt_tf.encoders.base import TransformerEncoder
from vatt_tf.encoders.s3d import S3DGEncoder
from vatt_tf.encoders.text import AbsoluteTextEncoder, LinearTextEncoder, TextEncoder
from vatt_tf.encoders.tsm_resnet import TSMResNetEncoder
from vatt_tf.encoders.video import VideoEncoder
from vatt_tf.models.config.agnostic import AgnosticTextConfig
from vatt_tf.models.config.convolution import (
    CONVOLUTIONAL,
    AudioResNetTowerConfig,
    S3DTowerConfig,
    TSMResNetTowerConfig,
)
from vatt_tf.models.config.text import TextTowerConfig
from vatt_tf.models.config.vatt import AudioTowerConfig, TowerConfig, VideoTowerConfig


def transformer_arguments(config: Any) -> dict[str, Any]:
    """Arguments of an encoder that set its Transformer."""
    size = config.transformer_size()
    return {
        "d_model": size.d_model,
        "num_layers": size.num_layers,
        "num_heads": size.num_heads,
        "d_ff": size.d_ff,
        "d_kv": size.d_kv,
        "dropout_rate": config.dropout_rate,
    }


def video_input(video: VideoTowerConfig) -> dict[str, Any]:
    """Arguments of an encoder that set its input: video."""
    return {
        "frames": video.frames,
        "image_size": video.image_size,
        "patch": video.patch,
        "drop_token_rate": video.drop_token_rate,
    }


def audio_input(audio: AudioTowerConfig) -> dict[str, Any]:
    """Arguments of an encoder that set its input: sound."""
    arguments = {
        "patch": audio.patch,
        "drop_token_rate": audio.drop_token_rate,
        "use_bias": audio.has_bias,
    }
    if audio.input == "waveform":
        return {"samples": audio.samples, **arguments}
    return {"frames": audio.mel_frames, "mel_bins": audio.mel_bins, **arguments}


def text_input(text: TextTowerConfig | AgnosticTextConfig) -> dict[str, Any]:
    """Arguments of an encoder that set its input: words."""
    return {
        "vocab_size": text.vocab_size,
        "embedding_dim": text.embedding_dim,
        "trainable_words": text.trainable_words,
    }


def build_tower(tower: TowerConfig, policy: Any) -> keras.layers.Layer:
    """The encoder of a configuration, without variables yet, named after its modality.

    Args:
        tower: The tower's configuration.
        policy: Dtype policy.
    """
    if isinstance(tower, TextTowerConfig):
        return _text_tower(tower, policy)
    if isinstance(tower, CONVOLUTIONAL):
        return _convolutional_tower(tower, policy)
    common = {
        **transformer_arguments(tower),
        "position_dropout_rate": tower.position_dropout_rate,
        "post_projection": tower.post_projection,
        "dtype": policy,
    }
    if isinstance(tower, AgnosticTextConfig):
        words = {**text_input(tower), "max_tokens": tower.max_tokens}
        return AbsoluteTextEncoder(**words, **common, name="text")
    common["pre_projection"] = tower.pre_projection
    if isinstance(tower, VideoTowerConfig):
        return VideoEncoder(**video_input(tower), **common, name="video")
    encoder = WaveformEncoder if tower.input == "waveform" else SpectrogramEncoder
    return encoder(**audio_input(tower), **common, name="audio")


def _convolutional_tower(
    tower: S3DTowerConfig | TSMResNetTowerConfig | AudioResNetTowerConfig, policy: Any
) -> keras.layers.Layer:
    arguments = {"width": tower.width, "dtype": policy, "name": tower.modality}
    if isinstance(tower, S3DTowerConfig):
        return S3DGEncoder(
            space_to_depth=tower.space_to_depth, deflated=tower.deflated, **arguments
        )
    arguments["blocks"] = tower.blocks
    if isinstance(tower, TSMResNetTowerConfig):
        return TSMResNetEncoder(shift=tower.shift, **arguments)
    return SpectrogramResNetEncoder(**arguments)


def _text_tower(text: TextTowerConfig, policy: Any) -> TextEncoder | LinearTextEncoder:
    arguments = {**text_input(text), "dtype": policy, "name": "text"}
    if text.kind == "linear":
        return LinearTextEncoder(d_model=text.output_dim, **arguments)
    arguments |= {"positions": text.positions, "max_distance": text.max_distance}
    return TextEncoder(**transformer_arguments(text), **arguments)


def pooled_features(tower: keras.layers.Layer, inputs: Any, training: bool = False) -> Any:
    """Pooled features of an encoder: [B, d]; [B, P, d] of texts [B, P, L]."""
    # Of a Transformer it is the output of AGG: its last block has nothing else to compute.
    has_agg = isinstance(tower, TransformerEncoder | TextEncoder)
    arguments = {"training": training, **({"pooled_only": True} if has_agg else {})}
    if tower.name != "text":
        return tower(inputs, **arguments)["features_pooled"]
    ids = ops.convert_to_tensor(inputs)
    rows = ops.reshape(ids, (-1, ids.shape[-1]))
    features = tower(rows, **arguments)["features_pooled"]
    if len(ids.shape) == 2:
        return features
    return ops.reshape(features, (*ops.shape(ids)[:-1], features.shape[-1]))
