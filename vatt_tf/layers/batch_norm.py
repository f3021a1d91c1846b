"""Batch normalisation over the batch of all replicas."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import keras
from keras import ops

from vatt_tf.layers.thread_value import ThreadValue

_HELD = ThreadValue(False)
_REPLICAS = ThreadValue()


def frozen_statistics() -> contextlib.AbstractContextManager[None]:
    """While it lasts, layers that are called for training leave their moving averages alone.

    Gradient caching calls the towers twice on the same clips; they count once. What is traced in
    it stays as it was traced.
    """
    return _HELD.during(True)


def on_replicas(count: int | None) -> contextlib.AbstractContextManager[None]:
    """While it lasts, a batch is known to be spread over ``count`` replicas; None: over any number.

    One replica has nothing to add up, and needs three fifths of the operations, of which a network
    of a hundred such layers has so many that its start-up is felt.
    """
    return _REPLICAS.during(count)


@keras.saving.register_keras_serializable("vatt_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, with a variance over several replicas that rounding does not spoil.

    Rows that a mask leaves out change nothing, and a batch of such rows alone is normalised by the
    moving averages. Over replicas Keras computes ``E[x^2] - E[x]^2``, a small difference of large
    numbers where the rows of a batch are alike, as they are at the start of a training: losses of
    two replicas and of one device are then 1e-4 apart. Here the second average is taken around the
    first.

    Args:
        **kwargs: Of ``keras.layers.BatchNormalization``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and _HELD.value):
            return super().call(inputs, training=training, mask=mask)
        with keras.StatelessScope():  # Assignments end with it.
            return super().call(inputs, training=training, mask=mask)

    def _moments(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        if mask is None and not self.synchronized:
            return super()._moments(inputs, mask)

        axes = self._reduction_axes
        weights = None if mask is None else ops.cast(mask, inputs.dtype)[..., None]

        def total(values: Any) -> Any:
            """[n], the sum over the rows that count."""
            return ops.sum(values if weights is None else values * weights, axis=axes)

        def synchronise(sums: Any) -> Any:
            """[n], the mean over the replicas."""
            if _REPLICAS.value == 1 or not self.synchronized:
                return sums
            return ops.moments(sums[None], axes=(0,), synchronized=True)[0]

        # Every replica adds up its rows first: what Keras is to synchronise it copies several
        # times, which is slow for whole activations of a convolution.
        rows = math.prod(ops.shape(inputs)[axis] for axis in axes)
        rows = ops.cast(rows, inputs.dtype) if weights is None else ops.sum(weights)
        sums = synchronise(ops.concatenate([total(inputs), ops.reshape(rows, (1,))]))
        mean, count = ops.divide_no_nan(sums[:-1], sums[-1]), sums[-1]
        if len(axes) == 1:
            # The few rows of a head: what rounding left makes the mean the same for every split.
            rest = synchronise(total(inputs - mean))
            mean = mean + ops.divide_no_nan(rest, count)
        squares = ops.square(inputs - ops.expand_dims(mean, axes))
        variance = ops.divide_no_nan(synchronise(total(squares)), count)
        if weights is not None:  # a batch in which no row counts says nothing
            kept = (ops.cast(x, mean.dtype) for x in (self.moving_mean, self.moving_variance))
            mean, variance = (
                ops.where(count > 0, x, old) for x, old in zip((mean, variance), kept, strict=True)
            )
        return mean, variance


def batch_norm(policy: Any, name: str, **kwargs: Any) -> BatchNormalization:
    """BatchNorm over the global batch, with the decay and epsilon of VATT and MMV.

    Args:
        policy: Dtype policy.
        name: Name of the layer.
        **kwargs: Other arguments of ``keras.layers.BatchNormalization``.
    """
    arguments = {
        "momentum": 0.9,
        "epsilon": 1e-5,
        # Only the TensorFlow backend can reduce across replicas.
        "synchronized": keras.backend.backend() == "tensorflow",
    }
    return BatchNormalization(**{**arguments, **kwargs}, dtype=policy, name=name)


def batch_norms(layer: keras.layers.Layer) -> list[keras.layers.BatchNormalization]:
    """The BatchNorm layers inside of a layer, which holds its parts in attributes."""
    found: dict[int, keras.layers.Layer] = {}
    parts: list[Any] = [layer]
    while parts:
        part = parts.pop()
        if isinstance(part, list | tuple):
            parts.extend(part)
        elif isinstance(part, keras.layers.Layer) and id(part) not in found:
            found[id(part)] = part
            parts.extend(vars(part).values())
    return [part for part in found.values() if isinstance(part, keras.layers.BatchNormalization)]
