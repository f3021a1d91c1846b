"""The numbers of a run directory: results.json holds the newest block of each task."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from vatt_tf.errors import UserError


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


def merge_results(path: pathlib.Path, task: str, block: dict[str, Any]) -> None:
    """Puts ``block`` under ``task`` in results.json; the block it replaces moves to "history".

    The file is written to a temporary name and renamed. An unreadable results.json is an error: it
    may hold numbers that took days.

    Raises:
        UserError: If the file is there and is not a JSON object.
    """
    results = read_results(path)
    if task in results:
        results.setdefault("history", []).append(results[task])
    results[task] = block
    # The newest blocks first, the history last.
    history = results.pop("history", None)
    if history:
        results["history"] = history
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n", "utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
