"""Health checks of a run: detect silent training failures.

Each guard reads the metrics of a log line and returns a complaint or None. A complaint that lasts
for as long as the guard's patience becomes an alert: one line on the terminal and one in
``metrics.jsonl``, or the end of the run.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gin
import numpy as np
import tensorflow as tf

from vatt_tf.errors import UserError, is_number, value_text
from vatt_tf.wording import percent

ON_ALARM = ("warn", "stop")


@gin.configurable("guards")
@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """Thresholds of the run-health alerts.

    Attributes:
        on_alarm: ``"warn"`` or ``"stop"`` (the state is saved).
        patience: Log lines in a row that a complaint has to last.
        max_cosine: Largest mean cosine between the embeddings of a batch.
        min_rank: Smallest effective rank of the embeddings of a batch.
        chance_margin: Relative distance to the chance-level loss below which nothing was learned.
        max_input_wait: Largest fraction of the time spent waiting for clips.
        temperature: Range of the loss's temperature.
    """

    on_alarm: str = "warn"
    patience: int = 20
    max_cosine: float = 0.99
    min_rank: float = 1.5
    chance_margin: float = 0.005
    max_input_wait: float = 0.5
    temperature: tuple[float, float] = (0.01, 1.0)

    def __post_init__(self) -> None:
        if self.on_alarm not in ON_ALARM:
            self._fail("on_alarm", f"one of {', '.join(ON_ALARM)}")
        if not isinstance(self.patience, int) or self.patience < 1:
            self._fail("patience", "a whole number of at least 1")
        for name in ("max_cosine", "min_rank", "chance_margin", "max_input_wait"):
            if not is_number(getattr(self, name)) or getattr(self, name) < 0:
                self._fail(name, "a number of at least 0")
        bounds = self.temperature
        pair = isinstance(bounds, tuple | list) and len(bounds) == 2
        if not pair or not all(map(is_number, bounds)) or not 0 < bounds[0] < bounds[1]:
            self._fail("temperature", "two numbers, e.g. (0.01, 1.0)")

    def _fail(self, field: str, expected: str) -> None:
        value = value_text(getattr(self, field))
        raise UserError(f"guards.{field}={value}: expected {expected}")


class GuardAlarm(UserError):
    """Raised when an alert ends the run (``guards.on_alarm='stop'``); the state is saved."""


class Guard(abc.ABC):
    """Health check: a kind of failure.

    Attributes:
        name: Name of the alert in ``metrics.jsonl``.
        patience: Log lines that a complaint has to last; None for that of the configuration.
        ends_run: Whether its alert may end the run: all workers have to read the same numbers.
    """

    name: str
    patience: int | None = None
    ends_run: bool = True

    @abc.abstractmethod
    def __call__(self, metrics: Mapping[str, float]) -> str | None:
        """Returns what is wrong with the metrics of a log line and what to check, or None."""


class Collapse(Guard):
    """Detects collapse: nearly equal embeddings, or embeddings of very few dimensions."""

    name = "collapse"

    def __init__(self, config: GuardConfig) -> None:
        self._config = config

    def __call__(self, metrics: Mapping[str, float]) -> str | None:
        """See :class:`Guard`."""
        config, found = self._config, []
        for key, value in metrics.items():
            kind, _, which = key.partition("/")
            if kind == "cosine" and value > config.max_cosine:
                found.append(f"{which}: mean cosine {value:.4f} (over {config.max_cosine:g})")
            if kind == "rank" and value < config.min_rank:
                found.append(f"{which}: effective rank {value:.2f} (below {config.min_rank:g})")
        if not found:
            return None
        return (
            f"embeddings collapse ({'; '.join(found)}): look at the learning rate, the temperature "
            "and the captions"
        )


class Chance(Guard):
    """Detects a loss that stays at chance level.

    Args:
        config: Gives the margin.
        chance: Metric -> its value for equal embeddings or logits, with all modalities present.
    """

    name = "chance"

    def __init__(self, config: GuardConfig, chance: Mapping[str, float]) -> None:
        self._margin = config.chance_margin
        # A loss of 0 leaves nothing to learn, and no ratio to take.
        self._chance = {name: value for name, value in chance.items() if value > 0}

    def __call__(self, metrics: Mapping[str, float]) -> str | None:
        """See :class:`Guard`."""
        stuck = [
            f"{name} {metrics[name]:.4f} (chance: {value:.4f})"
            for name, value in self._chance.items()
            if name in metrics and abs(metrics[name] / value - 1.0) < self._margin
        ]
        if not stuck:
            return None
        return (
            f"nothing is learned: {', '.join(stuck)}; look at the learning rate and whether the "
            "modalities of a clip belong together"
        )


class Temperature(Guard):
    """Detects a temperature outside of the range in which the loss separates clips."""

    name, patience = "temperature", 1

    def __init__(self, config: GuardConfig, temperature: float) -> None:
        self._range, self._temperature = config.temperature, temperature

    def __call__(self, metrics: Mapping[str, float]) -> str | None:
        """See :class:`Guard`."""
        low, high = self._range
        if low <= self._temperature <= high:
            return None
        return (
            f"contrastive_loss.temperature is {self._temperature:g}, outside {low:g} to {high:g} "
            "(paper: 0.07)"
        )


class Starvation(Guard):
    """Detects input starvation. A slow run is no broken one: the alert never ends it."""

    name, ends_run = "starvation", False

    def __init__(self, config: GuardConfig) -> None:
        self._most = config.max_input_wait

    def __call__(self, metrics: Mapping[str, float]) -> str | None:
        """See :class:`Guard`."""
        share = metrics.get("input_wait_share", 0.0)
        if share <= self._most:
            return None
        return (
            f"{percent(share, 0)} of the time is spent waiting for clips: put the shards on a "
            "faster disk, "
            "give the input more cores, or more machines (docs/input.md)"
        )


class FrozenStatistics(Guard):
    """Detects moving averages of BatchNorm that do not change although the layer trains.

    Args:
        norms: The BatchNorm layers.
    """

    name, patience = "frozen_statistics", 2

    def __init__(self, norms: Sequence[Any]) -> None:
        self._norms = list(norms)
        self._last: dict[str, np.ndarray] = {}

    def __call__(self, metrics: Mapping[str, float]) -> str | None:
        """See :class:`Guard`."""
        values = {
            average.path: tf.convert_to_tensor(average.value).numpy()
            for norm in self._norms
            if norm.trainable  # finetune.freeze_steps
            for average in (norm.moving_mean, norm.moving_variance)
        }
        before, self._last = self._last, values
        still = [
            path
            for path, new in values.items()
            if path in before and np.array_equal(before[path], new)
        ]
        if not still:
            return None
        return (
            f"BatchNorm statistics do not change ({', '.join(still)}): is the layer frozen, or "
            "called with training=False?"
        )


@dataclasses.dataclass(frozen=True)
class Alarm:
    """Alert of a guard: name, message, and whether it ends the run."""

    guard: str
    message: str
    ends_run: bool


class Guards:
    """All health checks of a run.

    Args:
        config: Thresholds.
        guards: The checks.
    """

    def __init__(self, config: GuardConfig, guards: Sequence[Guard]) -> None:
        self._config, self._guards = config, guards
        self._lines = dict.fromkeys((guard.name for guard in guards), 0)

    def check(self, metrics: Mapping[str, float]) -> list[Alarm]:
        """Alerts of a log line: one for each guard, until its complaint ends."""
        alarms = []
        for guard in self._guards:
            complaint = guard(metrics)
            self._lines[guard.name] = self._lines[guard.name] + 1 if complaint else 0
            if complaint and self._lines[guard.name] == (guard.patience or self._config.patience):
                ends = guard.ends_run and self._config.on_alarm == "stop"
                alarms.append(Alarm(guard.name, complaint, ends))
        return alarms


def check_replicas(fingerprints: np.ndarray) -> tuple[str | None, str | None]:
    """Finds replicas with equal random keys or equal records.

    Args:
        fingerprints: ``[replicas, 3]``: two words of the random key, a checksum of the records.

    Returns:
        Messages about the random keys and about the data; None where they differ.
    """
    keys = _equal_rows(fingerprints[:, :2])
    data = _equal_rows(fingerprints[:, 2:])
    return (
        keys and f"replicas {keys} draw the same random numbers (DropToken, dropout)",
        data and f"replicas {data} read the same clips",
    )


def _equal_rows(rows: np.ndarray) -> str | None:
    first: dict[tuple, int] = {}
    for replica, row in enumerate(map(tuple, rows)):
        if row in first:
            return f"{first[row]} and {replica}"
        first[row] = replica
    return None
