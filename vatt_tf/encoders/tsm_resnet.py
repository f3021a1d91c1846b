"""MMV's video tower TSM-ResNet: an image network whose frames exchange channels."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from vatt_tf.encoders.convolutional import check_deflates, unit_range
from vatt_tf.encoders.resnet import (
    RESNET50_BLOCKS,
    UNIT_WIDTHS,
    ResNetEncoder,
    check_residual,
    scaled,
)
from vatt_tf.encoders.tower import TowerConfig, VideoInput, check_clip, register
from vatt_tf.fields import check_choice, check_flag
from vatt_tf.layers.convolution.temporal_shift import still_channels


@register("tsm_resnet_tower", "video")
@dataclasses.dataclass(frozen=True)
class TSMResNetTowerConfig(VideoInput, TowerConfig):
    """Configuration of TSM-ResNet: a ResNet v2 over frames that exchange channels (TSM).

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
        check_clip(self, name)
        check_residual(self, name)
        check_flag(f"{name}.shift", self.shift)

    @property
    def output_dim(self) -> int:
        """Width of the features."""
        return scaled(UNIT_WIDTHS[-1], self.width)

    @property
    def shift_fraction(self) -> float:
        """Fraction of the channels that move by one frame each way."""
        return 0.125 if self.shift else 0.0

    def build(self, **kwargs: Any) -> TSMResNetEncoder:
        """The encoder, without variables yet."""
        return TSMResNetEncoder(self, **kwargs)


@keras.saving.register_keras_serializable("vatt_tf")
class TSMResNetEncoder(ResNetEncoder):
    """Raw clip to features (Lin et al. 2019; docs/reference.md, MMV).

    A ResNet v2 on every frame; in each of its blocks an eighth of the channels comes from the
    previous and an eighth from the next frame (``layers/convolution/temporal_shift.py``). The
    pooled features are the mean over rows, columns and frames.

    Layers and MMV's release (below ``visual_module/~/TSMResNetV2``), i unit, j block, k = 0, 1, 2:

    ====================================  ======================================================
    ``stem``                              ``tsm_resnet_stem``
    ``unit_i_block_j/shortcut_conv``      ``tsm_resnet_unit_i/block_j/shortcut_conv``, j = 0
    ``unit_i_block_j/conv_k``             ``tsm_resnet_unit_i/block_j/conv_k``
    ``unit_i_block_j/norm_k``             norm k of ``tsm_resnet_unit_i/block_j``, in order
    ``norm``                              the norm beside the units
    ====================================  ======================================================

    Args:
        config: The tower's configuration.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: [B, T, H, W, 3], uint8, or float in [-1, 1]. MMV is trained on [0, 1], to which
            both are mapped.
        training: Whether BatchNorm uses the statistics of the batch.

    Returns:
        ``features_pooled`` [B, d]; ``features`` [B, t, h, w, d], a 32nd of the size, rounded up.
    """

    config_class = TSMResNetTowerConfig

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        pixels = ops.cast(unit_range(inputs), self.compute_dtype)
        features = self._features(pixels, training)
        return {"features": features, "features_pooled": ops.mean(features, axis=(1, 2, 3))}


def deflate_weights(video_encoder: TSMResNetEncoder, image_encoder: TSMResNetEncoder) -> None:
    """Copies all weights of a video network to its image network (docs/reference.md, MMV).

    The shift of MMV's release also swaps channels: the kernels behind it are given the channels
    that they have seen of a clip that stands still. The image network then gives what the video
    network gives for the frames far from the ends of such a clip.

    Args:
        video_encoder: Built encoder.
        image_encoder: Built encoder with ``shift=False`` and otherwise the same settings.

    Raises:
        ValueError: If the two do not belong together.
    """
    check_deflates(video_encoder, image_encoder, shift=False)
    for source, target in zip(video_encoder.weights, image_encoder.weights, strict=True):
        target.assign(source)
    blocks = zip(video_encoder.residual_blocks, image_encoder.residual_blocks, strict=True)
    for video_block, image_block in blocks:
        kernel = ops.convert_to_numpy(video_block.conv_0.kernel)
        # The swap is its own inverse.
        order = still_channels(kernel.shape[2], video_block.shift_fraction)
        image_block.conv_0.kernel.assign(kernel[:, :, order])
