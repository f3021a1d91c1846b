"""The video tower: a ViT over space-time patches of raw frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from vatt_tf.encoders.base import PatchEncoder


@keras.saving.register_keras_serializable("vatt_tf")
class VideoEncoder(PatchEncoder):
    """Raw clip to features (VATT, section 3; docs/reference.md, Towers).

    Args:
        frames: Configured frames of a clip (they set the size of the position tables).
        image_size: Configured (height, width) in pixels.
        patch: Patch (frames, height, width).
        d_model: Width of a token.
        drop_token_rate: Share of the patches dropped in training.
        **kwargs: See :class:`vatt_tf.encoders.base.TransformerEncoder`.

    Call arguments:
        inputs: [B, T, H, W, 3], uint8, or float in [-1, 1]. Other clip sizes than the configured
            one interpolate the position tables.
        training: Switches dropout and DropToken on.
        pooled_only: Leaves ``features`` out, and computes nothing that only they need.

    Returns:
        ``features_pooled`` [B, d], the output of AGG; ``features`` [B, t, h, w, d], with DropToken
        in training [B, kept, d].
    """

    def __init__(
        self,
        frames: int = 32,
        image_size: Sequence[int] = (224, 224),
        patch: Sequence[int] = (4, 16, 16),
        d_model: int = 768,
        drop_token_rate: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_size=(frames, *image_size),
            patch=patch,
            axes=("temporal", "vertical", "horizontal"),
            channels=3,
            drop_token_rate=drop_token_rate,
            d_model=d_model,
            **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        config = {
            "frames": self.input_size[0],
            "image_size": self.input_size[1:],
            "patch": self.patch,
            "drop_token_rate": self.drop_token_rate,
        }
        return {**super().get_config(), **config}
