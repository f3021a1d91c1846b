"""Batch normalisation over the batch of all replicas."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("vatt_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, with a variance over several replicas that rounding does not spoil.

    Keras computes ``E[x^2] - E[x]^2`` there, a small difference of large numbers where the rows of
    a batch are alike, as they are at the start of a training: losses of two replicas and of one
    device are then 1e-4 apart. Here the second average is taken around the first.

    Args:
        **kwargs: Of ``keras.layers.BatchNormalization``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def _moments(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        if not self.synchronized or mask is not None:
            return super()._moments(inputs, mask)

        def average(values: Any) -> Any:
            axes = self._reduction_axes
            return ops.moments(values, axes=axes, keepdims=True, synchronized=True)[0]

        mean = average(inputs)
        variance = average(ops.square(inputs - mean))
        return tuple(ops.squeeze(part, axis=self._reduction_axes) for part in (mean, variance))
