"""ResNet v2, the trunk of MMV's residual towers for video and audio."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from vatt_tf.encoders.convolutional import SizedByStrides, check_width
from vatt_tf.encoders.tower import Tower
from vatt_tf.fields import as_sizes, set_field
from vatt_tf.layers.batch_norm import batch_norm
from vatt_tf.layers.convolution.residual import BottleneckBlock, convolution
from vatt_tf.layers.convolution.space_time_convolution import to_frames, to_images

STEM_WIDTH = 64
UNIT_WIDTHS = (256, 512, 1024, 2048)
UNIT_STRIDES = (1, 2, 2, 2)
RESNET50_BLOCKS = (3, 4, 6, 3)


def scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``, rounded to a multiple of 8 (an eighth must be whole)."""
    return max(8, 8 * int(channels * width / 8 + 0.5))


def check_residual(instance: Any, name: str) -> None:
    """Checks the fields ``width`` and ``blocks`` under their gin names."""
    check_width(f"{name}.width", instance.width)
    set_field(instance, "blocks", as_sizes(f"{name}.blocks", instance.blocks, 4))


class ResNetEncoder(SizedByStrides, Tower):
    """Base of the residual towers (He et al. 2016, ResNet v2; docs/reference.md, MMV).

    stem (7x7, stride 2, no norm) -> 3x3 max pooling, stride 2 -> four units of bottleneck blocks
    -> norm -> ReLU. The first block of every unit has a convolution as its shortcut and, but for
    unit_0, stride 2. All padding is SAME, no convolution has a bias.

    Args:
        config: The tower's configuration: ``width`` multiplies all channel counts (64 in the stem,
            256 to 2048 in the units), each rounded to a multiple of 8; ``blocks`` are those of the
            units; TSM moves ``shift_fraction`` of the channels each way.
        **kwargs: Of ``keras.layers.Layer``.
    """

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.stem = convolution(scaled(STEM_WIDTH, config.width), 7, 2, policy, "stem")
        self.stem_pool = keras.layers.MaxPooling2D(
            3, strides=2, padding="same", dtype=policy, name="stem_pool"
        )
        self.residual_blocks = tuple(
            BottleneckBlock(
                scaled(UNIT_WIDTHS[unit], config.width),
                UNIT_STRIDES[unit] if block == 0 else 1,
                projection=block == 0,
                shift_fraction=config.shift_fraction,
                dtype=policy,
                name=f"unit_{unit}_block_{block}",
            )
            for unit, count in enumerate(config.blocks)
            for block in range(count)
        )
        self.norm = batch_norm(policy, "norm")

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        strides = (1, 32, 32) if len(input_shape) == 5 else (32, 32)
        self._set_sizes(input_shape, strides)
        self.stem.build((None, None, None, channels))
        shape: tuple[Any, ...] = (*input_shape[:-3], None, None, self.stem.filters)
        self.stem_pool.build((None, None, None, self.stem.filters))
        for block in self.residual_blocks:
            block.build(shape)
            shape = block.compute_output_shape(shape)
        self.norm.build((None, None, None, self.output_dim))

    def _features(self, inputs: Any, training: bool) -> Any:
        """[..., H, W, C] in the compute dtype -> [..., h, w, output_dim]."""
        leading = ops.shape(inputs)[:-3]
        values = to_frames(self.stem_pool(self.stem(to_images(inputs))), leading)
        for block in self.residual_blocks:
            values = block(values, training=training)
        values = ops.relu(self.norm(to_images(values), training=training))
        return to_frames(values, leading)

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        shape: tuple[Any, ...] = tuple(input_shape)
        for _ in (self.stem, self.stem_pool):
            sides = (None if size is None else -(-size // 2) for size in shape[-3:-1])
            shape = (*shape[:-3], *sides, self.stem.filters)
        for block in self.residual_blocks:
            shape = block.compute_output_shape(shape)
        return {"features": shape, "features_pooled": (shape[0], self.output_dim)}
