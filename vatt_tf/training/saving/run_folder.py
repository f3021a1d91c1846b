"""Files of a run directory: configuration, log, and the list of what a run writes."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

from vatt_tf import config as gin_config
from vatt_tf.atomic import write_text
from vatt_tf.errors import UserError
from vatt_tf.models.io import CHECKPOINTS
from vatt_tf.output_folder import OutputFolder, listed
from vatt_tf.wording import count_of

CONFIG = "config.gin"
OPERATIVE_CONFIG = "operative_config.gin"
LOG = "train.log"

# Bindings that may differ when a run resumes: no step computes anything else because of them.
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


# Where the clips of training come from: free as long as they are the same data set.
_DATA = {"TRAIN_DATA", "train.data", "finetune.data"}
_STEPS = {"STEPS", "train.steps", "finetune.steps"}
# Files and folders that a run writes; other commands add more.
_NAMES = (
    CONFIG,
    OPERATIVE_CONFIG,
    LOG,
    "model.json",
    "model.weights.h5",
    "tokenizer/",
    "data.json",
    f"{CHECKPOINTS}/",
    "metrics.jsonl",
    "tensorboard/",
    "damaged_records.json",
)
_BEST = "best/"
# What earlier versions left of weights whose saving was killed.
_EARLIER_PARTIAL = ".partial-*.weights.h5"
# Files that a shell or a scheduler may have put into the run directory before the start.
_LOG_SUFFIXES = (".log", ".out", ".err", ".txt")


def check(run_dir: str, keeps_best: bool = True) -> None:
    """Checks that a folder is a run directory or empty; changes nothing.

    Args:
        run_dir: The folder.
        keeps_best: Whether the run evaluates and keeps its best weights.

    Raises:
        UserError: The folder holds what no run wrote.
    """
    _names(run_dir, keeps_best).check(_needed(keeps_best))


def start(run_dir: str, keeps_best: bool = True, same_data: bool = False) -> list[str]:
    """Makes the folder and writes ``config.gin`` before the first step.

    A folder without a checkpoint holds nothing that another configuration could spoil.

    Args:
        run_dir: The folder.
        keeps_best: Whether the run evaluates and keeps its best weights.
        same_data: Whether the training data are verified to be those of before (or meant to be
            others): their path may differ then.

    Returns:
        Notes for the user.

    Raises:
        UserError: If the folder belongs to a run of another configuration (names the lines), or is
            something else than a run.
    """
    files = _names(run_dir, keeps_best)
    files.check(_needed(keeps_best))
    path = os.path.join(run_dir, CONFIG)
    text = gin_config.config_text()
    started = os.path.exists(os.path.join(run_dir, CHECKPOINTS, "checkpoint"))
    notes = []
    if started and os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            stored = gin_config.bindings_in(file.read())
        notes = _check_same(path, stored, gin_config.bindings_in(text), same_data)
    files.claim(_needed(keeps_best))
    files.remove_temporary()
    for partial in files.path.glob(_EARLIER_PARTIAL):
        partial.unlink()
    write_text(path, text)
    return notes


def _needed(keeps_best: bool) -> list[str]:
    return [*_NAMES, _BEST] if keeps_best else list(_NAMES)


def _names(run_dir: str, keeps_best: bool) -> OutputFolder:
    """List of the files that runs wrote into a folder.

    Raises:
        UserError: The folder holds something, and no run.
    """
    files = OutputFolder(run_dir, "train", "--run_dir")
    if files or not files.path.is_dir():
        return files
    if _is_earlier_run(files.path):
        files.adopt(_needed(keeps_best))
        return files
    others = [
        path.name
        for path in sorted(files.path.iterdir())
        if not path.name.startswith(".") and path.suffix not in _LOG_SUFFIXES
    ]
    if others:
        raise UserError(
            f"--run_dir={run_dir}: is not the folder of a run; it holds {listed(others)}. Nothing "
            "was changed: give a new folder"
        )
    return files


def _is_earlier_run(folder: pathlib.Path) -> bool:
    """Whether the folder holds a run of an earlier version, which kept no list of files."""
    try:
        with open(folder / CONFIG, encoding="utf-8") as file:
            return file.readline().startswith("# vatt_tf ")
    except (OSError, UnicodeDecodeError):
        return False


def write_operative_config(run_dir: str) -> None:
    """Writes the parameter values in use, once (gin has them after the first step)."""
    path = os.path.join(run_dir, OPERATIVE_CONFIG)
    if not os.path.exists(path):
        write_text(path, gin_config.operative_text())


@contextlib.contextmanager
def orbit_log(run_dir: str | None) -> Iterator[None]:
    """Redirects the output of orbit to ``train.log``: it would break the progress bar."""
    path = os.devnull if run_dir is None else os.path.join(run_dir, LOG)
    with open(path, "a", buffering=1, encoding="utf-8") as file, contextlib.redirect_stdout(file):
        yield


def _check_same(
    path: str, stored: dict[str, str], given: dict[str, str], same_data: bool
) -> list[str]:
    """Checks that no binding changes what the run computes; returns notes on permitted changes."""
    differing, notes = [], []
    for name in sorted(stored.keys() | given.keys()):
        was, now = stored.get(name, "not set"), given.get(name, "not set")
        if was == now or name in _FREE or name.startswith("guards."):
            continue
        if same_data and (name in _DATA or name.endswith("data_source.path")):
            continue
        if name in _STEPS and was.isdigit() and now.isdigit() and int(now) > int(was):
            notes.append(
                f"{name} was {was}, is {now}: the run goes on; from here on its learning rates "
                f"are those of a schedule over {count_of(int(now), 'step')}"
            )
            continue
        differing.append(f"{name}: was {was}, is {now}")
    if differing:
        raise UserError(
            f"{path}: this run was started with another configuration ({'; '.join(differing)}); "
            "use the same, or another --run_dir"
        )
    return notes
