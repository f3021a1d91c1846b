"""Learning-rate schedules: linear warm-up, then a quarter or half period of a cosine."""

from __future__ import annotations

import math
from typing import Any

import gin
import keras
from keras import ops

from vatt_tf.errors import UserError, is_number, value_text
from vatt_tf.wording import count_of

SHAPES = ("quarter_cosine", "half_cosine", "constant")


@keras.saving.register_keras_serializable("vatt_tf")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to ``peak``, then a cosine to ``final`` at ``total_steps``.

    With t in [0, 1] the fraction of the steps after the warm-up, the rate is
    ``final + (peak - final) * w(t)``: ``w = cos(pi t / 2)`` for ``"quarter_cosine"`` (the paper's
    words, section 4.1), ``w = (1 + cos(pi t)) / 2`` for ``"half_cosine"`` (the released code, MMV)
    and ``w = 1`` for ``"constant"``.

    Args:
        peak: Rate at the end of the warm-up.
        final: Rate at ``total_steps`` and later.
        warmup_steps: Steps of the warm-up; 0 for none.
        total_steps: Steps of the whole run.
        shape: One of ``SHAPES``.
    """

    def __init__(
        self, peak: float, final: float, warmup_steps: int, total_steps: int, shape: str
    ) -> None:
        if shape not in SHAPES:
            raise UserError(
                f"learning_rate.shape={value_text(shape)}: expected one of {', '.join(SHAPES)}"
            )
        if not 0 <= warmup_steps <= total_steps:
            raise UserError(
                f"learning_rate.warmup_steps={warmup_steps}: expected 0 to the "
                f"{count_of(total_steps, 'step')} "
                "of the run"
            )
        self.peak, self.final, self.shape = peak, final, shape
        self.warmup_steps, self.total_steps = warmup_steps, total_steps

    def __call__(self, step: Any) -> Any:
        """Rate at a step, float32 scalar."""
        step = ops.cast(step, "float32")
        warmup = self.peak * step / max(self.warmup_steps, 1)
        span = max(self.total_steps - self.warmup_steps, 1)
        t = ops.clip((step - self.warmup_steps) / span, 0.0, 1.0)
        if self.shape == "quarter_cosine":
            weight = ops.cos(0.5 * math.pi * t)
        elif self.shape == "half_cosine":
            weight = 0.5 * (1.0 + ops.cos(math.pi * t))
        else:
            weight = ops.ones_like(t)
        decayed = self.final + (self.peak - self.final) * weight
        return ops.where(step < self.warmup_steps, warmup, decayed)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "peak": self.peak,
            "final": self.final,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "shape": self.shape,
        }


@gin.configurable
def learning_rate(
    total_steps: int,
    peak: float = 1e-4,
    final: float = 5e-5,
    warmup_steps: int | float = 10_000,
    shape: str = "quarter_cosine",
) -> WarmupCosine:
    """The schedule of a run.

    Args:
        total_steps: Optimizer steps of the run (given by the run itself).
        peak: Rate at the end of the warm-up (paper: 1e-4).
        final: Rate at the end of the run (paper: 5e-5).
        warmup_steps: Steps of linear warm-up (paper: 10,000; released code: 5,000), or below
            1 a fraction of the run. Capped at half of the run, so that short trials warm up too.
        shape: ``"quarter_cosine"`` (paper), ``"half_cosine"`` (released code) or ``"constant"``.

    Raises:
        UserError: If a value is out of its range.
    """
    values = {"peak": peak, "final": final, "warmup_steps": warmup_steps}
    for name, value in values.items():
        if not is_number(value) or not 0 <= value < math.inf:
            raise UserError(
                f"learning_rate.{name}={value_text(value)}: expected a number of at least 0"
            )
    steps = warmup_steps * total_steps if 0 < warmup_steps < 1 else warmup_steps
    return WarmupCosine(peak, final, min(round(steps), total_steps // 2), total_steps, shape)
