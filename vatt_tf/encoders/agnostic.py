"""The modality-agnostic backbone: three towers around one Transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from vatt_tf.encoders.audio import SpectrogramEncoder, WaveformEncoder
from vatt_tf.encoders.text import AbsoluteTextEncoder
from vatt_tf.encoders.video import VideoEncoder
from vatt_tf.layers.transformer.blocks import Transformer

_AUDIO = {"waveform": WaveformEncoder, "log_mel": SpectrogramEncoder}


@keras.saving.register_keras_serializable("vatt_tf")
class AgnosticEncoder(keras.layers.Layer):
    """Video, audio and text towers that share one Transformer (VATT, section 3.2).

    Shared is the Transformer with its final norm only; embedding, pre-projection, positions, AGG
    and post-projection belong to the modality. The towers are the ordinary encoder classes, so one
    of them, fine-tuned alone, is the same class with its own Transformer. See
    docs/reference.md, Agnostic model.

    Args:
        d_model: Width of a token, the same for all modalities.
        num_layers: Number of Transformer blocks.
        num_heads: Number of attention heads.
        d_ff: Width of the MLPs.
        d_kv: Width of a head.
        dropout_rate: Dropout inside the Transformer.
        position_dropout_rate: Dropout after the positions are added.
        post_projection: Width of the features.
        video: Arguments of :class:`VideoEncoder` that set its input (frames, image_size, patch,
            drop_token_rate).
        audio: The same for the audio encoder; ``input`` chooses ``"waveform"`` or ``"log_mel"``.
        text: The same for :class:`AbsoluteTextEncoder`.
        modalities: Which towers there are; the arguments of others are not read.

    Call arguments:
        inputs: Dict with any of ``video``, ``audio``, ``text``.
        training: Switches dropout and DropToken on.

    Returns:
        Dict from modality to the dict of its encoder.
    """

    def __init__(
        self,
        d_model: int = 1024,
        num_layers: int = 12,
        num_heads: int = 16,
        d_ff: int = 4096,
        d_kv: int = 64,
        dropout_rate: float = 0.1,
        position_dropout_rate: float = 0.1,
        post_projection: int = 1024,
        video: Mapping[str, Any] | None = None,
        audio: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
        modalities: Sequence[str] = ("video", "audio", "text"),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self._modalities = tuple(modalities)
        self._config = {
            "d_model": d_model,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "d_ff": d_ff,
            "d_kv": d_kv,
            "dropout_rate": dropout_rate,
            "position_dropout_rate": position_dropout_rate,
            "post_projection": post_projection,
            "video": dict(video or {}),
            "audio": dict(audio or {}),
            "text": dict(text or {}),
            "modalities": list(self._modalities),
        }

        # === Layers ===
        policy = self.dtype_policy
        self.transformer = Transformer(
            num_layers, num_heads, d_kv, d_ff, dropout_rate, dtype=policy, name="transformer"
        )
        shared = {
            "d_model": d_model,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "d_ff": d_ff,
            "d_kv": d_kv,
            "dropout_rate": dropout_rate,
            "position_dropout_rate": position_dropout_rate,
            "pre_projection": True,
            "post_projection": post_projection,
            "transformer": self.transformer,
            "dtype": policy,
        }
        audio = dict(audio or {})
        audio_class = _AUDIO[audio.pop("input", "waveform")]
        # Named attributes: TensorFlow checkpoints silently skip layers kept in dicts.
        if "video" in modalities:
            self.video = VideoEncoder(**dict(video or {}), **shared, name="video")
        if "audio" in modalities:
            self.audio = audio_class(**audio, **shared, name="audio")
        if "text" in modalities:
            self.text = AbsoluteTextEncoder(**dict(text or {}), **shared, name="text")

    @property
    def towers(self) -> dict[str, keras.layers.Layer]:
        """The encoders by modality."""
        return {modality: getattr(self, modality) for modality in self._modalities}

    def build(self, input_shape: Any = None) -> None:
        shapes = {
            name: (tower.max_tokens,) if name == "text" else (*tower.input_size, tower.channels)
            for name, tower in self.towers.items()
        }
        # Built here and not by the first tower, so that its variables bear the shared name. Its
        # variables do not depend on the number of tokens.
        self.transformer.build((None, None, self._config["d_model"]))
        for name, tower in self.towers.items():
            tower.build((None, *shapes[name]))

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        return {
            modality: tower(inputs[modality], training=training)
            for modality, tower in self.towers.items()
            if modality in inputs
        }

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> dict[str, Any]:
        return {
            modality: getattr(self, modality).compute_output_shape(shape)
            for modality, shape in input_shape.items()
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}
