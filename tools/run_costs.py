"""Measures the cost of health checks, checkpoints and start of a run, and memory growth.

    python tools/run_costs.py --out=runs/costs

Trains the tiny configuration on the sample set: with and without guards in turn, then 5,000 steps
of a smaller batch for the memory. Prints a table and writes ``costs.json``. Needs a quiet machine.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from vatt_tf import cli

SAMPLE = [sys.executable, "-m", "vatt_tf.prepare", "--sample", "--quiet"]
TRAIN = [sys.executable, "-m", "vatt_tf.train", "--gin_file=tiny.gin"]
CONFIG = """
include 'tiny.gin'
TRAIN_DATA = '{shards}/train'
EVAL_DATA = None
STEPS = {steps}
BATCH_SIZE = 64
train.evaluate_every = 0
train.checkpoint_every = 100
"""


@contextmanager
def without_guards() -> Iterator[None]:
    """Disables the health checks, on the device and on the host."""
    from vatt_tf.training.gradients import contrastive as step
    from vatt_tf.training.monitoring import guards

    with (
        mock.patch.object(step, "_health", lambda *_: {}),
        mock.patch.object(guards.Guards, "check", lambda *_: []),
    ):
        yield


def train(shards: pathlib.Path, out: pathlib.Path, steps: int) -> tuple[list[float], list[float]]:
    """Trains in this process; returns seconds of every step and of every save."""
    import tensorflow as tf

    from vatt_tf import config
    from vatt_tf.training import callbacks as watch
    from vatt_tf.training import run
    from vatt_tf.training.saving import checkpoints
    from vatt_tf.training.tasks.config import TrainConfig

    gin_file = out.with_suffix(".gin")
    gin_file.write_text(CONFIG.format(shards=shards, steps=steps), encoding="utf-8")
    config.clear()
    config.import_configurables()
    config.parse([str(gin_file)], [])
    moments: list[float] = []
    saves: list[float] = []
    on_step, save = watch.Watch.step, checkpoints.RunCheckpointManager.save

    def timed_step(*arguments: object) -> None:
        moments.append(time.perf_counter())
        on_step(*arguments)

    def timed_save(*arguments: object, **named: object) -> str | None:
        begin = time.perf_counter()
        path = save(*arguments, **named)
        if path:
            saves.append(time.perf_counter() - begin)
        return path

    with (
        mock.patch.object(watch.Watch, "step", timed_step),
        mock.patch.object(checkpoints.RunCheckpointManager, "save", timed_save),
    ):
        run.run(TrainConfig(), str(out), tf.distribute.OneDeviceStrategy("/cpu:0"))
    shutil.rmtree(out)
    differences = [after - before for before, after in zip(moments, moments[1:], strict=False)]
    return differences[10:], saves


def memory(shards: pathlib.Path, out: pathlib.Path, steps: int) -> list[float]:
    """Measures MB of the process at every hundredth step of a run with small batches."""
    bindings = [f"TRAIN_DATA='{shards}/train'", "EVAL_DATA=None", f"STEPS={steps}", "BATCH_SIZE=4"]
    bindings += ["train.evaluate_every=0", "train.checkpoint_every=500", "train.log_every=100"]
    flags = [f"--gin_bindings={binding}" for binding in bindings]
    process = subprocess.Popen([*TRAIN, *flags, f"--run_dir={out}"], stderr=subprocess.DEVNULL)
    log, seen, found = out / "metrics.jsonl", 0, []
    while process.poll() is None:
        time.sleep(0.2)
        lines = log.read_text().count("\n") if log.exists() else 0
        if lines > seen:
            seen = lines
            pages = pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1]
            found.append(int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    if process.returncode:
        raise SystemExit(f"the run of {steps} steps ended with {process.returncode}")
    return found


def first_step(shards: pathlib.Path, out: pathlib.Path) -> float:
    """Measures seconds of a run of one step, with its save and the end of the process."""
    bindings = [f"TRAIN_DATA='{shards}/train'", "EVAL_DATA=None", "train.evaluate_every=0"]
    flags = [f"--gin_bindings={binding}" for binding in bindings]
    begin = time.perf_counter()
    subprocess.run([*TRAIN, *flags, f"--run_dir={out}", "--stop_at_step=1"], check=True)
    return time.perf_counter() - begin


def main() -> int:
    """Entry point."""
    flags = cli.ArgumentParser(description=__doc__)
    flags.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/costs"))
    flags.add_argument("--rounds", type=int, default=3, help="runs with and without guards")
    flags.add_argument("--memory_steps", type=int, default=5000)
    arguments = flags.parse_args()
    out = arguments.out.resolve()
    if out.exists():
        raise SystemExit(f"--out={out}: exists already; remove it, or give another folder")
    out.mkdir(parents=True)
    shards = out / "sample"
    subprocess.run([*SAMPLE, f"--out={shards}"], check=True)
    first_step(shards, out / "warm")  # reads the files of the installation once
    start = first_step(shards, out / "start")

    with_guards: list[float] = []
    bare: list[float] = []
    saves: list[float] = []
    for number in range(arguments.rounds):
        steps, took = train(shards, out / f"with_{number}", 210)
        with_guards += steps
        saves += took
        with without_guards():
            bare += train(shards, out / f"bare_{number}", 210)[0]
    step = statistics.median(bare)
    sizes = memory(shards, out / "memory", arguments.memory_steps)
    results = {
        "start_to_first_step_s": start,
        "step_ms": 1e3 * step,
        "guards_share": statistics.median(with_guards) / step - 1.0,
        "save_ms": 1e3 * statistics.median(saves),
        "checkpoint_share_every_100_steps": statistics.median(saves) / (100 * step),
        "memory_mb": sizes,
        # The first tenth fills caches and buffers.
        "memory_growth": sizes[-1] / sizes[len(sizes) // 10] - 1.0,
    }
    for name, value in results.items():
        if isinstance(value, float):
            print(f"{name:34} {value:.4g}")
    (out / "costs.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
