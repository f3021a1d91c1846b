"""Progress bar and ``metrics.jsonl`` of a run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from vatt_tf.atomic import write_text
from vatt_tf.progress_bar import progress_bar

_METRICS = "metrics.jsonl"


class ProgressBar:
    """Progress bar on standard error: step, loss, clips/s, remaining time.

    Args:
        first_step: Steps already done.
        last_step: Steps of the whole run.
        batch_size: Clips of a step.
        visible: Whether to draw it: not on other workers than the first, and not with ``--quiet``.
    """

    def __init__(self, first_step: int, last_step: int, batch_size: int, visible: bool) -> None:
        self._batch_size = batch_size
        self._bar = progress_bar(
            "training", last_step, "steps", initial=first_step, quiet=not visible
        )

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Moves the bar to ``step``."""
        rate = self._bar.format_dict["rate"]
        clips = f"{rate * self._batch_size:.1f}" if rate else "?"
        self._bar.set_postfix_str(f"loss {metrics['loss']:.3f}, {clips} clips/s", refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Leaves the finished bar on the screen."""
        self._bar.close()


class MetricsLog:
    """Appends one JSON object per line to ``metrics.jsonl``.

    After a crash the file may hold lines of steps that the run repeats: they are cut off when it
    is opened at a step.
    """

    def __init__(self, run_dir: str, step: int) -> None:
        self._path = os.path.join(run_dir, _METRICS)
        kept = [line for line in _lines(self._path) if line.get("step", 0) <= step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Adds a line of ``kind`` ``"train"``, ``"eval"`` or ``"alarm"``."""
        line = {"step": step, "kind": kind, "time": time.time(), **values}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def last_evaluation(run_dir: str, step: int) -> int:
    """Step of the last evaluation that ``metrics.jsonl`` holds up to ``step``; 0 if none."""
    found = [line for line in _lines(os.path.join(run_dir, _METRICS)) if line.get("kind") == "eval"]
    return max((line["step"] for line in found if line["step"] <= step), default=0)


def _lines(path: str) -> list[dict]:
    if not os.path.exists(path):
        return []
    found = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:  # the line that a crash cut short
                continue
    return found
