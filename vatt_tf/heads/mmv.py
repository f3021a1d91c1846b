"""Heads of MMV and MIL-NCE (docs/reference.md, MMV and MIL-NCE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from vatt_tf.heads.common_space import (
    CommonSpace,
    DisjointHead,
    OneSpaceHead,
    ReluProjection,
    VideoProjection,
    linear,
)
from vatt_tf.heads.config import HEADS, HeadConfig


@HEADS.register("mmv_fac")
@keras.saving.register_keras_serializable("vatt_tf")
class MMVFACHead(CommonSpace):
    """Fine-and-coarse spaces of MMV: a fine one for video and audio, a coarse one for all three.

    video -> va by :class:`VideoProjection`, audio -> va by one Dense; va -> vat by
    :class:`ReluProjection`, text -> vat by one Dense; all with biases. In training only the video
    goes on from va to vat, so that the statistics of that BatchNorm are those of videos; at test
    the audio takes the same way: audio and text are compared without having been trained on each
    other.

    Args:
        va_dim: Width of the fine video-audio space.
        vat_dim: Width of the coarse space.
    """

    options: ClassVar = {"va_dim": 512, "vat_dim": 256}

    def __init__(self, va_dim: int = 512, vat_dim: int = 256, **kwargs: Any) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.va_dim = va_dim
        self.vat_dim = vat_dim

        # === Layers ===
        policy = self.dtype_policy
        self.video_to_va = VideoProjection(va_dim, True, dtype=policy, name="video_to_va")
        self.audio_to_va = linear(va_dim, policy, "audio_to_va", use_bias=True)
        self.va_to_vat = ReluProjection(vat_dim, True, dtype=policy, name="va_to_vat")
        self.text_to_vat = linear(vat_dim, policy, "text_to_vat", use_bias=True)

    def branches(self) -> dict[str, tuple[keras.layers.Layer, ...]]:
        return {
            "video": (self.video_to_va,),
            "audio": (self.audio_to_va,),
            "text": (self.text_to_vat,),
        }

    @classmethod
    def flops(cls, config: HeadConfig, video: int, audio: int, texts: int) -> int:
        va, vat = config.widths.values()
        return 2 * (va * (video + va + audio) + va * vat + vat * texts)

    def build(self, features_shape: Mapping[str, Any]) -> None:
        super().build(features_shape)
        self.va_to_vat.build((None, self.va_dim))

    def call(
        self, features: Mapping[str, Any], training: bool = False, masks: Any = None
    ) -> dict[str, Any]:
        spaces: dict[str, Any] = {"va": {}, "vat": {}}
        how = {"training": training, "mask": (masks or {}).get("video")}
        if "video" in features:
            spaces["va"]["video"] = self.video_to_va(features["video"], **how)
            spaces["vat"]["video"] = self.va_to_vat(spaces["va"]["video"], **how)
        if "audio" in features:
            audio = self.audio_to_va(features["audio"])
            spaces["va"]["audio"] = audio
            if not training:
                spaces["vat"]["audio"] = self.va_to_vat(audio, training=False)
        if "text" in features:
            spaces["vat"]["text"] = self.text_to_vat(features["text"])
        return spaces

    def compute_output_shape(self, features_shape: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "va": {
                name: (*features_shape[name][:-1], self.va_dim)
                for name in ("video", "audio")
                if name in features_shape
            },
            "vat": {name: (*one[:-1], self.vat_dim) for name, one in features_shape.items()},
        }


@HEADS.register("mmv_disjoint")
@keras.saving.register_keras_serializable("vatt_tf")
class MMVDisjointHead(DisjointHead):
    """MMV's two independent spaces: those of the base class, with biases.

    Args:
        va_dim: Width of the video-audio space.
        vt_dim: Width of the video-text space.
    """

    use_bias = True


@HEADS.register("mmv_shared")
@keras.saving.register_keras_serializable("vatt_tf")
class MMVSharedHead(OneSpaceHead):
    """MMV's one space for all modalities, in which audio and text can be compared as well.

    The video, which both losses read, has one :class:`VideoProjection` for them; audio and text
    have one Dense each; all with biases.

    Args:
        vat_dim: Width of the space ``vat``.
    """

    @classmethod
    def flops(cls, config: HeadConfig, video: int, audio: int, texts: int) -> int:
        return super().flops(config, video, audio, texts) + 2 * config.widths["vat_dim"] ** 2

    def _branch(self, name: str) -> keras.layers.Layer:
        if name == "video_to_vat":
            return VideoProjection(self.vat_dim, True, dtype=self.dtype_policy, name=name)
        return linear(self.vat_dim, self.dtype_policy, name, use_bias=True)


@HEADS.register("linear")
@keras.saving.register_keras_serializable("vatt_tf")
class LinearHead(OneSpaceHead):
    """One Dense per modality into one space, as MIL-NCE has it for video and text.

    Args:
        vat_dim: Width of the space ``vat``.
    """

    def _branch(self, name: str) -> keras.layers.Layer:
        return linear(self.vat_dim, self.dtype_policy, name, use_bias=True)
