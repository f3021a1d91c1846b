"""Tables of the tasks without labels: retrieval and zero-shot classes."""

from __future__ import annotations

import html
from typing import Any

from vatt_tf.evaluation.report import elements
from vatt_tf.evaluation.report.headline import headlines
from vatt_tf.evaluation.report.run_info import RunInfo
from vatt_tf.evaluation.tasks.retrieval import directions
from vatt_tf.wording import METRIC_NAMES, count_of


def retrieval(run: RunInfo) -> str:
    """Section with recalls and ranks of every direction."""
    block = run.results.get("retrieval")
    if not block:
        return ""
    body = _recall_table(directions(block))
    if block.get("random_weights"):
        body += "<h3>The same towers at random weights</h3>"
        body += _recall_table(directions(block["random_weights"]))
    if block.get("by_caption"):
        body += "<h3>Each different caption once, any clip that has it is right</h3>"
        body += _recall_table(block["by_caption"])
    if block.get("by_class"):
        rows = "".join(
            f"<tr><th>{_arrow(name)}</th>"
            + elements.percent_cell(part["precision@1"], part["chance"], name.split("_")[0])
            + f'<td class="number">{part["queries"]}</td></tr>'
            for name, part in block["by_class"].items()
        )
        body += (
            "<h3>By class: the top item has a class of the query</h3>"
            '<div class="scroll"><table><thead><tr><th>query to item</th><th>precision@1</th>'
            f"<th>queries</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    protocol = block.get("protocol", {})
    body += (
        f'<p class="hint">Protocol: {count_of(protocol.get("windows", 1), "window")} a clip, '
        f"{html.escape(str(protocol.get('window_aggregation')))}; "
        f"{html.escape(str(protocol.get('similarity')))} similarity; right: "
        f"{html.escape(str(protocol.get('correct')))}; ties: "
        f"{html.escape(str(protocol.get('ties')))}. Data: {html.escape(str(block.get('data')))}, "
        f"step {block.get('step')}.</p>"
    )
    hint = (
        "A query from one modality ranks all clips of the pool by another one. R@k is the share of "
        "queries whose own clip is among the first k; MedR and MnR are the median and mean rank."
    )
    return elements.card("Zero-shot retrieval", hint, elements.CHANCE_LEGEND + body)


def _arrow(name: str) -> str:
    return html.escape(name.replace("_to_", " \N{RIGHTWARDS ARROW} "))


def _recall_table(parts: dict[str, Any]) -> str:
    rows = []
    for name, part in parts.items():
        chance = part["chance"]
        cells = "".join(
            elements.percent_cell(
                part[k], chance[k], name.split("_")[0], part.get("confidence", {}).get(k)
            )
            for k in ("R@1", "R@5", "R@10")
        )
        cells += "".join(
            f'<td class="number">{part[k]:.1f} <small>({chance[k]:.1f})</small></td>'
            for k in ("MedR", "MnR")
        )
        rows.append(
            f"<tr><th>{_arrow(name)}</th>{cells}<td class='number'>{part['pool_size']}</td></tr>"
        )
    head = "".join(f"<th>{x}</th>" for x in ("query to item", "R@1", "R@5", "R@10", "MedR", "MnR"))
    return (
        f'<div class="scroll"><table><thead><tr>{head}<th>pool</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def zero_shot(run: RunInfo) -> str:
    """Section with the zero-shot accuracy of every class."""
    block = run.results.get("zero_shot")
    if not block:
        return ""
    metric = "ap" if block.get("multi_label") else "top1"
    shown = sorted(block["per_class"].items(), key=lambda item: -item[1][metric])
    chance = block["chance"].get("top1")
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + elements.percent_cell(
            part[metric], part["clips"] / block["pool_size"] if chance is None else chance
        )
        + f'<td class="number">{part["clips"]}</td>'
        f"<td>{html.escape(block['prompts'][name][0])}</td></tr>"
        for name, part in shown[:40]
    )
    more = f"<p class='hint'>{len(shown) - 40} more classes are in results.json.</p>"
    numbers = ", ".join(
        f"{one.name} {one.text()} (chance {one.text(one.chance)})"
        for one in headlines({"zero_shot": block})
    )
    what = (
        "Each class ranks the videos by how near its prompts lie"
        if chance is None
        else "Each video gets the class whose prompts lie nearest"
    )
    hint = (
        f"{what}: {numbers}; {count_of(block['pool_size'], 'clip')}, "
        f"{count_of(block['classes'], 'class', 'classes')}."
    )
    if left_out := block.get("left_out"):
        hint += (
            f" The prompts do not name {html.escape(', '.join(left_out['classes']))}; "
            f"{count_of(left_out['clips'], 'clip')} of these classes left out."
        )
    table = (
        f'<div class="scroll"><table><thead><tr><th>class</th><th>{METRIC_NAMES[metric]}</th>'
        f"<th>clips</th><th>prompt</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return elements.card("Zero-shot classes", hint, table + (more if len(shown) > 40 else ""))
