"""A head of one's own: one space, and one Dense for all modalities of a width.

In gin: ``import own_head`` and ``common_space.kind = 'tied'``. It needs towers whose features have
one width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from vatt_tf.heads.common_space import CommonSpace, linear
from vatt_tf.heads.config import HEADS, HeadConfig


@HEADS.register("tied")
@keras.saving.register_keras_serializable("own")
class TiedHead(CommonSpace):
    """One Dense that maps all modalities into the space ``vat``.

    Args:
        vat_dim: Width of the space.
    """

    options: ClassVar = {"vat_dim": 64}

    def __init__(self, vat_dim: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vat_dim = vat_dim
        self.projection = linear(vat_dim, self.dtype_policy, "projection")

    def branches(self) -> dict[str, tuple[keras.layers.Layer, ...]]:
        return {modality: (self.projection,) for modality in ("video", "audio", "text")}

    def build(self, features_shape: Mapping[str, Any]) -> None:
        self.projection.build(next(iter(features_shape.values())))

    @classmethod
    def flops(cls, config: HeadConfig, video: int, audio: int, texts: int) -> int:
        return 2 * config.widths["vat_dim"] * (video + audio + texts)

    def call(self, features: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        return {"vat": {name: self.projection(value) for name, value in features.items()}}

    def compute_output_shape(self, features_shape: Mapping[str, Any]) -> dict[str, Any]:
        return {"vat": {name: (*one[:-1], self.vat_dim) for name, one in features_shape.items()}}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "vat_dim": self.vat_dim}
