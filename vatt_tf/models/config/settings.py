"""What a run file says of a classifier; data and initial weights say the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import gin

from vatt_tf.data.schema import MODALITIES
from vatt_tf.encoders.tower import TOWERS, TowerConfig, check_tower
from vatt_tf.errors import UserError
from vatt_tf.fields import check_choice, check_positive, fail, set_field
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.config.multimodal import MultimodalConfig
from vatt_tf.models.config.vatt import CLASSIFIED
from vatt_tf.models.initial import InitialWeights, folder_of, rebound, stored_tower
from vatt_tf.wording import count_of


class _Settings:
    """What both kinds have in common."""

    num_classes: int | None

    def _classes(self, name: str, in_data: int | None) -> int:
        """The number of classes, from the run file or from the data."""
        if self.num_classes is None and in_data is None:
            fail(f"{name}.num_classes", None, "a number: the data do not name their classes")
        if self.num_classes is not None and in_data is not None and self.num_classes != in_data:
            fail(
                f"{name}.num_classes",
                self.num_classes,
                f"the {count_of(in_data, 'class', 'classes')} of the data; leave it out to take "
                "them",
            )
        return self.num_classes or in_data  # type: ignore[return-value]


@gin.configurable("classifier")
@dataclasses.dataclass(frozen=True)
class ClassifierSettings(_Settings):
    """A classifier of one modality.

    Its tower comes from the initial weights, or from ``tower`` when it is trained from scratch.

    Attributes:
        modality: ``"video"`` (images are clips that stand still) or ``"audio"``.
        tower: The tower of a run from scratch, e.g. ``@s3d_tower()``; None for a Transformer with
            the bindings of ``video_tower`` or ``audio_tower``.
        num_classes: Number of classes; None for the number of labels of the data.
        multi_label: Whether a clip may have several labels: sigmoid instead of softmax.
        dropout_rate: Dropout in front of the head (released code: video 0.5, audio 0, agnostic
            0.2).
    """

    modality: str = "video"
    tower: Any = None
    num_classes: int | None = None
    multi_label: bool = False
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        check_choice("classifier.modality", self.modality, CLASSIFIED)
        if self.tower is not None:
            check_tower("classifier.tower", self.modality, self.tower)
        if self.num_classes is not None:
            check_positive("classifier.num_classes", self.num_classes)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model reads."""
        return (self.modality,)

    def resolve(
        self, num_classes: int | None, initial_weights: InitialWeights | None = None
    ) -> ClassifierConfig:
        """The configuration of the model.

        Args:
            num_classes: Number of labels of the data; None where they are not known.
            initial_weights: Folder that the tower starts from (or a folder per modality); only its
                ``model.json`` is read. None: from scratch.

        Raises:
            UserError: If the numbers of classes differ, or the folder has no such tower.
        """
        tower: Any = tower_config(self.modality, initial_weights, self.tower)
        return ClassifierConfig(
            modality=self.modality,
            tower=tower,
            num_classes=self._classes("classifier", num_classes),
            multi_label=self.multi_label,
            dropout_rate=self.dropout_rate,
        )


@gin.configurable("multimodal_classifier")
@dataclasses.dataclass(frozen=True)
class MultimodalSettings(_Settings):
    """A classifier that fuses several modalities.

    Its towers come from the initial weights, or from the bindings of ``video_tower``,
    ``audio_tower`` and ``text_tower``. Each has its own weights, also where they start from the
    one Transformer of a modality-agnostic model.

    Attributes:
        modalities: Two or three of ``"video"``, ``"audio"`` and ``"text"``.
        fusion: ``"concatenation"`` of the features, ``"tensor"`` (their outer product),
            ``"compact_bilinear"`` (a random sketch of it) or ``"average"`` (of the logits of a head
            per modality).
        fusion_dim: Tensor: width to which each modality is projected first, None for its own.
            Compact bilinear: width of the sketch, None for 4096. The other fusions read none.
        num_classes: Number of classes; None for the number of labels of the data.
        multi_label: Whether a clip may have several labels: sigmoid instead of softmax.
        dropout_rate: Dropout in front of the head.
    """

    modalities: Sequence[str] = ("video", "audio")
    fusion: str = "concatenation"
    fusion_dim: int | None = None
    num_classes: int | None = None
    multi_label: bool = False
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        name = "multimodal_classifier.modalities"
        given = self.modalities
        if isinstance(given, str) or not isinstance(given, Sequence) or len(set(given)) < 2:
            fail(name, given, "two or three of 'video', 'audio', 'text'")
        for modality in given:
            check_choice(name, modality, MODALITIES)
        set_field(self, "modalities", tuple(name for name in MODALITIES if name in given))
        if self.num_classes is not None:
            check_positive("multimodal_classifier.num_classes", self.num_classes)

    def resolve(
        self, num_classes: int | None, initial_weights: InitialWeights | None = None
    ) -> MultimodalConfig:
        """The configuration of the model; see :meth:`ClassifierSettings.resolve`."""
        towers: dict[str, Any] = {
            modality: tower_config(modality, initial_weights) for modality in self.modalities
        }
        return MultimodalConfig(
            num_classes=self._classes("multimodal_classifier", num_classes),
            fusion=self.fusion,
            fusion_dim=self.fusion_dim,
            multi_label=self.multi_label,
            dropout_rate=self.dropout_rate,
            **towers,
        )


SETTINGS = (ClassifierSettings, MultimodalSettings)


def tower_config(
    modality: str, initial_weights: InitialWeights | None, from_scratch: TowerConfig | None = None
) -> TowerConfig:
    """Configuration of a tower: that of its initial weights with what the run file changes.

    Args:
        modality: ``"video"``, ``"audio"`` or ``"text"``.
        initial_weights: As in :meth:`ClassifierSettings.resolve`.
        from_scratch: The tower where there are no initial weights; None for a Transformer.

    Raises:
        UserError: If both say what the tower is.
    """
    folder = folder_of(initial_weights, modality)
    if folder is None:
        return from_scratch or TOWERS[f"{modality}_tower"]()
    if from_scratch is not None:
        raise UserError(
            f"classifier.tower is set, but the {modality} tower comes from {folder}; remove one"
        )
    return rebound(stored_tower(folder, modality))
