"""Configuration of a classifier that fuses several towers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from vatt_tf.data.schema import MODALITIES, ClipSpec
from vatt_tf.encoders.tower import TowerConfig, check_tower, tower_from_dict
from vatt_tf.errors import UserError
from vatt_tf.fields import (
    AsDict,
    check_choice,
    check_flag,
    check_positive,
    check_rate,
    fail,
    made_from,
)
from vatt_tf.heads.fusion import FUSIONS, MOST_PRODUCTS

_NAME = "multimodal_classifier"


@dataclasses.dataclass(frozen=True)
class MultimodalConfig(AsDict):
    """Two or three towers, their fusion and a classification head.

    Attributes:
        num_classes: Number of classes.
        video: The video tower, or None.
        audio: The audio tower, or None.
        text: The text tower, or None.
        fusion: ``"concatenation"`` of the features, ``"tensor"`` (their outer product),
            ``"compact_bilinear"`` (a random sketch of it) or ``"average"`` (of the logits of a head
            per modality).
        fusion_dim: Tensor: width to which each modality is projected first, None for its own.
            Compact bilinear: width of the sketch, None for 4096. The other fusions read none.
        multi_label: Whether a clip may have several labels: sigmoid instead of softmax.
        dropout_rate: Dropout in front of the head.
    """

    num_classes: int
    video: Any = None
    audio: Any = None
    text: Any = None
    fusion: str = "concatenation"
    fusion_dim: int | None = None
    multi_label: bool = False
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        for modality, tower in self.towers.items():
            check_tower(f"{_NAME}.{modality}", modality, tower)
        if len(self.towers) < 2:
            fail(f"{_NAME}.modalities", self.modalities, "two or three of video, audio and text")
        check_positive(f"{_NAME}.num_classes", self.num_classes)
        check_flag(f"{_NAME}.multi_label", self.multi_label)
        check_rate(f"{_NAME}.dropout_rate", self.dropout_rate)
        check_choice(f"{_NAME}.fusion", self.fusion, FUSIONS)
        if self.fusion_dim is not None:
            check_positive(f"{_NAME}.fusion_dim", self.fusion_dim)
            if self.fusion not in ("tensor", "compact_bilinear"):
                fail(f"{_NAME}.fusion_dim", self.fusion_dim, f"None: {self.fusion} has no width")
        if self.fusion == "tensor":
            self._check_products()

    def _check_products(self) -> None:
        widths = [self.fusion_dim or tower.output_dim for tower in self.towers.values()]
        products = math.prod(width + 1 for width in widths)
        if products > MOST_PRODUCTS:
            raise UserError(
                f"{_NAME}.fusion = 'tensor': features of {', '.join(map(str, widths))} numbers "
                f"have {products:,} products, at most {MOST_PRODUCTS:,} are allowed; project them "
                f"with {_NAME}.fusion_dim (e.g. 32), or take 'compact_bilinear'"
            )

    @property
    def towers(self) -> dict[str, TowerConfig]:
        """Configurations of the towers by modality."""
        parts = {modality: getattr(self, modality) for modality in MODALITIES}
        return {modality: tower for modality, tower in parts.items() if tower is not None}

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model reads."""
        return tuple(self.towers)

    def clip(self, frame_rate: float = 10.0, sample_rate: int = 48_000, texts: int = 1) -> ClipSpec:
        """Shape of the clips that the towers read; what none reads is left out."""
        fields: dict[str, Any] = {"frames": 0, "audio": "none", "texts": texts}
        for tower in self.towers.values():
            fields |= tower.clip_fields
        return ClipSpec(frame_rate=frame_rate, sample_rate=sample_rate, **fields)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MultimodalConfig:
        """Inverse of :meth:`to_dict`.

        Raises:
            UserError: When a key is unknown or missing, or a value is wrong.
        """
        towers = {
            modality: tower_from_dict(modality, values[modality], modality)
            for modality in MODALITIES
            if values.get(modality) is not None
        }
        return made_from(cls, {**values, **towers}, "model")
