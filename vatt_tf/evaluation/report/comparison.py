"""Several runs side by side: the same evaluation of each as one table, JSON file or page."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vatt_tf.atomic import write_json
from vatt_tf.errors import UserError
from vatt_tf.evaluation.report.headline import headlines
from vatt_tf.output_folder import check_replaceable, marked
from vatt_tf.wording import WIDTH, shortened

if TYPE_CHECKING:
    from vatt_tf.evaluation.job import Evaluation

SUFFIXES = (".json", ".html")
_RUN_WIDTH = 40


def check_comparison(path: str, run_dirs: Sequence[str]) -> None:
    """Checks that the comparison can be written to a file, before anything is evaluated.

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
    titles = [" ".join(part for part in key[1:] if part) for key in keys]
    best = {}
    for key in keys:
        column = [ones[key] for ones in found.values() if key in ones]
        values = [one.value for one in column]
        best[key] = min(values) if column[0].lower_is_better else max(values)
    rows = []
    for run, ones in found.items():
        cells = []
        for key in keys:
            mark = "*" if key in ones and ones[key].value == best[key] and len(found) > 1 else ""
            cells.append(ones[key].text() + mark if key in ones else "-")
        rows.append((shortened(run, _RUN_WIDTH), cells))
    return "\n\n".join(_tables(titles, rows))


def _tables(titles: list[str], rows: list[tuple[str, list[str]]]) -> Iterator[str]:
    """One table, or several with some of the columns each where one is wider than a terminal."""
    width = max(len("run"), *(len(run) for run, _ in rows))
    widths = [max(9, len(title)) for title in titles]
    parts: list[list[int]] = [[]]
    for column in range(len(titles)):
        if width + sum(2 + widths[c] for c in [*parts[-1], column]) > WIDTH:
            parts.append([])
        parts[-1].append(column)
    for columns in filter(None, parts):
        lines = [
            "  ".join([f"{run:<{width}}", *(f"{cells[c]:>{widths[c]}}" for c in columns)])
            for run, cells in [("run", titles), *rows]
        ]
        yield "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def write_comparison_file(path: str, task: str, found: Mapping[str, Evaluation]) -> None:
    """Writes the comparison: the blocks as JSON, or the page of ``report.write_comparison``.

    Args:
        path: File that ends in .json or .html.
        task: The task.
        found: Run -> its evaluation; the page shows the embeddings and activations they kept.
    """
    if path.endswith(".html"):
        from vatt_tf.evaluation.report.page import write_comparison

        write_comparison(
            list(found),
            path,
            [one.embeddings for one in found.values()],
            [one.activations for one in found.values()],
        )
        return
    content = marked({"task": task, "runs": {run: one.block for run, one in found.items()}})
    write_json(path, content, indent=2, allow_nan=False)
