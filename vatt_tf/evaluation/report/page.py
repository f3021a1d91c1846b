"""Writes report.html: the curves and numbers of a run in one file that needs nothing else."""

from __future__ import annotations

import dataclasses
import datetime
import html
import os
import pathlib
from collections.abc import Sequence

from vatt_tf.atomic import write_text
from vatt_tf.errors import UserError
from vatt_tf.evaluation.collect.activations import Activations
from vatt_tf.evaluation.collect.embeddings import EmbeddingSet
from vatt_tf.evaluation.collect.predictions import Predictions
from vatt_tf.evaluation.report import elements, figures
from vatt_tf.evaluation.report.headline import headlines
from vatt_tf.evaluation.report.run_info import RunInfo, read_run, train_seconds
from vatt_tf.evaluation.report.sections import activations as unit_activations
from vatt_tf.evaluation.report.sections import (
    classification,
    comparison,
    curves,
    maps,
    retrieval_examples,
    tables,
)
from vatt_tf.evaluation.report.sections import predictions as examples
from vatt_tf.evaluation.report.style import CSS
from vatt_tf.evaluation.report.verdict import verdict
from vatt_tf.output_folder import PAGE_MARK

# (task, metric) -> name of its tile.
SHOWN_FIRST = {
    ("classify", "top-1"): "top-1",
    ("classify", "mAP"): "mAP",
    ("probe", "top-1"): "probe top-1",
    ("probe", "mAP"): "probe mAP",
    ("retrieval", "R@10"): "R@10",
    ("zero_shot", "top-1"): "zero-shot top-1",
}


def write_report(
    run_dir: str | os.PathLike,
    evaluation: EmbeddingSet | None = None,
    predictions: Predictions | None = None,
    activations: Activations | None = None,
) -> pathlib.Path:
    """Writes ``<run_dir>/report.html`` from the files of a run directory.

    Curves come from metrics.jsonl, tables from results.json; both may be missing. The other figures
    need the outputs of an evaluation.

    Args:
        run_dir: Run directory.
        evaluation: Embeddings of the evaluated clips, for similarities, maps and retrieval
            examples; with ``strips`` the examples have pictures.
        predictions: Predictions of a classifier, for its examples; likewise.
        activations: Tokens, features and unit activations, for the input space, the map of the
            classes and the units of a shared backbone.

    Returns:
        Path of the file. It is written to a temporary name and renamed.
    """
    run_dir = pathlib.Path(run_dir)
    run = read_run(run_dir)
    inputs = None if activations is None else activations.clips
    sections = [
        elements.tiles(_tiles(run)),
        _alarms(run),
        classification.classification(run),
        classification.probes(run),
        tables.retrieval(run),
        tables.zero_shot(run),
        curves.section(run),
    ]
    if predictions is not None:
        sections.append(examples.section(predictions))
    if evaluation is not None:
        sections += [retrieval_examples.section(evaluation), maps.similarities(evaluation, inputs)]
        sections.append(maps.tsne(evaluation, activations))
    if inputs is not None and any(inputs.labels):
        sections.append(maps.classes(inputs))
    if activations is not None:
        sections.append(unit_activations.section(activations.units))
    sections.append(_facts(run))
    sentences = verdict(run.results, run.description)
    return _write_page(run_dir / "report.html", run.name, run.summary, sections, sentences)


def write_comparison(
    run_dirs: Sequence[str | os.PathLike],
    path: str | os.PathLike,
    evaluations: Sequence[EmbeddingSet | None] = (),
    activations: Sequence[Activations | None] = (),
) -> pathlib.Path:
    """Writes one page that shows several runs side by side.

    Args:
        run_dirs: Run directories, two or more.
        path: File to write.
        evaluations: Embeddings of the same clips by each run, for maps side by side; or none.
        activations: Those of the towers of each run for these clips; or none.

    Returns:
        Path of the file. It is written to a temporary name and renamed.

    Raises:
        UserError: If there are fewer than two runs.
    """
    if len(run_dirs) < 2:
        raise UserError(f"a comparison needs two runs or more, got {len(run_dirs)}")
    runs = named_apart([read_run(pathlib.Path(folder)) for folder in run_dirs])
    rows = []
    for i, run in enumerate(runs):
        evaluation = evaluations[i] if evaluations else None
        looked = activations[i] if activations else None
        inputs = None if looked is None else looked.clips
        charts = maps.modality_maps(evaluation, looked)
        if evaluation is None and inputs is not None and any(inputs.labels):
            charts = maps.class_maps(inputs)
        if any(charts):
            rows.append(f"<h3>{html.escape(run.name)}</h3>{elements.grid(charts, 'small')}")
    hint = "The same clips by each run. Every mark is one clip. Axes have no unit."
    sections = [
        comparison.section(runs),
        curves.overlaid(runs),
        elements.card("Maps (t-SNE)", hint, "".join(rows)),
    ]
    return _write_page(pathlib.Path(path), "Comparison", f"{len(runs)} runs", sections)


