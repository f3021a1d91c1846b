"""Sections of a classifier: its metrics, its classes, and its confusions."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from vatt_tf.evaluation.report import elements
from vatt_tf.evaluation.report.headline import CLASSIFICATION, headlines
from vatt_tf.evaluation.report.heatmap import heatmap
from vatt_tf.evaluation.report.run_info import RunInfo
from vatt_tf.wording import count_of

# Classes with a bar of their own at each end; those between them are in results.json.
SHOWN = 15
CONFUSED = 8


def classification(run: RunInfo) -> str:
    """Section with the ``classify`` block of results.json."""
    block = run.results.get("classify")
    if not block:
        return ""
    numbers = elements.tiles(
        [
            (one.name, one.text(), _note(one.chance, one.interval, one.text))
            for one in headlines({"classify": block})
        ]
    )
    confusion = block.get("confusion")
    labels = block["labels"]
    parts = [_classes(block)]
    if confusion:
        matrix = np.array(confusion)
        parts = [_confusion(matrix, labels), _confused(matrix, labels), *parts]
    style = "flow" if len(parts) > 1 else "charts"
    body = f'{numbers}<div class="{style}">{"".join(parts)}</div>{protocol_note(block)}'
    hint = (
        f"{count_of(block['pool_size'], 'clip')}, {count_of(block['classes'], 'class', 'classes')}"
        + (", a clip may have several" if block.get("multi_label") else "")
        + ". Ranges: 95 % of the bootstrap over the clips."
    )
    return elements.card("Classification", hint, body)


def _note(chance: float | None, interval: Sequence[float] | None, text: Any) -> str:
    parts = [] if interval is None else [f"{text(interval[0])} to {text(interval[1])}"]
    return "; ".join(parts + ([] if chance is None else [f"chance {text(chance)}"]))


def _classes(block: dict[str, Any]) -> str:
    """A bar per class, best first: accuracy, or average precision of multi-label classes."""
    key, name = ("ap", "average precision") if block.get("multi_label") else ("top1", "accuracy")
    ordered = sorted(
        ((label, part) for label, part in block.get("per_class", {}).items() if key in part),
        key=lambda item: -item[1][key],
    )
    rows = [
        f"<tr><th>{html.escape(label)}</th>"
        + elements.percent_cell(
            part[key], part["clips"] / block["pool_size"] if key == "ap" else block["chance"][key]
        )
        + f'<td class="number">{part["clips"]}</td></tr>'
        for label, part in ordered
    ]
    hidden = len(rows) - 2 * SHOWN
    if hidden > 1:
        note = (
            f'<tr><td colspan="3" class="hint">{hidden} more classes are in results.json</td></tr>'
        )
        rows[SHOWN:-SHOWN] = [note]
    if not rows:
        return ""
    table = elements.table(("class", name, "clips"), rows)
    return elements.figure("By class", table, elements.CHANCE_LEGEND)


def _confusion(matrix: np.ndarray, labels: Sequence[str]) -> str:
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    chart = heatmap(
        share,
        f"confusion matrix of {len(labels)} classes",
        rows=labels,
        columns=labels,
        row_title="true class",
        column_title="taken for",
        numbers=matrix,
    )
    return elements.figure("Confusion matrix", chart)


def _confused(matrix: np.ndarray, labels: Sequence[str]) -> str:
    """The pairs of classes that are mistaken most often."""
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    totals = matrix.sum(axis=1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED]
    rows = [
        f"<tr><th>{html.escape(labels[i])}</th><td>{html.escape(labels[j])}</td>"
        f'<td class="number">{wrong[i, j]} <small>of {totals[i]}</small></td></tr>'
        for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[i, j]
    ]
    if not rows:
        return ""
    return elements.figure(
        "Most frequent mistakes", elements.table(("true class", "taken for", "clips"), rows)
    )


def protocol_note(block: dict[str, Any]) -> str:
    """Line with the protocol, the data and the step of an evaluation."""
    protocol = "; ".join(
        f"{name.replace('_', ' ')}: {value}" for name, value in block.get("protocol", {}).items()
    )
    where = f"Data: {block.get('data')}, step {block.get('step')}."
    words = f"Protocol: {protocol}. {where}" if protocol else where
    return f'<p class="hint">{html.escape(words)}</p>'


def probes(run: RunInfo) -> str:
    """Section with the ``probe`` block: simple classifiers on frozen features, few shots."""
    block = run.results.get("probe")
    if not block:
        return ""
    numbers = headlines({"probe": block})
    names = dict.fromkeys(one.name for one in numbers)
    rows = []
    for kind in dict.fromkeys(one.group for one in numbers):
        ones = {one.name: one for one in numbers if one.group == kind}
        cells = "".join(
            elements.percent_cell(
                ones[name].value, ones[name].chance, "accent", ones[name].interval
            )
            if name in ones
            else "<td></td>"
            for name in names
        )
        setting = html.escape(_setting(block[kind]))
        rows.append(
            f"<tr><th>{html.escape(kind.replace('_', ' '))}</th>{cells}<td>{setting}</td></tr>"
        )
    table = elements.table(("classifier", *names, ""), rows) if rows else ""
    hint = (
        f"The tower stays as it is; simple classifiers learn from its {block.get('modality')} "
        f"features of {html.escape(str(block.get('train_data')))}. "
        f"{count_of(block.get('pool_size', 0), 'clip')} "
        f"to test on, {count_of(block.get('classes', 0), 'class', 'classes')}."
    )
    table += _few_shot(block.get("few_shot", {}))
    return elements.card("Probes", hint, elements.CHANCE_LEGEND + table + protocol_note(block))


def _setting(part: dict[str, Any]) -> str:
    """The setting that was chosen for a classifier, and on what."""
    if "chosen_on" not in part:
        return ""
    measured = {key for key, _, _ in CLASSIFICATION}
    chosen = [
        f"{name} = {value:g}"
        for name, value in part.items()
        if isinstance(value, (int, float)) and name not in measured
    ]
    return f"{', '.join(chosen)}, chosen on {part['chosen_on']}"


def _few_shot(block: dict[str, Any]) -> str:
    """Accuracy over the number of examples per class, with the spread of the draws."""
    found = [
        (int(shots), part["mean"], part.get("std", 0.0))
        for shots, part in block.items()
        if shots.isdigit() and isinstance(part, dict) and "mean" in part
    ]
    rows = [
        f"<tr><th>{shots}</th>"
        + elements.percent_cell(mean, None, "accent", (mean - std, mean + std))
        + "</tr>"
        for shots, mean, std in sorted(found)
    ]
    if not rows:
        return ""
    return "<h3>Few shots</h3>" + elements.table(("examples a class", "top-1"), rows)
