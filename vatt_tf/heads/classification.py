"""The classification head of a fine-tuned tower."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.dropout import Dropout


@keras.saving.register_keras_serializable("vatt_tf")
class ClassificationHead(keras.layers.Layer):
    """Dropout and a linear layer on the AGG features (docs/reference.md, Fine-tuning).

    Args:
        num_classes: Number of classes.
        multi_label: Sigmoid instead of softmax; the biases then start at ``-log(classes - 1)``,
            where every class has the probability of one in ``classes``.
        dropout_rate: Dropout in front of the linear layer.

    Call arguments:
        features: [B, d].
        training: Switches dropout on.

    Returns:
        ``logits`` and ``probabilities``, [B, num_classes].
    """

    def __init__(
        self,
        num_classes: int,
        multi_label: bool = False,
        dropout_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

        # === Config ===
        self.num_classes = num_classes
        self.multi_label = multi_label
        self.dropout_rate = dropout_rate

        # === Layers ===
        policy = self.dtype_policy
        bias = -math.log(max(num_classes - 1, 1)) if multi_label else 0.0
        self.dropout = Dropout(dropout_rate, dtype=policy, name="dropout")
        self.dense = keras.layers.Dense(
            num_classes,
            kernel_initializer="glorot_uniform" if multi_label else "glorot_normal",
            bias_initializer=keras.initializers.Constant(bias),
            dtype=policy,
            name="dense",
        )

    def build(self, features_shape: Any) -> None:
        self.dropout.build(features_shape)
        self.dense.build(features_shape)

    def call(self, features: Any, training: bool = False) -> dict[str, Any]:
        return as_outputs(self.dense(self.dropout(features, training=training)), self.multi_label)

    def compute_output_shape(self, features_shape: Any) -> dict[str, Any]:
        shape = (*features_shape[:-1], self.num_classes)
        return {"logits": shape, "probabilities": shape}

    def get_config(self) -> dict[str, Any]:
        config = {
            "num_classes": self.num_classes,
            "multi_label": self.multi_label,
            "dropout_rate": self.dropout_rate,
        }
        return {**super().get_config(), **config}


def as_outputs(logits: Any, multi_label: bool) -> dict[str, Any]:
    """``logits`` and their ``probabilities``, [B, classes]."""
    probabilities = ops.sigmoid(logits) if multi_label else ops.softmax(logits)
    return {"logits": logits, "probabilities": probabilities}
