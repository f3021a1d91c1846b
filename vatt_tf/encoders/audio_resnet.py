"""MMV's audio tower: a ResNet v2 over log-mel spectrograms."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import keras
from keras import ops

from vatt_tf.data.schema import MEL_SCALINGS, ClipSpec
from vatt_tf.encoders.resnet import (
    RESNET50_BLOCKS,
    UNIT_WIDTHS,
    ResNetEncoder,
    check_residual,
    scaled,
)
from vatt_tf.encoders.tower import TowerConfig, register
from vatt_tf.fields import check_choice, check_positive


@register("audio_resnet_tower", "audio")
@dataclasses.dataclass(frozen=True)
class AudioResNetTowerConfig(TowerConfig):
    """Configuration of a ResNet v2 over log-mel spectrograms.

    Attributes:
        kind: ``"audio_resnet"``.
        mel_frames: Time steps of the spectrogram.
        mel_bins: Mel bands of the spectrogram.
        mel_scaling: ``"min_max"``: each spectrogram to [0, 1]; ``"fixed"``: all by the same
            numbers, so that loud and soft stay apart.
        width: Multiplies every channel count; 1 is ResNet50 with 2048 features.
        blocks: Residual blocks of the four stages.
    """

    shift_fraction: ClassVar[float] = 0.0  # frames of a spectrogram are no images

    kind: str = "audio_resnet"
    mel_frames: int = 150
    mel_bins: int = 80
    mel_scaling: str = "min_max"
    width: float = 1.0
    blocks: tuple[int, int, int, int] = RESNET50_BLOCKS

    def __post_init__(self) -> None:
        name = "audio_resnet_tower"
        check_choice(f"{name}.kind", self.kind, ("audio_resnet",))
        check_positive(f"{name}.mel_frames", self.mel_frames)
        check_positive(f"{name}.mel_bins", self.mel_bins)
        check_choice(f"{name}.mel_scaling", self.mel_scaling, MEL_SCALINGS)
        check_residual(self, name)

    @property
    def clip_fields(self) -> dict[str, Any]:
        """The fields of a ``ClipSpec`` that the tower decides."""
        return {
            "audio": "log_mel",
            "samples": self.mel_frames * ClipSpec.stft_step,
            "mel_bins": self.mel_bins,
            "mel_scaling": self.mel_scaling,
        }

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one clip."""
        return (self.mel_frames, self.mel_bins, 1)

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return scaled(UNIT_WIDTHS[-1], self.width)

    def build(self, **kwargs: Any) -> SpectrogramResNetEncoder:
        """The encoder, without variables yet."""
        return SpectrogramResNetEncoder(self, **kwargs)


@keras.saving.register_keras_serializable("vatt_tf")
class SpectrogramResNetEncoder(ResNetEncoder):
    """Log-mel spectrogram, seen as an image of one channel, to features (docs/reference.md, MMV).

    Layers and MMV's release (below ``audio_module/~/res_net_v2``), i unit, j block, k = 0, 1, 2:

    ====================================  ======================================================
    ``stem``                              ``~/initial_conv``
    ``unit_i_block_j/shortcut_conv``      ``~/block_group_i/block_j/~/shortcut_conv``, j = 0
    ``unit_i_block_j/conv_k``             ``~/block_group_i/block_j/~/conv_k``
    ``unit_i_block_j/norm_k``             norm k of ``~/block_group_i/block_j``, in order
    ``norm``                              the norm beside the block groups
    ====================================  ======================================================

    Args:
        config: The tower's configuration.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: [B, frames, mel_bins, 1], float.
        training: Whether BatchNorm uses the statistics of the batch.

    Returns:
        ``features_pooled`` [B, d], the mean over both axes; ``features`` [B, t, mel, d] behind the
        last norm and ReLU, a 32nd of the size, rounded up.
    """

    config_class = AudioResNetTowerConfig

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        features = self._features(ops.cast(inputs, self.compute_dtype), training)
        return {"features": features, "features_pooled": ops.mean(features, axis=(1, 2))}
