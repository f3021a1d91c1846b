"""Training curves of one run, and of several on the same axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vatt_tf.evaluation.report import elements, figures
from vatt_tf.evaluation.report.headline import CLASSIFICATION
from vatt_tf.evaluation.report.run_info import RunInfo, chance_loss
from vatt_tf.evaluation.tasks.retrieval import direction_name

PAIR_STYLES = {"video_audio": "audio", "video_text": "text", "audio_text": "video"}
STATISTICS = "loss/statistics"
OTHERS = (
    (STATISTICS, "Statistics of the features, loss"),
    ("learning_rate", "Learning rate"),
    ("clips_per_second", "Throughput, clips/s"),
    ("gradient_norm", "Gradient norm"),
)
RECALLS = tuple((f"{direction_name(*d)}/R@10", d) for d in (("text", "video"), ("audio", "video")))


def section(run: RunInfo) -> str:
    """Losses, the metrics of the evaluations during training, learning rate and the like."""
    if len(run.train_lines) < 2:
        return ""
    chance = chance_loss(run.settings)
    pairs = _pairs(run, chance)
    large, small = [pairs, *_measured(run)], [_recalls(run)]
    for key, title in OTHERS:
        one = curve(run.train_lines, key, title, "accent")
        if len(one.x) > 1:
            small.append(elements.figure(title, figures.line_chart([one], "step", "", zero=True)))
    hint = "Thin: logged values; thick: their running mean."
    if pairs and chance:
        hint += (
            f" Dashed: the loss when nothing has been learned, {chance:.2f} for this batch size."
        )
    body = elements.grid(large) + elements.grid(small, "small")
    return elements.card("Training", hint, body)


def curve(lines: Iterable[dict[str, Any]], key: str, name: str, style: str) -> figures.Series:
    """The values of ``key``, or of a key that ends in ``/key``, over the steps."""
    found = []
    for line in lines:
        value = line.get(key, next((line[k] for k in line if k.endswith(f"/{key}")), None))
        if isinstance(value, (int, float)) and math.isfinite(value):
            found.append((line["step"], value))
    x, y = zip(*found, strict=True) if found else ((), ())
    return figures.Series(name, np.array(x, np.float64), np.array(y, np.float64), style)


def _pairs(run: RunInfo, chance: float | None) -> str:
    found = {key for line in run.train_lines for key in line if key.startswith("loss/")}
    keys = sorted(found - {STATISTICS})
    pairs = [
        curve(run.train_lines, key, key[5:].replace("_", "-"), PAIR_STYLES.get(key[5:], "accent"))
        for key in keys
    ]
    if not pairs:
        return ""
    reference = ("all embeddings alike", chance) if chance else None
    chart = figures.line_chart(pairs, "step", "loss", reference=reference, zero=True)
    return elements.figure("Loss per pair", chart, _legend(pairs))


def _measured(run: RunInfo) -> list[str]:
    """Charts of what is measured on the training batches, on held-out clips, or on both."""
    charts = []
    for key, title in (("loss", "Total loss"), *((key, name) for key, name, _ in CLASSIFICATION)):
        both = [
            curve(run.train_lines, key, "training batches", "c0"),
            curve(run.eval_lines, key, "held-out clips", "c1"),
        ]
        both = [one for one in both if len(one.x) > 1]
        if both:
            chart = figures.line_chart(both, "step", "loss" if key == "loss" else "", zero=True)
            names = _legend(both) if len(both) > 1 or both[0].style == "c1" else ""
            charts.append(elements.figure(_title(title), chart, names))
    return charts


def _recalls(run: RunInfo) -> str:
    recalls = [curve(run.eval_lines, key, " -> ".join(d), d[0]) for key, d in RECALLS]
    recalls = [one for one in recalls if len(one.x) > 1]
    if not recalls:
        return ""
    chart = figures.line_chart(recalls, "step", "", zero=True)
    return elements.figure("R@10 during training", chart, _legend(recalls))


def _title(name: str) -> str:
    return name if name == "mAP" else name[0].upper() + name[1:]


def _legend(series: Sequence[figures.Series]) -> str:
    return elements.legend([(one.name, one.style) for one in series])


def overlaid(runs: Sequence[RunInfo]) -> str:
    """Section with the curves of several runs on the same axes, a colour each."""
    metrics = [("loss", "Total loss")]
    metrics += [(key, name) for key, name, _ in CLASSIFICATION]
    metrics += [(key, f"R@10, {' to '.join(d)}") for key, d in RECALLS]
    charts = []
    for kind, what in (("train_lines", "training batches"), ("eval_lines", "held-out clips")):
        for key, title in metrics:
            series = [
                curve(getattr(run, kind), key, run.name, figures.numbered_style(i))
                for i, run in enumerate(runs)
            ]
            series = [one for one in series if len(one.x) > 1]
            if series:
                chart = figures.line_chart(series, "step", "", zero=True)
                name = f"{_title(title)}, {what}"
                charts.append(elements.figure(name, chart, _legend(series)))
    hint = "Thin: logged values; thick: their running mean. One colour per run."
    return elements.card("Training", hint, elements.grid(charts))
