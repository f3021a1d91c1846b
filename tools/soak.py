"""Soak test: kills runs with SIGKILL at random times, restarts them, and compares the results.

    python tools/soak.py --kills=100 --out=runs/soak

Three kinds of kills: a training at any moment, a training while it writes a checkpoint, and the
preparation of shards. A run that is killed over and over must end with the bits of one that was
not: weights, optimizer, metrics; shards and manifest. Prints a table and writes ``soak.json``.
"""

from __future__ import annotations

import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from vatt_tf import cli

CONFIG = """
include 'tiny.gin'
TRAIN_DATA = '{shards}/train'
EVAL_DATA = '{shards}/val'
STEPS = 40
BATCH_SIZE = 4
train.log_every = 5
train.checkpoint_every = 5
train.evaluate_every = 20
# As small as a run can be: most of a life is the start of the process.
video_tower.num_layers = 1
audio_tower.num_layers = 1
text_tower.num_layers = 1
"""


class Command:
    """Command line that is run to its end or killed."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.name, self._arguments = name, [sys.executable, "-m", *arguments]

    def start(self) -> subprocess.Popen:
        """Starts it in its own process group."""
        return subprocess.Popen(
            self._arguments,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # kills the worker processes of prepare too
        )

    def finish(self) -> float:
        """Runs to the end; returns the seconds that it took."""
        begin = time.monotonic()
        process = self.start()
        error = process.communicate()[1]
        if process.returncode:
            raise SystemExit(f"{self.name}: exit code {process.returncode}\n{error.decode()}")
        return time.monotonic() - begin


def kill_at(process: subprocess.Popen, moment: Callable[[], bool]) -> bool:
    """Kills once ``moment()`` is true; returns whether the process was still running."""
    while process.poll() is None:
        if moment():
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return process.returncode == -signal.SIGKILL
        time.sleep(0.002)
    error = process.communicate()[1]
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}\n{error.decode()}")
    return False


def after(seconds: float) -> Callable[[], bool]:
    """Returns a condition that becomes true so many seconds from now."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def in_a_save(run_dir: pathlib.Path, delay: float) -> Callable[[], bool]:
    """Returns a condition that becomes true ``delay`` seconds after a save has begun."""
    seen = {path.name for path in (run_dir / "checkpoints").glob("*")}
    begun: list[float] = []

    def moment() -> bool:
        new = [p for p in (run_dir / "checkpoints").glob("*") if p.name not in seen]
        if new and not begun:
            begun.append(time.monotonic())
        return bool(begun) and time.monotonic() >= begun[0] + delay

    return moment


def weights(run_dir: pathlib.Path) -> str:
    """Checksum of the last checkpoint."""
    import tensorflow as tf

    from vatt_tf.models.io import newest_checkpoint

    reader = tf.train.load_checkpoint(newest_checkpoint(run_dir / "checkpoints"))
    digest = hashlib.sha256()
    for key in sorted(reader.get_variable_to_shape_map()):
        if "save_counter" not in key and not key.startswith("_CHECK"):
            digest.update(key.encode() + reader.get_tensor(key).tobytes())
    return digest.hexdigest()


def losses(run_dir: pathlib.Path) -> list[tuple[int, float]]:
    """Step and loss of every log line."""
    with open(run_dir / "metrics.jsonl", encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    return [(line["step"], line["loss"]) for line in found if line["kind"] == "train"]


def shards(folder: pathlib.Path) -> dict[str, str]:
    """Checksums of all shards and dataset indexes: no record is lost or doubled."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".tfrecord", ".csv"))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def soak(
    command: Callable[[pathlib.Path], Command],
    out: pathlib.Path,
    look: Callable[[pathlib.Path], Any],
    kills: int,
    moment: Callable[[pathlib.Path, float], Callable[[], bool]],
) -> dict[str, Any]:
    """Kills ``command`` so many times; a new folder after each finished run.

    Args:
        command: From the folder of its output to the command.
        out: Folder of the killed runs.
        look: From a folder to the compared value.
        kills: Number of kills.
        moment: From the folder and the seconds of a whole run to the condition of the kill.
    """
    reference = out / "whole"
    seconds = command(reference).finish()
    expected = look(reference)
    done, finished, equal = 0, 0, 0
    while True:
        victim = out / f"victim_{finished}"
        while done < kills:
            if not kill_at(command(victim).start(), moment(victim, seconds)):
                seconds *= 0.9  # faster than when it was timed, because other load has ended
                break
            done += 1
            print(f"{out.name}: {done} of {kills} kills", file=sys.stderr, flush=True)
        command(victim).finish()
        finished += 1
        equal += look(victim) == expected
        if look(victim) != expected:
            print(f"{victim}: differs from {reference}", file=sys.stderr)
        else:
            shutil.rmtree(victim)
        if done >= kills:
            return {"kills": done, "finished": finished, "equal": equal, "seconds": seconds}


def main() -> int:
    """Entry point; returns 0 if all killed runs equal an uninterrupted one."""
    flags = cli.ArgumentParser(description=__doc__)
    flags.add_argument("--kills", type=int, default=100, help="over all three kinds")
    flags.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/soak"))
    flags.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = flags.parse_args()
    out, rng = arguments.out.resolve(), random.Random(arguments.seed)
    if out.exists():
        raise SystemExit(f"--out={out}: exists already; remove it, or give another folder")
    out.mkdir(parents=True)
    sample = out / "sample"
    Command("sample", "vatt_tf.prepare", "--sample", f"--out={sample}", "--quiet").finish()
    gin_file = out / "soak.gin"
    gin_file.write_text(CONFIG.format(shards=sample), encoding="utf-8")

    def train(folder: pathlib.Path) -> Command:
        return Command("train", "vatt_tf.train", f"--gin_file={gin_file}", f"--run_dir={folder}")

    def prepare(folder: pathlib.Path) -> Command:
        return Command("prepare", "vatt_tf.prepare", "--sample", f"--out={folder}", "--quiet")

    def run_state(folder: pathlib.Path) -> tuple:
        return weights(folder), losses(folder)

    def any_moment(_: pathlib.Path, seconds: float):
        return after(rng.uniform(0.3, 1.0) * seconds)

    def while_saving(folder: pathlib.Path, _: float):
        return in_a_save(folder, rng.choice([0.0, 0.002, 0.01, 0.03]))

    count = collections.Counter(number % 3 for number in range(arguments.kills))
    kinds = {
        "training": (train, run_state, any_moment),
        "saving": (train, run_state, while_saving),
        "preparing": (prepare, shards, any_moment),
    }
    with concurrent.futures.ThreadPoolExecutor(len(kinds)) as pool:
        waiting = {
            name: pool.submit(soak, command, out / name, look, count[number], moment)
            for number, (name, (command, look, moment)) in enumerate(kinds.items())
        }
        results = {name: future.result() for name, future in waiting.items()}
    for name, found in results.items():
        runs = f"{found['equal']} of {found['finished']} runs equal"
        print(f"{name:10} {found['kills']:4} kills, {runs}")
    with open(out / "soak.json", "w", encoding="utf-8") as file:
        json.dump(results, file, indent=2)
    return int(any(found["equal"] != found["finished"] for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())
