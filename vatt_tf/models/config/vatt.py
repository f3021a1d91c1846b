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
from vatt_tf.errors import UserError, value_text
from vatt_tf.models.config.agnostic import AgnosticTextConfig, AgnosticTowerConfig
from vatt_tf.models.config.convolution import (
    AudioResNetTowerConfig,
    S3DTowerConfig,
    TSMResNetTowerConfig,
)
from vatt_tf.models.config.fields import (
    AsDict,
    added_later,
    check_choice,
    check_positive,
    fail,
    made_from,
    set_field,
)
from vatt_tf.models.config.sizes import SIZE_FIELDS
from vatt_tf.models.config.text import TextTowerConfig
from vatt_tf.models.config.transformer import AudioTowerConfig, VideoTowerConfig

ONE_SPACE_HEADS = ("shared", "mmv_shared", "linear")
HEADS = ("fac", "disjoint", "mmv_fac", "mmv_disjoint", *ONE_SPACE_HEADS)


@gin.configurable("common_space")
@dataclasses.dataclass(frozen=True)
class HeadConfig:
    """The head that maps features into the common spaces.

    Attributes:
        kind: ``"fac"`` (fine video-audio space, coarse video-text space reached through it),
            ``"shared"`` (one space) or ``"disjoint"`` (two independent spaces), as VATT has them;
            ``"mmv_fac"``, ``"mmv_shared"``, ``"mmv_disjoint"`` as MMV has them; ``"linear"`` (one
            layer per modality into one space, as MIL-NCE has it).
        va_dim: Width of the video-audio space (fac, disjoint).
        vt_dim: Width of the video-text space (fac, disjoint), in mmv_fac of the space of all three.
        vat_dim: Width of the one space (shared, mmv_shared, linear).
    """

    kind: str = "fac"
    va_dim: int = 512
    vt_dim: int = 256
    vat_dim: int = 512

    def __post_init__(self) -> None:
        check_choice("common_space.kind", self.kind, HEADS)
        for field in ("va_dim", "vt_dim", "vat_dim"):
            check_positive(f"common_space.{field}", getattr(self, field))


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


TowerConfig = (
    VideoTowerConfig
    | S3DTowerConfig
    | TSMResNetTowerConfig
    | AudioTowerConfig
    | AudioResNetTowerConfig
    | TextTowerConfig
    | AgnosticTextConfig
)
# Modalities of which a tower can become a classifier.
CLASSIFIED = ("video", "audio")
# Configurations by the modality that their tower reads; the first is the default.
TOWERS: dict[str, tuple[Any, ...]] = {
    "video": (VideoTowerConfig, S3DTowerConfig, TSMResNetTowerConfig),
    "audio": (AudioTowerConfig, AudioResNetTowerConfig),
    "text": (TextTowerConfig, AgnosticTextConfig),
}
GIN_NAMES = {
    VideoTowerConfig: "video_tower",
    S3DTowerConfig: "s3d_tower",
    TSMResNetTowerConfig: "tsm_resnet_tower",
    AudioTowerConfig: "audio_tower",
    AudioResNetTowerConfig: "audio_resnet_tower",
    TextTowerConfig: "text_tower",
    AgnosticTextConfig: "agnostic_text_tower",
}


def check_tower(name: str, modality: str, tower: Any) -> None:
    """Wants a configuration of a tower that reads the modality."""
    if not isinstance(tower, TOWERS[modality]):
        fail(name, tower, " or ".join(f"@{GIN_NAMES[kind]}()" for kind in TOWERS[modality]))


def tower_from_dict(modality: str, values: Any, where: str) -> Any:
    """Makes the configuration of a tower from its JSON form.

    Args:
        modality: What the tower reads.
        values: The JSON object.
        where: What to call it in messages.
    """
    default, *others = TOWERS[modality]
    if modality == "text":
        # The agnostic model's has the shared Transformer, hence no kind of its own.
        made = others[0] if isinstance(values, Mapping) and "kind" not in values else default
    else:
        kind = values.get("kind") if isinstance(values, Mapping) else None
        made = next((other for other in others if other.kind == kind), default)
    return made_from(made, values, where)


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
    video: VideoTowerConfig | S3DTowerConfig | TSMResNetTowerConfig = dataclasses.field(
        default_factory=lambda: VideoTowerConfig()
    )
    audio: AudioTowerConfig | AudioResNetTowerConfig = dataclasses.field(
        default_factory=lambda: AudioTowerConfig()
    )
    text: TextTowerConfig = dataclasses.field(default_factory=lambda: TextTowerConfig())
    agnostic: AgnosticTowerConfig = dataclasses.field(default_factory=lambda: AgnosticTowerConfig())
    head: HeadConfig = dataclasses.field(default_factory=lambda: HeadConfig())

    def __post_init__(self) -> None:
        check_choice("vatt.kind", self.kind, ("specific", "agnostic"))
        self._check_modalities()
        for modality in ("video", "audio"):
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
        parts = {field: made_from(part, values.get(field), field) for field, part in _PARTS.items()}
        for modality in ("video", "audio"):
            parts[modality] = tower_from_dict(modality, values.get(modality), modality)
        return made_from(cls, {**values, **parts}, "model")

    def clip(self, frame_rate: float = 10.0, sample_rate: int = 48_000, texts: int = 5) -> ClipSpec:
        """Shape of the clips that the towers read.

        Args:
            frame_rate: Frames per second (paper: 10).
            sample_rate: Audio samples per second (paper: 48,000).
            texts: Candidate captions of a clip (P of MIL-NCE; paper: 5).
        """
        spec = ClipSpec(
            frames=self.video.frames,
            height=self.video.image_size[0],
            width=self.video.image_size[1],
            frame_rate=frame_rate,
            sample_rate=sample_rate,
            texts=texts,
            tokens=self.text.max_tokens,
        )
        has_audio = "audio" in self.modalities
        sound = self.audio.clip_fields if has_audio else {"audio": "none"}
        return dataclasses.replace(spec, **sound)

    def with_modalities(self, modalities: Sequence[str]) -> VattConfig:
        """The same model with the towers of fewer modalities.

        Of two spaces the one that is left is made by ``mmv_shared``, whose branches are those that
        the other heads have into it: their second space would hold videos alone, and nothing would
        train it.

        Args:
            modalities: Two of the model's.
        """
        head = self.head
        if len(modalities) == 2 and head.kind not in ONE_SPACE_HEADS:
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


_PARTS = {"text": TextTowerConfig, "agnostic": AgnosticTowerConfig, "head": HeadConfig}


def _check_left_alone(part: Any) -> None:
    """Reports a tower or a binding that the agnostic model would not read."""
    if not isinstance(part, (VideoTowerConfig, AudioTowerConfig, TextTowerConfig)):
        raise UserError(
            f"vatt: @{GIN_NAMES[type(part)]}() has no Transformer to share, but vatt.kind is "
            "'agnostic'; remove it or set vatt.kind = 'specific'"
        )
    for field in dataclasses.fields(part):
        if field.name in _SPECIFIC_ONLY and getattr(part, field.name) != field.default:
            name = f"{GIN_NAMES[type(part)]}.{field.name}"
            value = value_text(getattr(part, field.name))
            raise UserError(
                f"{name} = {value}: not read when vatt.kind is 'agnostic'; "
                "remove it (sizes and dropout of the shared Transformer are set by agnostic_tower)"
            )