def named_apart(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """Names of runs: that of the folder, with the one above it where two are equal."""
    names = [run.name for run in runs]
    return [
        dataclasses.replace(run, name=f"{run.folder.parent.name}/{run.name}")
        if names.count(run.name) > 1
        else run
        for run in runs
    ]


def _write_page(
    path: pathlib.Path,
    title: str,
    lead: str,
    sections: Sequence[str],
    sentences: Sequence[str] = (),
) -> pathlib.Path:
    title = html.escape(title)
    words = f'<p class="verdict">{html.escape(" ".join(sentences))}</p>' if sentences else ""
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'{PAGE_MARK}<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} - vatt_tf report</title><style>{CSS}</style></head><body><main>"
        f'<header><h1>{title}</h1>{words}<p class="lead">{html.escape(lead)}</p></header>'
        + "".join(sections)
        + f"<footer>vatt_tf report, {made}</footer></main></body></html>\n"
    )
    write_text(path, page)
    return path


def _tiles(run: RunInfo) -> list[tuple[str, str, str]]:
    """The first numbers of each task and the size of the run."""
    tiles = []
    numbers = [one for one in headlines(run.results) if (one.task, one.name) in SHOWN_FIRST]
    probes = [one for one in numbers if one.task == "probe"]
    best = max(probes, key=lambda one: one.value, default=None)
    for one in numbers:
        others = one.task == "probe" and one is not best
        if not others and (one.task != "retrieval" or one.group.endswith("to video")):
            name = f"{SHOWN_FIRST[one.task, one.name]}{', ' if one.group else ''}{one.group}"
            note = "" if one.chance is None else f"chance {one.text(one.chance)}"
            tiles.append((name.replace("_", " "), one.text(), f"{note}, pool {one.pool}"))
    if run.train_lines:
        tiles.append(("steps", f"{run.train_lines[-1]['step']:,}", _batch_note(run)))
        seconds = train_seconds(run.train_lines)
        if seconds:
            tiles.append(("training time", _duration(seconds), "as logged"))
    if run.parameters:
        tiles.append(("parameters", figures.rounded(run.parameters), ""))
    return tiles


def _alarms(run: RunInfo) -> str:
    """Section with the alerts of the health checks, at the top of the page."""
    rows = [
        f"<tr><td>{line['step']:,}</td><td>{html.escape(line['guard'])}</td>"
        f"<td>{html.escape(line['message'])}</td></tr>"
        for line in run.alarms
    ]
    hint = "Alerts of the health checks during training; docs/reliability.md lists the remedies."
    body = elements.table(("step", "guard", "complaint"), rows) if rows else ""
    return elements.card("Alarms", hint, body)


def _batch_note(run: RunInfo) -> str:
    batch = run.settings.get("BATCH_SIZE")
    return f"batch {batch}" if batch else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _evaluation_data(run: RunInfo) -> list[str]:
    blocks = (block for block in run.results.values() if isinstance(block, dict))
    return list(dict.fromkeys(block["data"] for block in blocks if "data" in block))


def _facts(run: RunInfo) -> str:
    """Section with the settings of the run."""
    description, settings = run.description, run.settings
    model, clip = description.get("model", {}), description.get("clip", {})
    head = model.get("head", {})
    audio = clip.get("audio")
    seconds = clip["samples"] / clip["sample_rate"] if audio and audio != "none" else None
    facts = [
        ("model", run.summary),
        ("common space", ", ".join(f"{k} {v}" for k, v in head.items() if v is not None)),
        ("audio input", f"{audio}, {seconds:.2f} s" if seconds else audio),
        ("tokenizer", (description.get("tokenizer") or {}).get("kind")),
        ("classes", ", ".join(description.get("labels") or ())),
        ("training data", settings.get("TRAIN_DATA")),
        ("evaluation data", ", ".join(_evaluation_data(run))),
        ("batch size", settings.get("BATCH_SIZE")),
        ("seed", settings.get("SEED")),
    ]
    rows = "".join(
        f"<dt>{name}</dt><dd>{html.escape(str(value))}</dd>" for name, value in facts if value
    )
    hint = "All settings are in operative_config.gin, all numbers in results.json."
    return elements.card("Run", hint, f'<dl class="facts">{rows}</dl>') if rows else ""
