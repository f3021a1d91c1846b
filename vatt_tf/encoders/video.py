"""The video tower: a ViT over space-time patches of raw frames."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from vatt_tf.encoders.base import PatchEncoder
from vatt_tf.encoders.sizes import (
    TokenSequence,
    TransformerTowerConfig,
    check_drop_token,
    check_projections,
    check_transformer,
    patch_sequence,
)
from vatt_tf.encoders.tower import VideoInput, as_pixels, check_clip, register
from vatt_tf.fields import as_sizes, fail, set_field


@register("video_tower", "video")
@dataclasses.dataclass(frozen=True)
class VideoTowerConfig(VideoInput, TransformerTowerConfig):
    """Configuration of the video Transformer.

    Attributes:
        size: Named size: tiny, small, base, medium, large or xlarge.
        frames: Frames of a clip; sets the size of the temporal position table.
        image_size: (height, width) of a frame in pixels; sets the spatial position tables.
        patch: Patch (frames, height, width).
        drop_token_rate: Share of the patches that DropToken drops in training; 0 switches it off.
        dropout_rate: Dropout inside the Transformer.
        position_dropout_rate: Dropout after the positions are added (released code: always 0.1).
        num_layers: Overrides the size's number of blocks.
        d_model: Overrides the size's token width.
        num_heads: Overrides the size's number of heads.
        d_ff: Overrides the size's MLP width.
        d_kv: Overrides the size's head width.
        pre_projection: Dense + GELU behind the patch embedding, as in the agnostic model.
        post_projection: Width of a Dense + GELU on the outputs, as in the agnostic model; None for
            none.
    """

    size: str = "base"
    frames: int = 32
    image_size: tuple[int, int] = (224, 224)
    patch: tuple[int, int, int] = (4, 16, 16)
    drop_token_rate: float = 0.5
    dropout_rate: float = 0.1
    position_dropout_rate: float = 0.1
    num_layers: int | None = None
    d_model: int | None = None
    num_heads: int | None = None
    d_ff: int | None = None
    d_kv: int | None = None
    pre_projection: bool = False
    post_projection: int | None = None

    def __post_init__(self) -> None:
        name = "video_tower"
        check_clip(self, name)
        set_field(self, "patch", as_sizes(f"{name}.patch", self.patch, 3))
        if self.frames < self.patch[0]:
            fail(f"{name}.frames", self.frames, f"at least one patch of {self.patch[0]} frames")
        if self.image_size[0] < self.patch[1] or self.image_size[1] < self.patch[2]:
            fail(f"{name}.image_size", self.image_size, f"at least one patch of {self.patch[1:]}")
        check_transformer(self, name)
        check_projections(self, name)
        check_drop_token(self, name)

    @property
    def sequence(self) -> TokenSequence:
        """Patches of a clip."""
        return patch_sequence(self)

    def build(self, **kwargs: Any) -> VideoEncoder:
        """The encoder, without variables yet."""
        return VideoEncoder(self, **kwargs)


@keras.saving.register_keras_serializable("vatt_tf")
class VideoEncoder(PatchEncoder):
    """Raw clip to features (VATT, section 3; docs/reference.md, Towers).

    Args:
        config: The tower's configuration.
        transformer: A Transformer to share, see :class:`vatt_tf.encoders.base.TransformerEncoder`.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: [B, T, H, W, 3], uint8, or float in [-1, 1] (or of 0 to 255, which a clip that
            reaches beyond 2 is taken for). Other clip sizes than the configured
            one interpolate the position tables.
        training: Switches dropout and DropToken on.
        pooled_only: Leaves ``features`` out, and computes nothing that only they need.

    Returns:
        ``features_pooled`` [B, d], the output of AGG; ``features`` [B, t, h, w, d], with DropToken
        in training [B, kept, d].
    """

    config_class = VideoTowerConfig
    axes = ("temporal", "vertical", "horizontal")

    def call(
        self, inputs: Any, training: bool = False, pooled_only: bool = False
    ) -> dict[str, Any]:
        return super().call(as_pixels(inputs), training=training, pooled_only=pooled_only)
