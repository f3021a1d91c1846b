"""Cached training and evaluation runs for the tables of docs/results.md."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import shutil
import statistics
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lanes import Lanes

from vatt_tf.atomic import write_json
from vatt_tf.output_folder import OutputFolder

Row = dict[str, float]

# Narrated digits: fraction of clips whose first hit shows the same digit.
BY_CLASS: dict[str, tuple[str, ...]] = {
    "audio to video, class": ("by_class", "audio_to_video", "precision@1"),
    "video to audio, class": ("by_class", "video_to_audio", "precision@1"),
    "video to text, class": ("by_class", "video_to_text", "precision@1"),
}


def measured(
    designs: Mapping[str, Callable[[pathlib.Path, int], Row]],
    out: pathlib.Path,
    seeds: int,
    together: int,
) -> dict[str, list[Row]]:
    """Rows of each design, one for each seed.

    Args:
        designs: Function that measures each, given its folder and a seed.
        out: Folder of the runs and of ``rows.json``, whose rows are not measured again.
        seeds: Number of seeds, from 0.
        together: Number of concurrent measurements.
    """
    file = out / "rows.json"
    rows: dict[str, dict[str, Row]] = json.loads(file.read_text()) if file.exists() else {}
    for name in designs:
        rows.setdefault(name, {})
    lock = threading.Lock()

    def row_of(name: str, seed: int) -> Row:
        if str(seed) not in rows[name]:
            folder = out / f"{name.lower().replace(', ', '_').replace(' ', '_')}_{seed}"
            with lock:  # a folder of this name without the tool's files belongs to somebody else
                OutputFolder(out, "experiments").claim([f"{folder.name}/", file.name])
            # An interrupted run starts anew, since its time is measured, too.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            row = designs[name](folder, seed)
            with lock:
                rows[name][str(seed)] = row
                write_json(file, rows)
        return rows[name][str(seed)]

    with concurrent.futures.ThreadPoolExecutor(together) as pool:
        tasks = [(name, seed) for seed in range(seeds) for name in designs]
        futures = {task: pool.submit(row_of, *task) for task in tasks}
        return {name: [futures[name, seed].result() for seed in range(seeds)] for name in designs}


def train(
    lanes: Lanes, folder: pathlib.Path, gin_file: str, bindings: Sequence[str], seed: int
) -> float:
    """Trains ``folder/run`` on a small data set; returns the processor seconds."""
    bindings = [*bindings, f"SEED={seed}", "train.evaluate_every=0"]
    arguments = [f"--gin_file=examples/{gin_file}", f"--run_dir={folder}/run"]
    arguments += [f"--gin_bindings={binding}" for binding in bindings]
    return lanes.run("train", arguments, folder / "log.txt")


def evaluate(
    lanes: Lanes, folder: pathlib.Path, run: pathlib.Path, task: str, *flags: str
) -> dict[str, Any]:
    """Returns the results of ``vatt_tf.evaluate``."""
    arguments = [f"--run_dir={run}", f"--task={task}", *flags]
    lanes.run("evaluate", arguments, folder / "log.txt")
    return json.loads((run / "results.json").read_text())[task]


def percent(results: Mapping[str, Any], path: Sequence[str]) -> float:
    """Returns the fraction under these keys of nested results, in percent."""
    value: Any = results
    for key in path:
        value = value[key]
    return 100 * value


def over_seeds(rows: Sequence[Mapping[str, float]], name: str, digits: int = 1) -> str:
    """Formats mean and standard deviation for a table cell."""
    values = [row[name] for row in rows]
    mean, deviation = statistics.mean(values), statistics.pstdev(values)
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def head(columns: Sequence[str]) -> str:
    """First two lines of a Markdown table."""
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
