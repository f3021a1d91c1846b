"""MMV's video tower TSM-ResNet: an image network whose frames exchange channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt_tf.encoders.convolutional import unit_range
from vatt_tf.encoders.resnet import ResNetEncoder
from vatt_tf.layers.convolution.temporal_shift import still_channels


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
        width: Multiplier of all channel counts; 1 gives 2048 features, 2 gives 4096.
        blocks: Number of blocks of each of the four units; (3, 4, 6, 3) is ResNet50.
        shift: Whether frames exchange channels. Without it this is an image network, which
            :func:`deflate_weights` fills.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: [B, T, H, W, 3], uint8, or float in [-1, 1]. MMV is trained on [0, 1], to which
            both are mapped.
        training: Whether BatchNorm uses the statistics of the batch.

    Returns:
        ``features_pooled`` [B, d]; ``features`` [B, t, h, w, d], a 32nd of the size, rounded up.
    """

    def __init__(
        self,
        width: float = 1.0,
        blocks: Sequence[int] = (3, 4, 6, 3),
        shift: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(width, blocks, shift_fraction=0.125 if shift else 0.0, **kwargs)

        # === Config ===
        self.shift = shift

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        pixels = ops.cast(unit_range(inputs), self.compute_dtype)
        features = self._features(pixels, training)
        return {"features": features, "features_pooled": ops.mean(features, axis=(1, 2, 3))}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shift": self.shift}


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
    settings = [(e.width, e.blocks, e.shift) for e in (video_encoder, image_encoder)]
    if not settings[0][-1] or settings[1] != (*settings[0][:-1], False):
        raise ValueError(
            "expected a video encoder and its image encoder, got (width, blocks, shift) = "
            f"{settings[0]} and {settings[1]}"
        )
    for source, target in zip(video_encoder.weights, image_encoder.weights, strict=True):
        target.assign(source)
    blocks = zip(video_encoder.residual_blocks, image_encoder.residual_blocks, strict=True)
    for video_block, image_block in blocks:
        kernel = ops.convert_to_numpy(video_block.conv_0.kernel)
        # The swap is its own inverse.
        order = still_channels(kernel.shape[2], video_block.shift_fraction)
        image_block.conv_0.kernel.assign(kernel[:, :, order])
