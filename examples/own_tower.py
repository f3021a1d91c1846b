"""A tower of one's own: an MLP-Mixer over log-mel spectrograms in the place of the audio tower.

    python -m vatt_tf.train --gin_file=examples/own_tower.gin
    python -m vatt_tf.export --run_dir=runs/own_tower --out=models --module=own_tower

The gin file imports this module; every other command that loads the run takes ``--module``. The
exported models need neither. docs/extending.md explains the parts.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from vatt_tf.data.schema import ClipSpec
from vatt_tf.encoders.tower import Tower, TowerConfig, register
from vatt_tf.fields import check_positive, fail


@register("mixer_tower", modality="audio")
@dataclasses.dataclass(frozen=True)
class MixerTowerConfig(TowerConfig):
    """Configuration of the tower: in gin ``vatt.audio = @mixer_tower()``.

    Attributes:
        kind: How ``model.json`` tells this tower from the other audio towers.
        mel_frames: Time steps of the spectrogram.
        mel_bins: Mel bands of the spectrogram.
        patch: Time steps of a token.
        width: Width of a token and of the features.
        layers: Mixer layers.
    """

    kind: str = "mixer"
    mel_frames: int = 48
    mel_bins: int = 80
    patch: int = 4
    width: int = 64
    layers: int = 2

    def __post_init__(self) -> None:
        for field in ("mel_frames", "mel_bins", "patch", "width", "layers"):
            check_positive(f"mixer_tower.{field}", getattr(self, field))
        if self.mel_frames % self.patch:
            fail("mixer_tower.mel_frames", self.mel_frames, f"a multiple of patch = {self.patch}")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one spectrogram."""
        return (self.mel_frames, self.mel_bins, 1)

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return self.width

    @property
    def clip_fields(self) -> dict[str, Any]:
        """What the data path makes of a stored waveform: a spectrogram of this size."""
        samples = self.mel_frames * ClipSpec.stft_step
        return {"audio": "log_mel", "samples": samples, "mel_bins": self.mel_bins}

    def build(self, **kwargs: Any) -> MixerEncoder:
        """The encoder, without variables yet."""
        return MixerEncoder(self, **kwargs)


@keras.saving.register_keras_serializable("own")
class MixerEncoder(Tower):
    """MLP-Mixer (Tolstikhin et al., 2021): Dense layers over time and over channels in turn.

    Args:
        config: The tower's configuration.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: [B, frames, mel_bins, 1], float.

    Returns:
        ``features_pooled`` [B, width], the mean over the tokens.
    """

    config_class = MixerTowerConfig

    def __init__(self, config: MixerTowerConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.tokens = config.mel_frames // config.patch
        self.embedding = self._dense(config.width, "embedding")
        # Tuples: TensorFlow checkpoints silently skip layers kept in lists.
        layers = range(config.layers)
        self.over_time = tuple(self._dense(self.tokens, f"time_{layer}") for layer in layers)
        self.over_channels = tuple(
            self._dense(config.width, f"channels_{layer}") for layer in layers
        )
        self.norms = tuple(
            keras.layers.LayerNormalization(dtype=self.dtype_policy, name=f"norm_{layer}")
            for layer in layers
        )

    def _dense(self, width: int, name: str) -> keras.layers.Dense:
        return keras.layers.Dense(width, activation="gelu", dtype=self.dtype_policy, name=name)

    def build(self, input_shape: Any) -> None:
        config = self.config
        self.embedding.build((None, self.tokens, config.patch * config.mel_bins))
        for norm, time, channels in zip(
            self.norms, self.over_time, self.over_channels, strict=True
        ):
            norm.build((None, self.tokens, config.width))
            time.build((None, config.width, self.tokens))
            channels.build((None, self.tokens, config.width))

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        config = self.config
        spectrogram = ops.cast(inputs, self.compute_dtype)
        x = ops.reshape(spectrogram, (-1, self.tokens, config.patch * config.mel_bins))
        x = self.embedding(x)
        for norm, time, channels in zip(
            self.norms, self.over_time, self.over_channels, strict=True
        ):
            mixed = ops.transpose(time(ops.transpose(norm(x), (0, 2, 1))), (0, 2, 1))
            x = x + mixed
            x = x + channels(x)
        return {"features_pooled": ops.mean(x, axis=1)}

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        return {"features_pooled": (input_shape[0], self.output_dim)}
