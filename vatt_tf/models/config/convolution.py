"""Configurations of the convolutional towers of MMV and MIL-NCE (docs/reference.md, MMV).

They stand where the Transformer towers stand: ``vatt.video = @s3d_tower()``.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import gin

from vatt_tf.data.schema import MEL_SCALINGS, ClipSpec
from vatt_tf.encoders.resnet import UNIT_WIDTHS, scaled
from vatt_tf.encoders.s3d import S3DGEncoder
from vatt_tf.models.config.fields import (
    as_sizes,
    check_choice,
    check_flag,
    check_positive,
    fail,
    set_field,
)

RESNET50_BLOCKS = (3, 4, 6, 3)


@functools.cache
def _s3d_features(width: float) -> int:
    """Width of the features: what the branches of the last block give together."""
    return S3DGEncoder(width=width).output_dim


def _check_width(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 8:
        fail(name, value, "a number above 0, at most 8 (1 is the published network)")


def _check_clip(instance: Any, name: str) -> None:
    check_positive(f"{name}.frames", instance.frames)
    if isinstance(instance.image_size, int):
        set_field(instance, "image_size", (instance.image_size, instance.image_size))
    set_field(instance, "image_size", as_sizes(f"{name}.image_size", instance.image_size, 2))


class _VideoClip:
    """What the video towers say of their clips."""

    modality: ClassVar[str] = "video"

    frames: int
    image_size: tuple[int, int]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one clip."""
        return (self.frames, *self.image_size, 3)


@gin.configurable("s3d_tower")
@dataclasses.dataclass(frozen=True)
class S3DTowerConfig(_VideoClip):
    """S3D-G: separable 3D convolutions with self-gating.

    Attributes:
        kind: ``"s3d"``.
        frames: Frames of a clip.
        image_size: (height, width) of a frame in pixels (MMV: 200).
        width: Multiplies every channel count; 1 is the published network with 1024 features.
        space_to_depth: Whether 2x2x2 pixels become one position of 24 channels in front of the
            first convolution.
        deflated: Whether this is the image network that ``vatt_tf.deflate`` makes of a video
            network: frames do not see each other.
    """

    kind: str = "s3d"
    frames: int = 32
    image_size: tuple[int, int] = (200, 200)
    width: float = 1.0
    space_to_depth: bool = True
    deflated: bool = False

    def __post_init__(self) -> None:
        name = "s3d_tower"
        check_choice(f"{name}.kind", self.kind, ("s3d",))
        _check_clip(self, name)
        _check_width(f"{name}.width", self.width)
        check_flag(f"{name}.space_to_depth", self.space_to_depth)
        check_flag(f"{name}.deflated", self.deflated)

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return _s3d_features(self.width)


@gin.configurable("tsm_resnet_tower")
@dataclasses.dataclass(frozen=True)
class TSMResNetTowerConfig(_VideoClip):
    """ResNet v2 over frames whose residual blocks exchange channels with their neighbours (TSM).

    Attributes:
        kind: ``"tsm_resnet"``.
        frames: Frames of a clip.
        image_size: (height, width) of a frame in pixels (MMV: 200).
        width: Multiplies every channel count: 1 is TSM-ResNet50 with 2048 features, 2 is
            TSM-ResNet50x2 with 4096.
        blocks: Residual blocks of the four stages.
        shift: Whether the blocks shift channels; False is the image network that
            ``vatt_tf.deflate`` makes of a video network.
    """

    kind: str = "tsm_resnet"
    frames: int = 32
    image_size: tuple[int, int] = (200, 200)
    width: float = 1.0
    blocks: tuple[int, int, int, int] = RESNET50_BLOCKS
    shift: bool = True

    def __post_init__(self) -> None:
        name = "tsm_resnet_tower"
        check_choice(f"{name}.kind", self.kind, ("tsm_resnet",))
        _check_clip(self, name)
        _check_width(f"{name}.width", self.width)
        set_field(self, "blocks", as_sizes(f"{name}.blocks", self.blocks, 4))
        check_flag(f"{name}.shift", self.shift)

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return scaled(UNIT_WIDTHS[-1], self.width)


@gin.configurable("audio_resnet_tower")
@dataclasses.dataclass(frozen=True)
class AudioResNetTowerConfig:
    """ResNet v2 over log-mel spectrograms.

    Attributes:
        kind: ``"audio_resnet"``.
        mel_frames: Time steps of the spectrogram.
        mel_bins: Mel bands of the spectrogram.
        mel_scaling: ``"min_max"``: each spectrogram to [0, 1]; ``"fixed"``: all by the same
            numbers, so that loud and soft stay apart.
        width: Multiplies every channel count; 1 is ResNet50 with 2048 features.
        blocks: Residual blocks of the four stages.
    """

    modality: ClassVar[str] = "audio"

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
        _check_width(f"{name}.width", self.width)
        set_field(self, "blocks", as_sizes(f"{name}.blocks", self.blocks, 4))

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


CONVOLUTIONAL = (S3DTowerConfig, TSMResNetTowerConfig, AudioResNetTowerConfig)
