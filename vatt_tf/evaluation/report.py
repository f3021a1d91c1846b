"""Writes report.html: the curves and numbers of a run in one file that needs nothing else."""

from __future__ import annotations

import datetime
import html
import math
import os
import pathlib
from typing import Any

import numpy as np

from vatt_tf.evaluation import embedding_plots, examples, figures
from vatt_tf.evaluation.embeddings import EmbeddingSet
from vatt_tf.evaluation.retrieval import DIRECTIONS, direction_name
from vatt_tf.evaluation.run_info import RunInfo, chance_loss, read_run, train_seconds
from vatt_tf.evaluation.style import CSS

PAIR_STYLES = {"video_audio": "audio", "video_text": "text", "audio_text": "video"}


def write_report(
    run_dir: str | os.PathLike, evaluation: EmbeddingSet | None = None
) -> pathlib.Path:
    """Writes ``<run_dir>/report.html`` from what the run directory holds.

    Curves come from metrics.jsonl, tables from results.json; both may be missing. The similarity
    histograms, t-SNE plots and retrieval examples need the embeddings of an evaluation.

    Args:
        run_dir: Run directory.
        evaluation: Embeddings of the evaluated clips; with ``strips`` the examples have pictures.

    Returns:
        Path of the file. It is written to a temporary name and renamed.
    """
    run_dir = pathlib.Path(run_dir)
    run = read_run(run_dir)
    sections = [_tiles(run), _curves(run), _retrieval(run), _zero_shot(run)]
    if evaluation is not None:
        sections += [
            embedding_plots.similarities(evaluation),
            embedding_plots.tsne_maps(evaluation),
            examples.section(evaluation),
        ]
    sections.append(_facts(run))
    title = html.escape(run.name)
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} - vatt_tf report</title><style>{CSS}</style></head><body><main>"
        f'<header><h1>{title}</h1><p class="lead">{html.escape(run.summary)}</p></header>'
        + "".join(sections)
        + f"<footer>vatt_tf report, {made}</footer></main></body></html>\n"
    )
    path = run_dir / "report.html"
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


# --- Sections ---


def _tiles(run: RunInfo) -> str:
    tiles: list[tuple[str, str, str]] = []
    lines = run.train_lines
    retrieval = run.results.get("retrieval", {})
    for name, label in (("text_to_video", "text to video"), ("audio_to_video", "audio to video")):
        part = retrieval.get(name)
        if part:
            times = part["R@10"] / part["chance"]["R@10"]
            tiles.append(
                (
                    f"R@10, {label}",
                    f"{100 * part['R@10']:.1f} %",
                    f"{times:.1f}x chance, pool {part['pool_size']}",
                )
            )
    zero_shot = run.results.get("zero_shot")
    if zero_shot:
        tiles.append(
            (
                "zero-shot top-1",
                f"{100 * zero_shot['top1']:.1f} %",
                f"chance {100 * zero_shot['chance']['top1']:.1f} %",
            )
        )
    if lines:
        tiles.append(("steps", f"{lines[-1]['step']:,}", _batch_note(run)))
        seconds = train_seconds(lines)
        if seconds:
            tiles.append(("training time", _duration(seconds), "as logged"))
    if run.parameters:
        tiles.append(("parameters", figures.format_number(_three(run.parameters)), ""))
    cells = "".join(
        f'<div class="tile"><span>{html.escape(a)}</span><strong>{html.escape(b)}</strong>'
        f"<small>{html.escape(c)}</small></div>"
        for a, b, c in tiles
    )
    return f'<div class="tiles">{cells}</div>' if cells else ""


def _three(value: float) -> float:
    return float(f"{value:.3g}")


def _batch_note(run: RunInfo) -> str:
    batch = run.settings.get("BATCH_SIZE")
    return f"batch {batch}" if batch else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _curve(lines: list[dict[str, Any]], key: str, name: str, style: str) -> figures.Series:
    found = [(line["step"], line[key]) for line in lines if _is_number(line.get(key))]
    x, y = zip(*found, strict=True) if found else ((), ())
    return figures.Series(name, np.array(x, np.float64), np.array(y, np.float64), style)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _curves(run: RunInfo) -> str:
    lines = run.train_lines
    if len(lines) < 2:
        return ""
    chance = chance_loss(run.settings)
    keys = sorted({key for line in lines for key in line if key.startswith("loss/")})
    pairs = [
        _curve(lines, key, key[5:].replace("_", "-"), PAIR_STYLES.get(key[5:], "accent"))
        for key in keys
    ]
    losses: list[str] = []
    charts: list[str] = []
    if pairs:
        reference = ("all embeddings alike", chance) if chance else None
        chart = figures.line_chart(pairs, "step", "loss", reference=reference, zero=True)
        names = figures.legend([(pair.name, pair.style) for pair in pairs])
        losses.append(figures.figure("Loss per pair", chart, names))
    singles = (
        ("loss", "Total loss"),
        ("learning_rate", "Learning rate"),
        ("clips_per_second", "Throughput, clips/s"),
        ("gradient_norm", "Gradient norm"),
    )
    for key, title in singles:
        one = _curve(lines, key, title, "accent")
        if len(one.x) > 1:
            label = "loss" if key == "loss" else ""
            figure = figures.figure(title, figures.line_chart([one], "step", label, zero=True))
            (losses if key == "loss" else charts).append(figure)
    evaluations = [line for line in run.lines if line.get("kind") == "eval"]
    recalls = [
        _curve(evaluations, f"{direction_name(*d)}/R@10", " -> ".join(d), d[0])
        for d in (("text", "video"), ("audio", "video"))
    ]
    recalls = [one for one in recalls if len(one.x) > 1]
    if recalls:
        chart = figures.line_chart(recalls, "step", "", zero=True)
        names = figures.legend([(one.name, one.style) for one in recalls])
        charts.append(figures.figure("R@10 during training", chart, names))
    hint = "Thin: logged values; thick: their running mean."
    if chance:
        hint += (
            f" Dashed: the loss when nothing has been learned, {chance:.2f} for this batch size."
        )
    body = f'<div class="charts">{"".join(losses)}</div>'
    body += f'<div class="charts small">{"".join(charts)}</div>' if charts else ""
    return figures.card("Training", hint, body)


