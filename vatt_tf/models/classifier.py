"""A tower with a classification head: what fine-tuning makes of a pre-trained tower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from vatt_tf.heads.classification import ClassificationHead
from vatt_tf.models.base import ConfiguredModel
from vatt_tf.models.config.classifier import ClassifierConfig
from vatt_tf.models.config.multimodal import MultimodalConfig
from vatt_tf.models.features import pooled_features
from vatt_tf.models.multimodal import MultimodalClassifier


@keras.saving.register_keras_serializable("vatt_tf")
class Classifier(ConfiguredModel):
    """Classes of a video clip, an image or a sound (docs/reference.md, Fine-tuning).

    Args:
        config: The model's configuration.
        dtype: Dtype policy of the tower; Keras's global policy by default. The head is float32.

    Call arguments:
        inputs: Dict that has the modality: ``video`` (uint8, or float in [-1, 1], [B, T, H, W, 3])
            or ``audio`` ([B, samples, 1] or [B, frames, mel, 1]).
        training: Switches dropout and DropToken on.

    Returns:
        ``logits`` and ``probabilities``, float32 [B, classes].
    """

    config_class = ClassifierConfig

    def __init__(self, config: ClassifierConfig, name: str = "classifier", **kwargs: Any) -> None:
        super().__init__(config, name=name, **kwargs)
        self.tower = config.tower.build(dtype=self.dtype_policy, name=config.modality)
        self.head = ClassificationHead(
            config.num_classes,
            config.multi_label,
            config.dropout_rate,
            dtype="float32",  # Softmax and cross entropy need it.
            name="head",
        )

    @property
    def towers(self) -> dict[str, keras.layers.Layer]:
        """The encoder by its modality."""
        return {self.config.modality: self.tower}

    def build(self, input_shape: Any = None) -> None:
        """Makes all variables for the configured input size; ``input_shape`` is not read."""
        self.tower.build((None, *self.config.tower.input_shape))
        self.head.build((None, self.tower.output_dim))

    def encode(self, inputs: Mapping[str, Any], training: bool = False) -> Any:
        """Pooled features [B, d]."""
        return pooled_features(self.tower, inputs[self.config.modality], training)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        return self.head(self.encode(inputs, training=training), training=training)


def build_classifier(
    config: ClassifierConfig | MultimodalConfig, dtype: Any = None
) -> Classifier | MultimodalClassifier:
    """Makes a classifier of one or of several modalities with all its variables.

    Args:
        config: The model's configuration.
        dtype: Dtype policy of the towers, e.g. ``"mixed_bfloat16"``; Keras's global one by default.
    """
    model: Classifier | MultimodalClassifier
    if isinstance(config, MultimodalConfig):
        model = MultimodalClassifier(config, dtype=dtype)
    else:
        model = Classifier(config, dtype=dtype)
    model.build()
    return model
