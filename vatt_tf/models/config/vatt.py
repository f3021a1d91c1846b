"""Configuration of a VATT model: frozen dataclasses that gin fills and that round-trip as JSON.

Every class checks its values when it is made, so that a wrong binding is reported under its gin
name (``video_tower.image_size``) before anything is built.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from vatt_tf.data.schema import MODALITIES, ClipSpec
from vatt_tf.encoders.agnostic import AgnosticTextConfig, AgnosticTowerConfig
from vatt_tf.encoders.audio import AudioTowerConfig
from vatt_tf.encoders.sizes import SIZE_FIELDS
from vatt_tf.encoders.text import TextTowerConfig
from vatt_tf.encoders.tower import TowerConfig, check_tower, tower_from_dict
from vatt_tf.encoders.video import VideoTowerConfig
from vatt_tf.errors import UserError, value_text
from vatt_tf.fields import (
    AsDict,
    added_later,
    check_choice,
    fail,
    made_from,
    set_field,
)
from vatt_tf.heads.common_space import OneSpaceHead
from vatt_tf.heads.config import HEADS, HeadConfig, head_from_dict

# Fields of the towers that the agnostic model takes from `agnostic_tower` or fixes.
_SPECIFIC_ONLY = (
    "size",
    *SIZE_FIELDS,
    "dropout_rate",
    "position_dropout_rate",
    "pre_projection",
    "post_projection",
    "use_bias",
    "kind",
    "positions",
    "max_distance",
)


# Modalities of which a tower can become a classifier.
CLASSIFIED = ("video", "audio")


@gin.configurable("vatt")
@dataclasses.dataclass(frozen=True)
class VattConfig(AsDict):
    """A whole model. In gin, ``vatt()`` takes each part from that part's own bindings.

    Attributes:
        kind: ``"specific"`` (a tower per modality) or ``"agnostic"`` (one Transformer for all).
        modalities: Which towers there are: all three, or two of them.
        video: The video tower: ``@video_tower()``, ``@s3d_tower()`` or ``@tsm_resnet_tower()``.
        audio: The audio tower: ``@audio_tower()`` or ``@audio_resnet_tower()``.
        text: The text tower.
        agnostic: The shared Transformer; read when ``kind`` is agnostic, and then the towers' own
            sizes and dropout rates must be left alone.
        head: The common spaces.
    """

    kind: str = "specific"
    modalities: tuple[str, ...] = added_later(MODALITIES)
    video: Any = dataclasses.field(default_factory=lambda: VideoTowerConfig())
    audio: Any = dataclasses.field(default_factory=lambda: AudioTowerConfig())
    text: Any = dataclasses.field(default_factory=lambda: TextTowerConfig())
    agnostic: AgnosticTowerConfig = dataclasses.field(default_factory=lambda: AgnosticTowerConfig())
    head: HeadConfig = dataclasses.field(default_factory=lambda: HeadConfig())

    def __post_init__(self) -> None:
        check_choice("vatt.kind", self.kind, ("specific", "agnostic"))
        self._check_modalities()
        for modality in MODALITIES:
            check_tower(f"vatt.{modality}", modality, getattr(self, modality))
        for field, expected in _PARTS.items():
            if not isinstance(getattr(self, field), expected):
                fail(f"vatt.{field}", getattr(self, field), f"a {expected.__name__}")
        if self.kind == "agnostic":
            for part in (self.video, self.audio, self.text):
                _check_left_alone(part)

    def _check_modalities(self) -> None:
        given = self.modalities
        if (
            isinstance(given, str)
            or not isinstance(given, Sequence)
            or not set(given) <= set(MODALITIES)
            or not 2 <= len(set(given)) == len(given)
        ):
            fail("vatt.modalities", given, "two or three of 'video', 'audio', 'text'")
        if "video" not in given:
            fail("vatt.modalities", given, "video among them: it is what the others are tied to")
        set_field(self, "modalities", tuple(name for name in MODALITIES if name in given))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VattConfig:
        """Inverse of :meth:`to_dict`.

        Raises:
            UserError: When a key is unknown or missing, or a value is wrong.
        """
        agnostic = made_from(AgnosticTowerConfig, values.get("agnostic"), "agnostic")
        parts = {"agnostic": agnostic, "head": head_from_dict(values.get("head"))}
        for modality in MODALITIES:
            parts[modality] = tower_from_dict(modality, values.get(modality), modality)
        return made_from(cls, {**values, **parts}, "model")

    def clip(self, frame_rate: float = 10.0, sample_rate: int = 48_000, texts: int = 5) -> ClipSpec:
        """Shape of the clips that the towers read.

        Args:
            frame_rate: Frames per second (paper: 10).
            sample_rate: Audio samples per second (paper: 48,000).
            texts: Candidate captions of a clip (P of MIL-NCE; paper: 5).
        """
        fields: dict[str, Any] = {"audio": "none"} if "audio" not in self.modalities else {}
        for modality in self.modalities:
            fields |= getattr(self, modality).clip_fields
        return ClipSpec(frame_rate=frame_rate, sample_rate=sample_rate, texts=texts, **fields)

    def with_modalities(self, modalities: Sequence[str]) -> VattConfig:
        """The same model with the towers of fewer modalities.

        Of two spaces the one that is left is made by ``mmv_shared``, whose branches are those that
        the other heads have into it: their second space would hold videos alone, and nothing would
        train it.

        Args:
            modalities: Two of the model's.
        """
        head = self.head
        if len(modalities) == 2 and not issubclass(HEADS[head.kind], OneSpaceHead):
            width = head.va_dim if "audio" in modalities else head.vt_dim
            head = dataclasses.replace(head, kind="mmv_shared", vat_dim=width)
        return dataclasses.replace(self, modalities=tuple(modalities), head=head)

    @property
    def towers(self) -> dict[str, TowerConfig]:
        """Configurations of the towers by modality, each as a model of its own."""
        return {modality: self.tower(modality) for modality in self.modalities}

    def tower(self, modality: str) -> TowerConfig:
        """One of the towers as a model of its own, e.g. to fine-tune it.

        In the agnostic model that is the shared Transformer between the modality's own
        projections (docs/reference.md, Agnostic model).

        Raises:
            UserError: For another modality.
        """
        check_choice("modality", modality, self.modalities)
        tower = getattr(self, modality)
        if self.kind == "specific":
            return tower
        shared = dataclasses.asdict(self.agnostic)
        shared |= dataclasses.asdict(self.agnostic.transformer_size())
        if modality == "text":
            own = ("vocab_size", "embedding_dim", "max_tokens", "trainable_words")
            return AgnosticTextConfig(**shared, **{name: getattr(tower, name) for name in own})
        bias = {"use_bias": True} if modality == "audio" else {}
        return dataclasses.replace(tower, **shared, **bias, pre_projection=True)


_PARTS = {"agnostic": AgnosticTowerConfig, "head": HeadConfig}


def _check_left_alone(part: Any) -> None:
    """Reports a tower or a binding that the agnostic model would not read."""
    if not isinstance(part, (VideoTowerConfig, AudioTowerConfig, TextTowerConfig)):
        raise UserError(
            f"vatt: @{part.name}() has no Transformer to share, but vatt.kind is "
            "'agnostic'; remove it or set vatt.kind = 'specific'"
        )
    for field in dataclasses.fields(part):
        if field.name in _SPECIFIC_ONLY and getattr(part, field.name) != field.default:
            name = f"{part.name}.{field.name}"
            value = value_text(getattr(part, field.name))
            raise UserError(
                f"{name} = {value}: not read when vatt.kind is 'agnostic'; "
                "remove it (sizes and dropout of the shared Transformer are set by agnostic_tower)"
            )
