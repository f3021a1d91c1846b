"""Several runs side by side: the same evaluation of each as one table, JSON file or page."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vatt_tf.atomic import write_json
from vatt_tf.errors import UserError
from vatt_tf.evaluation.headline import headlines
from vatt_tf.output_folder import check_replaceable, marked

if TYPE_CHECKING:
    from vatt_tf.evaluation.job import Evaluation

SUFFIXES = (".json", ".html")


def check_comparison(path: str, run_dirs: Sequence[str]) -> None:
    """Refuses a file that the comparison cannot be written to, before anything is evaluated.

    Raises:
        UserError: If the name does not end in .json or .html, its folder is not there, or there
            is one run only; or if it exists and no comparison wrote it.
    """
    if len(run_dirs) < 2:
        raise UserError(f"--comparison={path}: give --run_dir twice or more, found {len(run_dirs)}")
    if pathlib.Path(path).suffix not in SUFFIXES:
        raise UserError(f"--comparison={path}: expected a file name that ends in .json or .html")
    if not pathlib.Path(path).parent.is_dir():
        raise UserError(f"--comparison={path}: there is no folder {pathlib.Path(path).parent}")
    check_replaceable(path, "--comparison")


def comparison_table(task: str, blocks: Mapping[str, Mapping[str, Any]]) -> str:
    """The numbers of one task as a table: a row per run, the best of each column marked with *.

    Args:
        task: The task.
        blocks: Run -> its block of results.json.
    """
    found = {run: {one.key: one for one in headlines({task: b})} for run, b in blocks.items()}
    keys = list(dict.fromkeys(key for ones in found.values() for key in ones))
    width = max(len("run"), *(len(run) for run in found))
    titles = [" ".join(part for part in key[1:] if part) for key in keys]
    lines = [f"{'run':<{width}}  " + "  ".join(f"{t:>9}" for t in titles)]
    lines.append("-" * len(lines[0]))
    best = {}
    for key in keys:
        column = [ones[key] for ones in found.values() if key in ones]
        values = [one.value for one in column]
        best[key] = min(values) if column[0].lower_is_better else max(values)
    for run, ones in found.items():
        cells = []
        for key, title in zip(keys, titles, strict=True):
            mark = "*" if key in ones and ones[key].value == best[key] and len(found) > 1 else ""
            text = ones[key].text() + mark if key in ones else "-"
            cells.append(f"{text:>{max(9, len(title))}}")
        lines.append(f"{run:<{width}}  " + "  ".join(cells))
    return "\n".join(lines)


def write_comparison_file(path: str, task: str, found: Mapping[str, Evaluation]) -> None:
    """Writes the comparison: the blocks as JSON, or the page of ``report.write_comparison``.

    Args:
        path: File that ends in .json or .html.
        task: The task.
        found: Run -> its evaluation; the page shows the embeddings and activations they kept.
    """
    if path.endswith(".html"):
        from vatt_tf.evaluation.report import write_comparison

        write_comparison(
            list(found),
            path,
            [one.embeddings for one in found.values()],
            [one.activations for one in found.values()],
        )
        return
    content = marked({"task": task, "runs": {run: one.block for run, one in found.items()}})
    write_json(path, content, indent=2, allow_nan=False)
