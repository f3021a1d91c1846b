"""Headline numbers of results.json, in one order for all pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from vatt_tf.evaluation.tasks.retrieval import DIRECTIONS, direction_name

# (key in a block of results.json, name on the page, whether it is a fraction shown in percent).
CLASSIFICATION = (
    ("top1", "top-1", True),
    ("top5", "top-5", True),
    ("mean_class_accuracy", "mean class accuracy", True),
    ("mAP", "mAP", True),
    ("mean_auc", "mean AUC", False),
    ("d_prime_mean", "d', mean of the classes", False),
    ("d_prime_of_mean_auc", "d' of the mean AUC", False),
)
RECALLS = (("R@1", True), ("R@5", True), ("R@10", True), ("MedR", False))


@dataclasses.dataclass(frozen=True)
class Headline:
    """One number of an evaluation.

    Attributes:
        task: Block of results.json, e.g. ``"classify"``.
        group: What was measured within the task, e.g. ``"text to video"``; "" for the task itself.
        name: Name of the metric, e.g. ``"top-1"``.
        value: The number; a fraction where ``percent`` is set.
        percent: Whether it is shown in percent.
        chance: Chance level, or None.
        interval: Confidence interval (low, high), or None.
        pool: Clips or items it was measured on, or None.
        lower_is_better: True for ranks.
    """

    task: str
    group: str
    name: str
    value: float
    percent: bool
    chance: float | None = None
    interval: tuple[float, float] | None = None
    pool: int | None = None
    lower_is_better: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """Identity of the number, equal for the same number of another run."""
        return (self.task, self.group, self.name)

    def text(self, value: float | None = None) -> str:
        """Formats ``value`` (its own by default): ``81.2 %``, ``2.40``, or rank ``4``."""
        value = self.value if value is None else value
        if self.percent:
            return f"{100 * value:.1f} %"
        return f"{value:.4g}" if self.lower_is_better else f"{value:#.3g}"


def headlines(results: Mapping[str, Any]) -> list[Headline]:
    """Extracts the headline numbers of results.json; tasks that were not run are left out."""
    found = list(_metrics("classify", "", results.get("classify", {})))
    probe = results.get("probe", {})
    for kind, part in probe.items():
        if isinstance(part, Mapping) and kind != "chance":
            found += _metrics("probe", kind, part, probe)
    retrieval = results.get("retrieval", {})
    for direction in DIRECTIONS:
        part = retrieval.get(direction_name(*direction), {})
        for key, percent in RECALLS:
            if key in part:
                found.append(
                    _headline("retrieval", " to ".join(direction), key, key, percent, part, part)
                )
    zero_shot = results.get("zero_shot", {})
    return found + list(_metrics("zero_shot", "", zero_shot))


def _metrics(
    task: str, group: str, part: Mapping[str, Any], block: Mapping[str, Any] | None = None
) -> Iterator[Headline]:
    for key, name, percent in CLASSIFICATION:
        if isinstance(part.get(key), (int, float)):
            yield _headline(task, group, key, name, percent, part, part if block is None else block)


def _headline(
    task: str,
    group: str,
    key: str,
    name: str,
    percent: bool,
    part: Mapping[str, Any],
    block: Mapping[str, Any],
) -> Headline:
    chance = part.get("chance", block.get("chance", {}))
    interval = part.get("confidence", {}).get(key)
    return Headline(
        task=task,
        group=group,
        name=name,
        value=float(part[key]),
        percent=percent,
        chance=chance.get(key),
        interval=None if interval is None else (float(interval[0]), float(interval[1])),
        pool=part.get("pool_size", block.get("pool_size")),
        lower_is_better=key == "MedR",
    )
