"""Configuration of a classifier: one tower and its classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vatt_tf.data.schema import ClipSpec
from vatt_tf.encoders.tower import TowerConfig, check_tower, tower_from_dict
from vatt_tf.fields import (
    AsDict,
    check_choice,
    check_flag,
    check_positive,
    check_rate,
    made_from,
)
from vatt_tf.models.config.vatt import CLASSIFIED


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(AsDict):
    """One tower and a classification head (docs/reference.md, Fine-tuning).

    Attributes:
        modality: ``"video"`` (images are clips that stand still) or ``"audio"``.
        tower: The tower.
        num_classes: Number of classes.
        multi_label: Whether a clip may have several labels: sigmoid instead of softmax.
        dropout_rate: Dropout in front of the head (released code: video 0.5, audio 0, agnostic
            0.2).
    """

    modality: str
    tower: TowerConfig
    num_classes: int
    multi_label: bool = False
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        check_choice("classifier.modality", self.modality, CLASSIFIED)
        check_tower("classifier.tower", self.modality, self.tower)
        check_positive("classifier.num_classes", self.num_classes)
        check_flag("classifier.multi_label", self.multi_label)
        check_rate("classifier.dropout_rate", self.dropout_rate)

    @property
    def towers(self) -> dict[str, TowerConfig]:
        """Configuration of the tower by its modality."""
        return {self.modality: self.tower}

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model reads."""
        return (self.modality,)

    def clip(self, frame_rate: float = 10.0, sample_rate: int = 48_000) -> ClipSpec:
        """Shape of the clips that the tower reads; the other modality is not read."""
        unread = {"frames": 0} if self.modality == "audio" else {"audio": "none"}
        fields = {**unread, **self.tower.clip_fields}
        return ClipSpec(frame_rate=frame_rate, sample_rate=sample_rate, **fields)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassifierConfig:
        """Inverse of :meth:`to_dict`.

        Raises:
            UserError: When a key is unknown or missing, or a value is wrong.
        """
        check_choice("classifier.modality", values.get("modality"), CLASSIFIED)
        tower = tower_from_dict(values["modality"], values.get("tower"), "tower")
        return made_from(cls, {**values, "tower": tower}, "model")
