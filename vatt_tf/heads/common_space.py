"""Heads that map the towers' features into common spaces where modalities are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from vatt_tf.heads.config import HEADS, HeadConfig
from vatt_tf.layers.batch_norm import batch_norm


def linear(width: int, policy: Any, name: str, use_bias: bool = False) -> keras.layers.Dense:
    """A Dense layer without activation."""
    return keras.layers.Dense(width, use_bias=use_bias, dtype=policy, name=name)


def _rows(inputs: Any) -> Any:
    """[B, ..., d] -> [rows, d]: BatchNorm is built for one rank, texts come with one more axis."""
    return inputs if len(inputs.shape) == 2 else ops.reshape(inputs, (-1, inputs.shape[-1]))


def _row_mask(mask: Any) -> Any:
    """[B, ...] -> [rows], the rows of :func:`_rows`."""
    return None if mask is None else ops.reshape(mask, (-1,))


def _unflatten(outputs: Any, inputs: Any) -> Any:
    """Gives rows back the leading axes of ``inputs``."""
    if len(inputs.shape) == 2:
        return outputs
    return ops.reshape(outputs, (*ops.shape(inputs)[:-1], outputs.shape[-1]))


@keras.saving.register_keras_serializable("vatt_tf")
class VideoProjection(keras.layers.Layer):
    """The head's MLP for video: Dense -> BatchNorm -> ReLU -> Dense -> BatchNorm.

    Args:
        width: Width of both Dense layers.
        use_bias: Whether the first Dense has a bias (MMV: yes, VATT: no; the second never has).
    """

    def __init__(self, width: int, use_bias: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.width = width
        self.use_bias = use_bias
        self.supports_masking = True

        # === Layers ===
        policy = self.dtype_policy
        self.hidden = linear(width, policy, "hidden", use_bias)
        self.hidden_norm = batch_norm(policy, "hidden_norm")
        self.projection = linear(width, policy, "projection")
        self.norm = batch_norm(policy, "norm")

    def build(self, input_shape: Any) -> None:
        hidden_shape = (None, self.width)
        self.hidden.build(input_shape)
        self.hidden_norm.build(hidden_shape)
        self.projection.build(hidden_shape)
        self.norm.build(hidden_shape)

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        how = {"training": training, "mask": _row_mask(mask)}
        hidden = self.hidden_norm(self.hidden(_rows(inputs)), **how)
        outputs = self.norm(self.projection(ops.relu(hidden)), **how)
        return _unflatten(outputs, inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width, "use_bias": self.use_bias}


@keras.saving.register_keras_serializable("vatt_tf")
class ReluProjection(keras.layers.Layer):
    """ReLU -> Dense -> BatchNorm: from va to vt, and each branch of VATT's shared space.

    Args:
        width: Width of the space.
        use_bias: Whether the Dense has a bias (MMV: yes, VATT: no).
    """

    def __init__(self, width: int, use_bias: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.width = width
        self.use_bias = use_bias
        self.supports_masking = True

        # === Layers ===
        self.projection = linear(width, self.dtype_policy, "projection", use_bias)
        self.norm = batch_norm(self.dtype_policy, "norm")

    def build(self, input_shape: Any) -> None:
        self.projection.build(input_shape)
        self.norm.build((None, self.width))

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        how = {"training": training, "mask": _row_mask(mask)}
        outputs = self.norm(self.projection(ops.relu(_rows(inputs))), **how)
        return _unflatten(outputs, inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width, "use_bias": self.use_bias}


class CommonSpace(keras.layers.Layer):
    """Base of the heads; a kind of head is one that ``HEADS.register`` has named.

    Attributes:
        options: Its options of ``common_space`` with their defaults, which are the arguments of its
            constructor.

    Call arguments:
        features: Dict with any of ``video`` [B, d], ``audio`` [B, d], ``text`` [B, P, d] or [B, d];
            a head maps the modalities that are there.
        training: Whether BatchNorm uses (and records) the statistics of the batch.
        masks: For ``common_space.masked_statistics``: dict of [B], of texts [B, P], 1 for the rows
            that count in these statistics; None: all do.

    Returns:
        Dict from space (``va``, ``vt`` or ``vat``) to a dict from modality to its embedding, which
        is NOT normalised; the losses and the retrieval normalise.
    """

    options: ClassVar[dict[str, int]]

    def branches(self) -> dict[str, tuple[keras.layers.Layer, ...]]:
        """The layers that read the features of each modality."""
        raise NotImplementedError

    @classmethod
    def flops(cls, config: HeadConfig, video: int, audio: int, texts: int) -> int:
        """FLOPs of one clip.

        Args:
            config: The head's configuration.
            video: Width of the video features; 0 without such a tower.
            audio: Width of the audio features; 0 without such a tower.
            texts: Width of the text features times the captions of a clip.
        """
        raise NotImplementedError

    def build(self, features_shape: Mapping[str, Any]) -> None:
        """Builds the branches of the modalities that are there; the model has no others."""
        for modality, layers in self.branches().items():
            for layer in layers if modality in features_shape else ():
                layer.build(features_shape[modality])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **{name: getattr(self, name) for name in self.options}}


@HEADS.register("fac")
@keras.saving.register_keras_serializable("vatt_tf")
class FACHead(CommonSpace):
    """Fine-and-coarse spaces (docs/reference.md, Common-space heads).

    video -> va by :class:`VideoProjection`, audio -> va by one Dense with bias; va of the video ->
    vt by :class:`ReluProjection` (on the un-normalised va), text -> vt by one Dense with bias. The
    paper puts a BatchNorm behind every linear layer; the released code only on the video side.

    Args:
        va_dim: Width of the fine video-audio space.
        vt_dim: Width of the coarse video-text space.
    """

    options: ClassVar = {"va_dim": 512, "vt_dim": 256}

    def __init__(self, va_dim: int = 512, vt_dim: int = 256, **kwargs: Any) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.va_dim = va_dim
        self.vt_dim = vt_dim

        # === Layers ===
        policy = self.dtype_policy
        self.video_to_va = VideoProjection(va_dim, dtype=policy, name="video_to_va")
        self.audio_to_va = linear(va_dim, policy, "audio_to_va", use_bias=True)
        self.va_to_vt = ReluProjection(vt_dim, dtype=policy, name="va_to_vt")
        self.text_to_vt = linear(vt_dim, policy, "text_to_vt", use_bias=True)

    def branches(self) -> dict[str, tuple[keras.layers.Layer, ...]]:
        return {
            "video": (self.video_to_va,),
            "audio": (self.audio_to_va,),
            "text": (self.text_to_vt,),
        }

    @classmethod
    def flops(cls, config: HeadConfig, video: int, audio: int, texts: int) -> int:
        va, vt = config.widths.values()
        return 2 * (va * (video + va + audio) + va * vt + vt * texts)

    def build(self, features_shape: Mapping[str, Any]) -> None:
        super().build(features_shape)
        self.va_to_vt.build((None, self.va_dim))

    def call(
        self, features: Mapping[str, Any], training: bool = False, masks: Any = None
    ) -> dict[str, Any]:
        spaces: dict[str, Any] = {"va": {}, "vt": {}}
        how = {"training": training, "mask": (masks or {}).get("video")}
        if "video" in features:
            spaces["va"]["video"] = self.video_to_va(features["video"], **how)
            spaces["vt"]["video"] = self.va_to_vt(spaces["va"]["video"], **how)
        if "audio" in features:
            spaces["va"]["audio"] = self.audio_to_va(features["audio"])
        if "text" in features:
            spaces["vt"]["text"] = self.text_to_vt(features["text"])
        return spaces

    def compute_output_shape(self, features_shape: Mapping[str, Any]) -> dict[str, Any]:
        return _two_space_shapes(features_shape, self.va_dim, self.vt_dim)


@HEADS.register("disjoint")
@keras.saving.register_keras_serializable("vatt_tf")
class DisjointHead(CommonSpace):
    """Two independent spaces: the video has its own projection into each.

    video -> va and video -> vt by one :class:`VideoProjection` each, audio -> va and text -> vt by
    one Dense with bias: the shapes of the FAC branches, without the path from va to vt.

    Args:
        va_dim: Width of the video-audio space.
        vt_dim: Width of the video-text space.

    Attributes:
        use_bias: Whether the first layers of the video projections have biases (MMV: yes).
    """

    options: ClassVar = {"va_dim": 512, "vt_dim": 256}
    use_bias = False

    def __init__(self, va_dim: int = 512, vt_dim: int = 256, **kwargs: Any) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.va_dim = va_dim
        self.vt_dim = vt_dim

        # === Layers ===
        policy = self.dtype_policy
        self.video_to_va = VideoProjection(va_dim, self.use_bias, dtype=policy, name="video_to_va")
        self.audio_to_va = linear(va_dim, policy, "audio_to_va", use_bias=True)
        self.video_to_vt = VideoProjection(vt_dim, self.use_bias, dtype=policy, name="video_to_vt")
        self.text_to_vt = linear(vt_dim, policy, "text_to_vt", use_bias=True)

    def branches(self) -> dict[str, tuple[keras.layers.Layer, ...]]:
        return {
            "video": (self.video_to_va, self.video_to_vt),
            "audio": (self.audio_to_va,),
            "text": (self.text_to_vt,),
        }

    @classmethod
    def flops(cls, config: HeadConfig, video: int, audio: int, texts: int) -> int:
        va, vt = config.widths.values()
        return 2 * (va * (video + va + audio) + vt * (video + vt) + vt * texts)

    def call(
        self, features: Mapping[str, Any], training: bool = False, masks: Any = None
    ) -> dict[str, Any]:
        spaces: dict[str, Any] = {"va": {}, "vt": {}}
        how = {"training": training, "mask": (masks or {}).get("video")}
        if "video" in features:
            spaces["va"]["video"] = self.video_to_va(features["video"], **how)
            spaces["vt"]["video"] = self.video_to_vt(features["video"], **how)
        if "audio" in features:
            spaces["va"]["audio"] = self.audio_to_va(features["audio"])
        if "text" in features:
            spaces["vt"]["text"] = self.text_to_vt(features["text"])
        return spaces

    def compute_output_shape(self, features_shape: Mapping[str, Any]) -> dict[str, Any]:
        return _two_space_shapes(features_shape, self.va_dim, self.vt_dim)


class OneSpaceHead(CommonSpace):
    """Base of heads with one space, ``vat``, and a branch ``<modality>_to_vat`` per modality.

    Args:
        vat_dim: Width of the space ``vat``.
    """

    options: ClassVar = {"vat_dim": 512}

    def __init__(self, vat_dim: int = 512, **kwargs: Any) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.vat_dim = vat_dim

        # === Layers ===
        self.video_to_vat = self._branch("video_to_vat")
        self.audio_to_vat = self._branch("audio_to_vat")
        self.text_to_vat = self._branch("text_to_vat")

    def _branch(self, name: str) -> keras.layers.Layer:
        """Makes the layer of that name."""
        raise NotImplementedError

    def branches(self) -> dict[str, tuple[keras.layers.Layer, ...]]:
        return {
            "video": (self.video_to_vat,),
            "audio": (self.audio_to_vat,),
            "text": (self.text_to_vat,),
        }

    @classmethod
    def flops(cls, config: HeadConfig, video: int, audio: int, texts: int) -> int:
        (vat,) = config.widths.values()
        return 2 * vat * (video + audio + texts)

    def call(
        self, features: Mapping[str, Any], training: bool = False, masks: Any = None
    ) -> dict[str, Any]:
        vat: dict[str, Any] = {}
        for modality, (branch,) in self.branches().items():
            mask = (masks or {}).get(modality)
            if modality in features:
                one = isinstance(branch, keras.layers.Dense)
                how = {} if one else {"training": training, "mask": mask}
                vat[modality] = branch(features[modality], **how)
        return {"vat": vat}

    def compute_output_shape(self, features_shape: Mapping[str, Any]) -> dict[str, Any]:
        return {"vat": {name: (*one[:-1], self.vat_dim) for name, one in features_shape.items()}}


@HEADS.register("shared")
@keras.saving.register_keras_serializable("vatt_tf")
class SharedHead(OneSpaceHead):
    """One space for all modalities: ``mlp_joint`` of the released code.

    Source: docs/reference.md, Common-space heads.

    Every modality has its own :class:`ReluProjection`.

    Args:
        vat_dim: Width of the space ``vat``.
    """

    def _branch(self, name: str) -> keras.layers.Layer:
        return ReluProjection(self.vat_dim, dtype=self.dtype_policy, name=name)


def _two_space_shapes(shape: Mapping[str, Any], va_dim: int, vt_dim: int) -> dict[str, Any]:
    widths = {"va": (va_dim, ("video", "audio")), "vt": (vt_dim, ("video", "text"))}
    return {
        space: {name: (*shape[name][:-1], width) for name in names if name in shape}
        for space, (width, names) in widths.items()
    }
