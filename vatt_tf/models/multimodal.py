"""A classifier that fuses what several towers see, hear and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from vatt_tf.errors import UserError
from vatt_tf.heads.classification import ClassificationHead
from vatt_tf.heads.fusion import AveragedHeads, CompactBilinear, Concatenation, TensorFusion
from vatt_tf.models.base import ConfiguredModel
from vatt_tf.models.config.multimodal import MultimodalConfig
from vatt_tf.models.features import pooled_features


@keras.saving.register_keras_serializable("vatt_tf")
class MultimodalClassifier(ConfiguredModel):
    """Classes of clips that have several modalities.

    Each tower has its own weights; those of a modality-agnostic model start as copies of the shared
    Transformer and then go their own ways.

    Args:
        config: The model's configuration.
        dtype: Dtype policy of the towers; Keras's global policy by default. Fusion and head are
            float32.

    Call arguments:
        inputs: Dict that has the modalities: ``video`` (uint8, or float in [-1, 1], [B, T, H, W,
            3]), ``audio`` ([B, samples, 1] or [B, frames, mel, 1]), ``text`` (integer [B, L], or
            [B, P, L]: the features of the P texts are averaged). ``<modality>_mask`` ([B], of texts
            also [B, P]) is 0 where a row lacks the modality; without it every row has it. A text
            without a word is lacking in any case.
        training: Switches dropout and DropToken on.

    Returns:
        ``logits`` and ``probabilities``, float32 [B, classes].
    """

    config_class = MultimodalConfig

    def __init__(
        self, config: MultimodalConfig, name: str = "multimodal_classifier", **kwargs: Any
    ) -> None:
        super().__init__(config, name=name, **kwargs)
        # Named attributes: TensorFlow checkpoints silently skip layers kept in dicts.
        for modality, tower in config.towers.items():
            encoder = tower.build(dtype=self.dtype_policy, name=modality)
            setattr(self, f"{modality}_tower", encoder)
        arguments = (config.num_classes, config.multi_label, config.dropout_rate)
        # Softmax and cross entropy need float32.
        if config.fusion == "average":
            self.fusion = None
            self.head = AveragedHeads(*arguments, dtype="float32", name="head")
        else:
            self.fusion = _fusion(config)
            self.head = ClassificationHead(*arguments, dtype="float32", name="head")

    @property
    def towers(self) -> dict[str, keras.layers.Layer]:
        """The encoders by modality."""
        return {name: getattr(self, f"{name}_tower") for name in self.config.modalities}

    @property
    def head_variables(self) -> list[keras.Variable]:
        """Trainable variables of fusion and head."""
        fusion = [] if self.fusion is None else self.fusion.trainable_variables
        return [*fusion, *self.head.trainable_variables]

    def build(self, input_shape: Any = None) -> None:
        """Makes all variables for the configured input sizes; ``input_shape`` is not read."""
        shape: Any = {}
        for modality, tower in self.towers.items():
            tower.build((None, *self.config.towers[modality].input_shape))
            shape[modality] = (None, tower.output_dim)
        if self.fusion is not None:
            self.fusion.build(shape)
            shape = self.fusion.compute_output_shape(shape)
        self.head.build(shape)

    def encode(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Pooled features by modality: [B, d]; [B, P, d] of texts [B, P, L].

        Raises:
            UserError: If a modality is not there.
        """
        missing = [name for name in self.config.modalities if name not in inputs]
        if missing:
            raise UserError(
                f"inputs: {', '.join(missing)} is missing, the model reads "
                f"{', '.join(self.config.modalities)}; give zeros and {missing[0]}_mask=0 for rows "
                "that lack it"
            )
        return {
            name: pooled_features(tower, inputs[name], training)
            for name, tower in self.towers.items()
        }

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        features, present = {}, {}
        for name, value in self.encode(inputs, training=training).items():
            value = ops.cast(value, "float32")
            mask = _mask(inputs, name, value)
            if len(value.shape) == 3:  # The mean over the texts that are there.
                count = ops.sum(mask, axis=1)
                value = ops.sum(value * mask[..., None], axis=1)
                value = value / ops.maximum(count, 1.0)[:, None]
                mask = ops.minimum(count, 1.0)
            features[name], present[name] = value * mask[:, None], mask
        if self.fusion is None:
            return self.head(features, present, training=training)
        return self.head(self.fusion(features), training=training)


def _mask(inputs: Mapping[str, Any], name: str, features: Any) -> Any:
    """float32 [B] (texts [B, P]): 1 where a row has the modality."""
    mask = ops.ones_like(features[..., 0])
    if name == "text":
        words = ops.not_equal(ops.convert_to_tensor(inputs[name]), 0)
        mask = ops.cast(ops.any(words, axis=-1), "float32")
    given = inputs.get(f"{name}_mask")
    if given is None:
        return mask
    given = ops.cast(given, "float32")
    return mask * (given[:, None] if len(given.shape) < len(mask.shape) else given)


def _fusion(config: MultimodalConfig) -> keras.layers.Layer:
    if config.fusion == "tensor":
        return TensorFusion(config.fusion_dim, dtype="float32", name="fusion")
    if config.fusion == "compact_bilinear":
        width = {} if config.fusion_dim is None else {"dim": config.fusion_dim}
        return CompactBilinear(**width, dtype="float32", name="fusion")
    return Concatenation(dtype="float32", name="fusion")
