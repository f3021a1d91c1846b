"""Results of a run directory: results.json holds the newest block of each task."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from vatt_tf.atomic import write_json
from vatt_tf.data.shards.provenance import DataSet, data_sets, differences, known, read_data
from vatt_tf.errors import UserError
from vatt_tf.evaluation.job import TASKS
from vatt_tf.output_folder import PAGE_MARK, OutputFolder
from vatt_tf.wording import wrapped

RESULTS, REPORT = "results.json", "report.html"
# Results of --limit, which do not replace full ones.
LIMITED = "limited"
_EARLIER_PAGE = "<footer>vatt_tf report, "


def claim_files(folder: pathlib.Path, report: bool) -> None:
    """Registers the files of an evaluation in the list of the run directory.

    Raises:
        UserError: Files of these names are there that no evaluation wrote.
    """
    names = [RESULTS, REPORT] if report else [RESULTS]
    files = OutputFolder(folder, "evaluate", "--run_dir")
    files.adopt([name for name in names if _is_earlier(folder / name)])
    files.claim(names)


def _is_earlier(path: pathlib.Path) -> bool:
    """Whether the file is of an earlier version, which kept no list of files."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    if path.name == REPORT:
        return PAGE_MARK in text or _EARLIER_PAGE in text
    try:
        content = json.loads(text)
    except ValueError:
        return False
    blocks = content if isinstance(content, dict) else {}
    return bool(blocks) and all(
        name in (*TASKS, "history", LIMITED)
        and (name not in TASKS or (isinstance(block, dict) and "task" in block))
        for name, block in blocks.items()
    )


def compared_data(run_dir: pathlib.Path, source: Any) -> tuple[list[DataSet], list[DataSet]]:
    """Data sets of the training (where the run has recorded them) and of the evaluation."""
    return read_data(run_dir), data_sets(source.path, ())


def data_lines(trained: list[DataSet], evaluated: list[DataSet]) -> str:
    """Formats both for the terminal."""
    if not trained:
        return f"trained on   unknown data\n{wrapped(f'evaluated on {_names(evaluated)}')}"
    same = not differences(trained, evaluated) if known(trained) and known(evaluated) else None
    how = {True: " (the same data set)", False: " (another data set)", None: ""}[same]
    lines = (f"trained on   {_names(trained)}", f"evaluated on {_names(evaluated)}{how}")
    return "\n".join(map(wrapped, lines))


def _names(sets: list[DataSet]) -> str:
    return " and ".join(map(str, sets))


def read_results(path: pathlib.Path) -> dict[str, Any]:
    """Reads results.json; empty when there is none.

    Raises:
        UserError: If the file is there and is not a JSON object.
    """
    if not path.exists():
        return {}
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); move it away") from error
    if not isinstance(results, dict):
        raise UserError(f"{path}: expected a JSON object, found a {type(results).__name__}")
    return results


def merge_results(path: pathlib.Path, task: str, block: dict[str, Any]) -> bool:
    """Stores ``block`` under ``task`` in results.json; a replaced block moves to "history".

    A block of --limit does not replace a full one: it is put under "limited". The file is written
    to a temporary name and renamed. An unreadable results.json is an error: it may hold numbers
    that took days.

    Returns:
        Whether the block is the task's own now, and not under "limited".

    Raises:
        UserError: If the file is there and is not a JSON object.
    """
    results = read_results(path)
    limited = bool(block.get("limit"))
    if limited and task in results and not results[task].get("limit"):
        results.setdefault(LIMITED, {})[task] = block
    else:
        if task in results:
            results.setdefault("history", []).append(results[task])
        results[task] = block
    # The newest blocks first, the history last.
    history = results.pop("history", None)
    if history:
        results["history"] = history
    write_json(path, results, indent=2, allow_nan=False)
    return results[task] is block
