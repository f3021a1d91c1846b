"""Several runs side by side: one table of all their numbers."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from typing import Any

from vatt_tf.evaluation.report import elements, figures
from vatt_tf.evaluation.report.headline import Headline, headlines
from vatt_tf.evaluation.report.run_info import RunInfo
from vatt_tf.wording import count_of

TASKS = {
    "classify": "Classification",
    "probe": "Probes",
    "retrieval": "Zero-shot retrieval",
    "zero_shot": "Zero-shot classes",
}


def section(runs: Sequence[RunInfo]) -> str:
    """Section with a row per number and a column per run; the best of a row is marked."""
    found = [{one.key: one for one in headlines(run.results)} for run in runs]
    keys = dict.fromkeys(key for numbers in found for key in numbers)
    rows: list[str] = []
    for task, title in TASKS.items():
        own = [key for key in keys if key[0] == task]
        if own:
            blocks = [run.results[task] for run in runs if task in run.results]
            apart = _differences(blocks)
            rows.append(
                f'<tr class="group"><th colspan="{len(runs) + 1}">{title}{_data(blocks, apart)}'
                "</th></tr>"
            )
            rows += [_row(key, [numbers.get(key) for numbers in found], not apart) for key in own]
    head = "".join(
        f'<th><i class="key round {figures.numbered_style(i)}"></i>{html.escape(run.name)}</th>'
        for i, run in enumerate(runs)
    )
    body = (
        f'<div class="scroll"><table class="compared"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}{_models(runs)}</tbody></table></div>"
    )
    hint = (
        "Best of each row where all were measured alike: \N{BLACK STAR} and bold; small: 95 % of "
        "the bootstrap over the clips. "
        "Numbers of overlapping ranges may differ by chance."
    )
    return elements.card("Numbers", hint, body)


def _data(blocks: Sequence[Mapping[str, Any]], differences: str) -> str:
    """Data that a task was evaluated on, or a warning of what differs between the runs."""
    if differences:
        return f' <small class="warning">{html.escape(differences)}</small>'
    return f" <small>{html.escape(_source(blocks[0]))}</small>"


def _source(block: Mapping[str, Any]) -> str:
    return f"{block.get('data')}, {count_of(block.get('pool_size') or 0, 'clip')}"


def _differences(blocks: Sequence[Mapping[str, Any]]) -> str:
    """Reasons why numbers of one task cannot be compared; "" if they can."""
    known = all("content" in block for block in blocks)
    if len({_data_of(block, known) for block in blocks}) > 1:
        listed = "; ".join(dict.fromkeys(map(_source, blocks)))
        return f"not the same data, do not compare: {listed}"
    conditions = [_conditions(block) for block in blocks]
    shared = [name for name in conditions[0] if all(name in other for other in conditions)]
    other = []
    for name in shared:
        values = list(dict.fromkeys(str(one[name]) for one in conditions))
        if len(values) > 1:
            short = all(len(value) < 20 for value in values)
            words = name.replace("_", " ")
            other.append(f"{words} {' and '.join(values)}" if short else f"other {words}")
    return f"not measured alike, do not compare: {'; '.join(other)}" if other else ""


def _data_of(block: Mapping[str, Any], known: bool) -> tuple[Any, ...]:
    """Key of the clips of an evaluation, the same however their folder is written.

    By their content where all blocks have it; by the name of the data set, else by the folder.
    """
    if known:
        return block["content"], block.get("pool_size")
    sets = [one.get("set") for one in block.get("evaluated_on") or ()]
    data = str(block.get("data"))
    place = data if "://" in data else os.path.realpath(data)
    where = tuple(sets) if sets and all(sets) else place
    return where, block.get("split"), block.get("pool_size")


def _conditions(block: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions of an evaluation: name -> value."""
    names = ("limit", "checkpoint", "train_data", "modality", "classes")
    given = {name: block.get(name) for name in names}
    return {**given, **block.get("protocol", {}), "prompts_of_classes": block.get("prompts")}


def _row(key: tuple[str, str, str], numbers: Sequence[Headline | None], comparable: bool) -> str:
    """A row of numbers; the best is marked where they can be compared."""
    there = [one for one in numbers if one is not None]
    pick = min if there[0].lower_is_better else max
    best = pick(one.value for one in there)
    differ = comparable and any(one.value != best for one in there)
    cells = []
    for one in numbers:
        if one is None:
            cells.append("<td></td>")
            continue
        first = differ and one.value == best
        text = html.escape(one.text())
        text = f"<strong>{text} \N{BLACK STAR}</strong>" if first else text
        if one.interval is not None:
            low, high = (one.text(end) for end in one.interval)
            text += f"<br><small>{html.escape(f'{low} to {high}')}</small>"
        cells.append(f'<td class="number{" best" if first else ""}">{text}</td>')
    chance = there[0].chance
    note = "" if chance is None else f" <small>chance {html.escape(there[0].text(chance))}</small>"
    name = html.escape(": ".join(part.replace("_", " ") for part in key[1:] if part))
    return f"<tr><th>{name}{note}</th>{''.join(cells)}</tr>"


def _models(runs: Sequence[RunInfo]) -> str:
    """Rows with the models' descriptions and sizes."""
    rows = []
    for name, values in (
        ("model", [run.summary for run in runs]),
        ("parameters", [figures.rounded(run.parameters) for run in runs]),
        ("steps", [f"{run.train_lines[-1]['step']:,}" if run.train_lines else "" for run in runs]),
        ("seed", [str(run.settings.get("SEED", "")) for run in runs]),
    ):
        if any(values):
            cells = "".join(f'<td class="words">{html.escape(value)}</td>' for value in values)
            rows.append(f"<tr><th>{name}</th>{cells}</tr>")
    group = f'<tr class="group"><th colspan="{len(runs) + 1}">Runs</th></tr>'
    return group + "".join(rows) if rows else ""
