"""MMV's audio tower: a ResNet v2 over log-mel spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from vatt_tf.encoders.resnet import ResNetEncoder


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
        width: Multiplier of all channel counts; 1 gives 2048 features.
        blocks: Number of blocks of each of the four units; (3, 4, 6, 3) is ResNet50.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: [B, frames, mel_bins, 1], float.
        training: Whether BatchNorm uses the statistics of the batch.

    Returns:
        ``features_pooled`` [B, d], the mean over both axes; ``features`` [B, t, mel, d] behind the
        last norm and ReLU, a 32nd of the size, rounded up.
    """

    def __init__(
        self, width: float = 1.0, blocks: Sequence[int] = (3, 4, 6, 3), **kwargs: Any
    ) -> None:
        super().__init__(width, blocks, **kwargs)

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        features = self._features(ops.cast(inputs, self.compute_dtype), training)
        return {"features": features, "features_pooled": ops.mean(features, axis=(1, 2))}