def _percent_cell(value: float, chance: float, style: str) -> str:
    return (
        f'<td><div class="cell">{figures.bar(value, chance, style)}'
        f"<span>{100 * value:.1f}&nbsp;% <small>({100 * chance:.1f})</small></span></div></td>"
    )


def _retrieval(run: RunInfo) -> str:
    block = run.results.get("retrieval")
    if not block:
        return ""
    names = {direction_name(*d): d for d in DIRECTIONS}
    body = _recall_table({name: block[name] for name in names if name in block})
    if block.get("by_caption"):
        body += "<h3>Each different caption once, any clip that has it is right</h3>"
        body += _recall_table(block["by_caption"])
    if block.get("by_class"):
        rows = "".join(
            f"<tr><th>{_arrow(name)}</th>"
            + _percent_cell(part["precision@1"], part["chance"], name.split("_")[0])
            + f'<td class="number">{part["queries"]}</td></tr>'
            for name, part in block["by_class"].items()
        )
        body += (
            "<h3>By class: the top item has the class of the query</h3>"
            '<div class="scroll"><table><thead><tr><th>query to item</th><th>precision@1</th>'
            f"<th>queries</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    protocol = block.get("protocol", {})
    body += (
        f'<p class="hint">Protocol: {protocol.get("windows")} window(s) a clip, '
        f"{html.escape(str(protocol.get('window_aggregation')))}; "
        f"{html.escape(str(protocol.get('similarity')))} similarity; right: "
        f"{html.escape(str(protocol.get('correct')))}; ties: "
        f"{html.escape(str(protocol.get('ties')))}. Data: {html.escape(str(block.get('data')))}, "
        f"step {block.get('step')}.</p>"
    )
    legend = '<div class="legend"><span><i class="key mark"></i>chance, in brackets</span></div>'
    hint = (
        "A query from one modality ranks all clips of the pool by another one. R@k is the share of "
        "queries whose own clip is among the first k; MedR and MnR are the median and mean rank."
    )
    return figures.card("Zero-shot retrieval", hint, legend + body)


def _arrow(name: str) -> str:
    return html.escape(name.replace("_to_", " \N{RIGHTWARDS ARROW} "))


def _recall_table(parts: dict[str, Any]) -> str:
    rows = []
    for name, part in parts.items():
        chance = part["chance"]
        cells = "".join(
            _percent_cell(part[k], chance[k], name.split("_")[0]) for k in ("R@1", "R@5", "R@10")
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


def _zero_shot(run: RunInfo) -> str:
    block = run.results.get("zero_shot")
    if not block:
        return ""
    chance = block["chance"]["top1"]
    shown = sorted(block["per_class"].items(), key=lambda item: -item[1]["top1"])
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>{_percent_cell(part['top1'], chance, 'accent')}"
        f'<td class="number">{part["clips"]}</td>'
        f"<td>{html.escape(block['prompts'][name][0])}</td></tr>"
        for name, part in shown[:40]
    )
    more = f"<p class='hint'>{len(shown) - 40} more classes are in results.json.</p>"
    hint = (
        f"Each video gets the class whose prompts lie nearest. Top-1 {100 * block['top1']:.1f} % "
        f"(chance {100 * chance:.1f} %), top-5 {100 * block['top5']:.1f} % (chance "
        f"{100 * block['chance']['top5']:.1f} %), {block['pool_size']} clips, "
        f"{block['classes']} classes."
    )
    table = (
        '<div class="scroll"><table><thead><tr><th>class</th><th>top-1</th><th>clips</th>'
        f"<th>prompt</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return figures.card("Zero-shot classes", hint, table + (more if len(shown) > 40 else ""))


def _facts(run: RunInfo) -> str:
    description, settings = run.description, run.settings
    model, clip = description.get("model", {}), description.get("clip", {})
    head = model.get("head", {})
    widths = ("vat_dim",) if head.get("kind") == "shared" else ("va_dim", "vt_dim")
    audio = clip.get("audio")
    seconds = clip["samples"] / clip["sample_rate"] if audio and audio != "none" else None
    facts = [
        ("model", run.summary),
        ("common space", ", ".join(f"{k} {head[k]}" for k in ("kind", *widths) if k in head)),
        ("audio input", f"{audio}, {seconds:.2f} s" if seconds else audio),
        ("tokenizer", description.get("tokenizer", {}).get("kind")),
        ("training data", settings.get("TRAIN_DATA")),
        ("evaluation data", run.results.get("retrieval", {}).get("data")),
        ("batch size", settings.get("BATCH_SIZE")),
        ("seed", settings.get("SEED")),
    ]
    rows = "".join(
        f"<dt>{name}</dt><dd>{html.escape(str(value))}</dd>" for name, value in facts if value
    )
    hint = "All settings are in operative_config.gin, all numbers in results.json."
    return figures.card("Run", hint, f'<dl class="facts">{rows}</dl>') if rows else ""
