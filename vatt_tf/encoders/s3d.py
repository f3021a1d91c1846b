"""The video encoder of MMV and MIL-NCE: S3D-G, an Inception network of separable convolutions."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from vatt_tf.encoders.convolutional import (
    SizedByStrides,
    check_deflates,
    check_width,
    unit_range,
)
from vatt_tf.encoders.tower import Tower, TowerConfig, VideoInput, check_clip, register
from vatt_tf.fields import added_later, check_choice, check_flag
from vatt_tf.layers.convolution.inception import InceptionBlock
from vatt_tf.layers.convolution.separable_convolution import ConvBNReLU, SeparableUnit
from vatt_tf.layers.convolution.space_time_convolution import max_pool, space_time_average, strided
from vatt_tf.layers.patches import space_to_depth

# Channels of the Inception blocks: branch 0; branch 1 (two units); branch 2 (two units); branch 3.
STAGES = (
    {"3b": (64, 96, 128, 16, 32, 32), "3c": (128, 128, 192, 32, 96, 64)},
    {
        "4b": (192, 96, 208, 16, 48, 64),
        "4c": (160, 112, 224, 24, 64, 64),
        "4d": (128, 128, 256, 24, 64, 64),
        "4e": (112, 144, 288, 32, 64, 64),
        "4f": (256, 160, 320, 32, 128, 128),
    },
    {"5b": (256, 160, 320, 32, 128, 128), "5c": (384, 192, 384, 48, 128, 128)},
)


def scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``, rounded, at least 8."""
    return max(8, int(channels * width + 0.5))


@register("s3d_tower", "video")
@dataclasses.dataclass(frozen=True)
class S3DTowerConfig(VideoInput, TowerConfig):
    """Configuration of S3D-G: separable 3D convolutions with self-gating.

    Attributes:
        kind: ``"s3d"``.
        frames: Frames of a clip.
        image_size: (height, width) of a frame in pixels (MMV: 200).
        width: Multiplies every channel count; 1 is the published network with 1024 features.
        space_to_depth: Whether 2x2x2 pixels become one position of 24 channels in front of the
            first convolution.
        gating: Whether there are gates (S3D-G), or not (S3D).
        deflated: Whether this is the image network that ``vatt_tf.deflate`` makes of a video
            network: frames do not see each other.
    """

    kind: str = "s3d"
    frames: int = 32
    image_size: tuple[int, int] = (200, 200)
    width: float = 1.0
    space_to_depth: bool = True
    gating: bool = added_later(True)
    deflated: bool = False

    def __post_init__(self) -> None:
        name = "s3d_tower"
        check_choice(f"{name}.kind", self.kind, ("s3d",))
        check_clip(self, name)
        check_width(f"{name}.width", self.width)
        check_flag(f"{name}.space_to_depth", self.space_to_depth)
        check_flag(f"{name}.gating", self.gating)
        check_flag(f"{name}.deflated", self.deflated)

    @property
    def output_dim(self) -> int:
        """Width of the features: what the branches of the last block give together."""
        *_, last = STAGES[-1].values()
        return sum(scaled(last[branch], self.width) for branch in (0, 2, 4, 5))

    def build(self, **kwargs: Any) -> S3DGEncoder:
        """The encoder, without variables yet."""
        return S3DGEncoder(self, **kwargs)


