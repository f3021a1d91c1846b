"""The configuration of a fine-tuning run."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import gin

from vatt_tf import paths
from vatt_tf.data.input.pipeline import TRAINING_SPLITS
from vatt_tf.data.shards.labels import labels_of, read_labels
from vatt_tf.errors import UserError, is_number
from vatt_tf.models.config.settings import SETTINGS
from vatt_tf.training.tasks.config import RunConfig


@gin.configurable("finetune")
@dataclasses.dataclass(frozen=True)
class FinetuneConfig(RunConfig):
    """A fine-tuning run (docs/reference.md, Fine-tuning).

    See :class:`vatt_tf.training.tasks.config.RunConfig` for the rest.

    ``initial_weights`` is a run directory of pre-training, converted weights, or another
    classifier; a dict from modality to folder takes each tower from its own. Only the gradients
    of the towers are clipped, as in the released code.

    Attributes:
        labels: File with one class per line; ``None`` for the classes of the first source.
        label_smoothing: Fraction of a label that is spread over all classes (paper: 0.1;
            AudioSet 0).
        mixup_alpha: Mixup of clips and labels with weights from Beta(alpha, alpha) (paper,
            AudioSet: 5); 0 for none.
        class_balance: Weigh clips by the rarity of their classes in the batch (paper, AudioSet).
        freeze_steps: First steps, in which only the head learns; below 1 a fraction of the run.
        layer_decay: Factor on the learning rate from a layer to the one below it; 1 for none
            (paper).
        patience: Evaluations without a better one after which the run stops; 0 for never.
        eval_windows: Windows averaged per clip in the evaluations of the run.
    """

    name: ClassVar[str] = "finetune"

    initial_weights: Any = None
    labels: str | None = None
    label_smoothing: float = 0.0
    mixup_alpha: float = 0.0
    class_balance: bool = False
    freeze_steps: int | float = 0
    layer_decay: float = 1.0
    patience: int = 0
    eval_windows: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        paths.expand_fields(self, "labels")
        if not isinstance(self.model, SETTINGS):
            self.fail("model", "@classifier() or @multimodal_classifier()")
        if not is_number(self.label_smoothing) or not 0 <= self.label_smoothing < 1:
            self.fail("label_smoothing", "a number in [0, 1)")
        if not is_number(self.mixup_alpha) or self.mixup_alpha < 0:
            self.fail("mixup_alpha", "0 or a number above it")
        if not is_number(self.layer_decay) or not 0 < self.layer_decay <= 1:
            self.fail("layer_decay", "a number above 0 and at most 1")
        if not is_number(self.freeze_steps) or self.freeze_steps < 0:
            self.fail("freeze_steps", "steps, or a share of the run below 1")
        self.check_whole("patience", 0)
        self.check_whole("eval_windows", 1)
        if self.label_smoothing and self.model.multi_label:
            raise UserError(
                f"finetune.label_smoothing={self.label_smoothing} is for one class per clip, but "
                "classifier.multi_label is True; set it to 0"
            )
        if self.mixup_alpha and "text" in self.model.modalities:
            raise UserError(
                f"finetune.mixup_alpha={self.mixup_alpha}: words cannot be mixed; set it to 0 or "
                "leave text out of multimodal_classifier.modalities"
            )
        if self.patience and not self.evaluate_every:
            raise UserError(
                f"finetune.patience={self.patience} counts evaluations: set finetune.evaluate_every"
            )

    @property
    def model_config(self) -> Any:
        """The classifier: its tower from the initial weights, its classes from the data."""
        count = self.model.num_classes
        return self.model.resolve(
            len(self.label_names()) if count is None else count, self.initial_weights
        )

    def label_names(self) -> tuple[str, ...]:
        """The classes in the order of the model's outputs."""
        return read_labels(self.labels) if self.labels else labels_of(self.data[0], TRAINING_SPLITS)

    @property
    def frozen(self) -> int:
        """``freeze_steps`` in steps."""
        share = 0 < self.freeze_steps < 1
        return round(self.freeze_steps * (self.steps if share else 1))
