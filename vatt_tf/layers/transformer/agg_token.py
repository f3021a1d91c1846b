"""The [AGG] token, whose output stands for the whole input."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("vatt_tf")
class AggToken(keras.layers.Layer):
    """Puts one learned token in front of the sequence (VATT, section 3.2).

    It has no position embedding and no dropout.

    Call arguments:
        tokens: [B, N, d].

    Returns:
        [B, 1 + N, d].
    """

    def build(self, input_shape: Any) -> None:
        self.embedding = self.add_weight(
            name="embedding", shape=(input_shape[-1],), initializer="glorot_normal"
        )

    def call(self, tokens: Any) -> Any:
        embedding = ops.cast(self.embedding, tokens.dtype)
        first = ops.broadcast_to(embedding, (ops.shape(tokens)[0], 1, tokens.shape[-1]))
        return ops.concatenate([first, tokens], axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        tokens = None if input_shape[1] is None else input_shape[1] + 1
        return (input_shape[0], tokens, input_shape[2])
