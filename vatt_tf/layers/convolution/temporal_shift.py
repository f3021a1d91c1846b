"""The temporal shift of TSM: neighbouring frames exchange a part of their channels."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from vatt_tf.layers.configured import ConfiguredLayer


@keras.saving.register_keras_serializable("vatt_tf")
class TemporalShift(ConfiguredLayer):
    """Moves a part of the channels by one frame each way (Lin et al. 2019; docs/reference.md, MMV).

    The order of the channels follows MMV's release, whose kernels expect it. With n = fraction * C:

    ================  ====================  ===================
    output channels   input channels        taken from
    ================  ====================  ===================
    first n           last n                the next frame
    middle            middle                the same frame
    last n            first n               the previous frame
    ================  ====================  ===================

    Behind the ends of the clip there are zeros. Of a clip that stands still, the first and the last
    n channels change places; :func:`still_channels` says so to a kernel behind the shift.

    Args:
        fraction: Share of the channels that moves each way, 0 to 0.5; n is rounded down.

    Call arguments:
        inputs: [B, T, ..., C].

    Returns:
        The same shape.
    """

    def __init__(self, fraction: float = 0.125, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0.0 <= fraction <= 0.5:
            raise ValueError(f"{self.name}: fraction must be in [0, 0.5], got {fraction}")

        # === Config ===
        self.fraction = fraction

    def call(self, inputs: Any) -> Any:
        shifted = int(inputs.shape[-1] * self.fraction)
        last = inputs.shape[-1] - shifted
        others = ((0, 0),) * (len(inputs.shape) - 2)
        from_next = ops.pad(inputs[:, 1:, ..., last:], ((0, 0), (0, 1), *others))
        from_previous = ops.pad(inputs[:, :-1, ..., :shifted], ((0, 0), (1, 0), *others))
        return ops.concatenate([from_next, inputs[..., shifted:last], from_previous], axis=-1)


def still_channels(channels: int, fraction: float) -> list[int]:
    """Input channel of every output channel for a clip that stands still, but for its ends."""
    shifted, numbers = int(channels * fraction), list(range(channels))
    last = channels - shifted
    return numbers[last:] + numbers[shifted:last] + numbers[:shifted]
