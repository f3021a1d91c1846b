"""The files of a run directory that say what the run is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from vatt_tf import config as gin_config
from vatt_tf.errors import UserError
from vatt_tf.models.io import CHECKPOINTS

CONFIG = "config.gin"
OPERATIVE_CONFIG = "operative_config.gin"
LOG = "train.log"

# Bindings that may differ when a run is continued: they change what is computed in no step.
_FREE = {"EVAL_DATA"} | {
    f"{run}.{name}"
    for run in ("train", "finetune")
    for name in (
        "log_every",
        "checkpoint_every",
        "checkpoint_minutes",
        "keep_checkpoints",
        "evaluate_every",
        "eval_data",
        "eval_windows",
        "patience",
        "max_damaged_share",
        "data_service",
        "guards",
    )
}


def start(run_dir: str) -> None:
    """Makes the folder and writes ``config.gin`` before the first step.

    A folder without a checkpoint holds nothing that another configuration could spoil.

    Raises:
        UserError: If the folder belongs to a run of another configuration; names the lines.
    """
    os.makedirs(run_dir, exist_ok=True)
    path = os.path.join(run_dir, CONFIG)
    text = gin_config.config_text()
    started = os.path.exists(os.path.join(run_dir, CHECKPOINTS, "checkpoint"))
    if started and os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            _check_same(path, gin_config.bindings_in(file.read()), gin_config.bindings_in(text))
    _write(path, text)


def write_operative_config(run_dir: str) -> None:
    """Writes the values that were used, once there are any."""
    path = os.path.join(run_dir, OPERATIVE_CONFIG)
    if not os.path.exists(path):
        _write(path, gin_config.operative_text())


@contextlib.contextmanager
def orbit_log(run_dir: str | None) -> Iterator[None]:
    """Sends what orbit prints to ``train.log``: the terminal belongs to the progress bar."""
    path = os.devnull if run_dir is None else os.path.join(run_dir, LOG)
    with open(path, "a", buffering=1, encoding="utf-8") as file, contextlib.redirect_stdout(file):
        yield


def _check_same(path: str, stored: dict[str, str], given: dict[str, str]) -> None:
    differing = [
        f"{name}: was {stored.get(name, 'not set')}, is {given.get(name, 'not set')}"
        for name in sorted(stored.keys() | given.keys())
        if stored.get(name) != given.get(name)
        and name not in _FREE
        and not name.startswith("guards.")
    ]
    if differing:
        raise UserError(
            f"{path}: this run was started with another configuration ({'; '.join(differing)}); "
            "use the same, or another --run_dir"
        )


def _write(path: str, text: str) -> None:
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.tmp", path)
