"""Batch normalisation over the batch of all replicas."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("vatt_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, with a variance over several replicas that rounding does not spoil.

    Rows that a mask leaves out change nothing, and a batch of such rows alone is normalised by the
    moving averages. Over replicas Keras computes ``E[x^2] - E[x]^2``, a small difference of large
    numbers where the rows of a batch are alike, as they are at the start of a training: losses of
    two replicas and of one device are then 1e-4 apart. Here the second average is taken around the
    first.

    ``synchronized = False`` is for one replica, which has nothing to add up: three fifths of the
    operations, of which a network of a hundred such layers has so many that it is felt.
    """

    def _moments(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        if mask is None and not self.synchronized:
            return super()._moments(inputs, mask)

        axes = self._reduction_axes
        weights = ops.ones_like(inputs[..., 0]) if mask is None else ops.cast(mask, inputs.dtype)

        def total(values: Any) -> Any:
            """[n], the sum over the rows that count."""
            return ops.sum(values * weights[..., None], axis=axes)

        def synchronise(sums: Any) -> Any:
            """[n], the mean over the replicas."""
            if not self.synchronized:
                return sums
            return ops.moments(sums[None], axes=(0,), synchronized=True)[0]

        # Every replica adds up its rows first: what Keras is to synchronise it copies several
        # times, which is slow for whole activations of a convolution.
        sums = synchronise(ops.append(total(inputs), ops.sum(weights)))
        mean, count = ops.divide_no_nan(sums[:-1], sums[-1]), sums[-1]
        if len(axes) == 1:
            # The few rows of a head: what rounding left makes the mean the same for every split.
            rest = synchronise(total(inputs - mean))
            mean = mean + ops.divide_no_nan(rest, count)
        squares = ops.square(inputs - ops.expand_dims(mean, axes))
        variance = ops.divide_no_nan(synchronise(total(squares)), count)
        if mask is not None:  # a batch in which no row counts says nothing
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