@keras.saving.register_keras_serializable("vatt_tf")
class S3DGEncoder(SizedByStrides, Tower):
    """Raw clip to features (Xie et al. 2018; Miech et al. 2020; docs/reference.md, MMV).

    Structure and padding are those of MMV's release. No convolution has a bias; every one is
    followed by BatchNorm and ReLU; gates stand behind ``conv_2c`` and at the end of every branch of
    the blocks. Layers and MMV's modules (below ``visual_module/~/S3D``):

    ===============================  ========================================================
    ``conv_1a``                      ``Conv2d_1a_7x7``: 2x4x4 on space-to-depth input, else
                                     7x7x7 with strides 2, 2, 2
    (max pooling)                    ``MaxPool_2a_3x3``: 1x3x3, strides 1, 2, 2
    ``conv_2b``, ``conv_2c``         ``Conv2d_2b_1x1``, ``Conv2d_2c_3x3`` (separable)
    (max pooling)                    ``MaxPool_3a_3x3``: 1x3x3, strides 1, 2, 2
    ``mixed_3b``, ``mixed_3c``       ``Mixed_3b``, ``Mixed_3c``
    (max pooling)                    ``MaxPool_4a_3x3``: 3x3x3, strides 2, 2, 2
    ``mixed_4b`` to ``mixed_4f``     ``Mixed_4b`` to ``Mixed_4f``
    (max pooling)                    ``MaxPool_5a_2x2``: 2x2x2, strides 2, 2, 2
    ``mixed_5b``, ``mixed_5c``       ``Mixed_5b``, ``Mixed_5c``
    ``mixed_4b/branch_1_conv_0b``    ``Mixed_4b/Branch_1_Conv2d_0b_3x3``; so every unit of a
                                     block: 0a is 1x1, 0b is 3x3, but 1x1 in branch 3
    ===============================  ========================================================

    and inside of a unit (the second line of a pair only in separable ones):

    =====================  ===================================  ==============================
    ``conv``, ``spatial``  ``~/conv3_d``                        ``kernel`` is ``w``
    ``temporal``           ``~/conv3_d_1``                      the same
    ``norm``,              ``__cross_replica_batch_norm``       ``gamma``, ``beta``: ``scale``,
    ``spatial_norm``                                            ``offset``; moving statistics:
                                                                ``~/mean_ema``, ``~/var_ema``
    ``temporal_norm``      ``__cross_replica_batch_norm_1``     the same
    ``gating``             ``self_gating``                      ``kernel``, ``bias``: ``w``, ``b``
    =====================  ===================================  ==============================

    Kernels have the shapes of 3D convolutions, as in the release.

    The deflated network reads single images: all temporal kernels have length 1, nothing is pooled
    over time, and space to depth is 1x2x2. Frames of a longer clip meet in the averages of the
    gates alone. :func:`deflate_weights` fills it.

    Args:
        config: The tower's configuration.
        **kwargs: Of ``keras.layers.Layer``.

    Call arguments:
        inputs: [B, T, H, W, 3], uint8, or float in [-1, 1]. MMV is trained on [0, 1], to which
            both are mapped.
        training: Whether BatchNorm uses the statistics of the batch.

    Returns:
        ``features_pooled`` [B, d], the mean over time and space; ``features`` [B, t, h, w, d], an
        eighth of the frames (all in a deflated network) and a 32nd of height and width, rounded up.
    """

    config_class = S3DTowerConfig

    def __init__(self, config: S3DTowerConfig, **kwargs: Any) -> None:
        # Pixels are mapped to [0, 1] before they are rounded to the compute dtype.
        super().__init__(config, autocast=False, **kwargs)
        self.deflated, self.space_to_depth = config.deflated, config.space_to_depth
        gating, deflated, space_to_depth = config.gating, config.deflated, config.space_to_depth
        policy = self.dtype_policy
        time = 1 if deflated else 3
        kernel, stride = ((2, 4, 4), 1) if space_to_depth else ((7, 7, 7), 2)
        strides = (stride, stride, stride)
        if deflated:
            kernel, strides = (1, *kernel[1:]), (1, *strides[1:])
        self.conv_1a = ConvBNReLU(self._scaled(64), kernel, strides, dtype=policy, name="conv_1a")
        self.conv_2b = ConvBNReLU(self._scaled(64), dtype=policy, name="conv_2b")
        self.conv_2c = SeparableUnit(
            self._scaled(192), (time, 3, 3), gating, dtype=policy, name="conv_2c"
        )
        self.stage_3, self.stage_4, self.stage_5 = (
            tuple(
                InceptionBlock(
                    [self._scaled(channels) for channels in filters],
                    time,
                    gating,
                    dtype=policy,
                    name=f"mixed_{name}",
                )
                for name, filters in blocks.items()
            )
            for blocks in STAGES
        )

    def _scaled(self, channels: int) -> int:
        return scaled(channels, self.config.width)

    def _block(self) -> tuple[int, int, int]:
        """The block of pixels that becomes one position."""
        return (1 if self.deflated else 2, 2, 2) if self.space_to_depth else (1, 1, 1)

    def build(self, input_shape: Any) -> None:
        self._set_sizes(input_shape, (1 if self.deflated else 8, 32, 32))
        channels = input_shape[-1]
        for size in self._block():
            channels *= size
        shape: Any = (None, None, None, None, channels)
        stem: tuple[Any, ...] = (self.conv_1a, self.conv_2b, self.conv_2c)
        for layer in (*stem, *self.stage_3, *self.stage_4, *self.stage_5):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        x = ops.cast(unit_range(inputs), self.compute_dtype)
        if self.space_to_depth:
            x = space_to_depth(x, self._block())
        x = self.conv_1a(x, training=training)
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        x = self.conv_2b(x, training=training)
        x = self.conv_2c(x, training=training)
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        for block in self.stage_3:
            x = block(x, training=training)
        x = max_pool(x, *(((1, 3, 3), (1, 2, 2)) if self.deflated else ((3, 3, 3), (2, 2, 2))))
        for block in self.stage_4:
            x = block(x, training=training)
        x = max_pool(x, *(((1, 2, 2), (1, 2, 2)) if self.deflated else ((2, 2, 2), (2, 2, 2))))
        for block in self.stage_5:
            x = block(x, training=training)
        pooled = ops.cast(space_time_average(x), self.compute_dtype)
        return {"features": x, "features_pooled": pooled}

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        batch, frames, *image, _ = input_shape
        frames = frames if self.deflated else strided(frames, 8)
        height, width = (strided(size, 32) for size in image)
        return {
            "features": (batch, frames, height, width, self.output_dim),
            "features_pooled": (batch, self.output_dim),
        }


def deflate_weights(video_encoder: S3DGEncoder, image_encoder: S3DGEncoder) -> None:
    """Copies all weights of a video network to its image network (docs/reference.md, MMV).

    Kernels are summed over time, for a still image is the same at every time: the image network
    gives what the video network gives for the image as a still video, but for the ends of the clip,
    where the video network sees zeros. The first kernel is also summed over the frames that space
    to depth puts into the channels.

    Args:
        video_encoder: Built encoder.
        image_encoder: Built encoder with ``deflated=True`` and otherwise the same settings.

    Raises:
        ValueError: If the two do not belong together.
    """
    check_deflates(video_encoder, image_encoder, deflated=True)
    for source, target in zip(video_encoder.weights, image_encoder.weights, strict=True):
        value = ops.convert_to_numpy(source)
        if value.ndim == 5:
            value = value.sum(axis=0, keepdims=True)
            *_, channels, filters = target.shape
            # The frame of the block is the outermost of the channels.
            value = value.reshape(*value.shape[:3], -1, channels, filters).sum(axis=3)
        target.assign(value)
