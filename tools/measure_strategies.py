"""Trains the same whole batches on 1, 2 and 4 replicas and on 2 workers, and compares them.

    python -m vatt_tf.prepare --sample --out=data/sample
    python tools/measure_strategies.py --weights=runs/quickstart

Runs the ordinary command four times, ten steps of 64 clips each, without dropout and DropToken
(whose masks differ by replica on purpose), and prints how far losses and weights are from those of
one device. Start from trained weights, which separate clips: at a random start BatchNorm magnifies
rounding errors until a ReLU opens or closes, see docs/scaling.md.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from vatt_tf import cli

PLACES = {
    "1 device": ["--strategy=one_device"],
    "2 replicas": ["--strategy=mirrored", "--logical_cpus=2"],
    "4 replicas": ["--strategy=mirrored", "--logical_cpus=4"],
    "2 workers": ["--workers=2"],
}
NO_CHANCE = [
    f"{tower}.{name}=0.0"
    for tower in ("video_tower", "audio_tower")
    for name in ("dropout_rate", "position_dropout_rate", "drop_token_rate")
] + ["text_tower.dropout_rate=0.0"]


def main() -> int:
    """Runs the command; returns the exit code."""
    flags = cli.ArgumentParser(prog="python tools/measure_strategies.py", description=__doc__)
    flags.add_argument("--gin_file", default="tiny.gin", help="configuration (default: tiny.gin)")
    flags.add_argument("--data", default="data/sample", help="prepared folder with train/ and val/")
    flags.add_argument("--steps", type=cli.positive, default=10)
    flags.add_argument(
        "--batch_size", type=cli.positive, default=64, help="a multiple of 4 (default: 64)"
    )
    flags.add_argument("--weights", help="run directory to start from (default: random weights)")
    arguments = flags.parse_args()
    cli.before_tensorflow()
    bindings = [
        *NO_CHANCE,
        f"TRAIN_DATA={arguments.data + '/train'!r}",
        f"EVAL_DATA={arguments.data + '/val'!r}",
        f"STEPS={arguments.steps}",
        f"BATCH_SIZE={arguments.batch_size}",
        f"MICRO_BATCH_SIZE={arguments.batch_size // 4}",  # the same products everywhere
        "learning_rate.peak=1e-4",
        "train.log_every=1",
        "train.evaluate_every=0",
    ]
    if arguments.weights:
        bindings.append(f"train.initial_weights={arguments.weights!r}")
    command = [sys.executable, "-m", "vatt_tf.train", f"--gin_file={arguments.gin_file}"]
    command += [f"--gin_bindings={binding}" for binding in bindings]
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for place, own in PLACES.items():
            run_dir = os.path.join(folder, place.replace(" ", "_"))
            subprocess.run([*command, *own, f"--run_dir={run_dir}"], check=True)
            runs[place] = run_dir
        _compare(runs)
    return 0


def _compare(runs: dict[str, str]) -> None:
    first = runs["1 device"]
    print("| place | first and last loss | largest difference of a loss | relative | of a weight |")
    print("|---|---|---|---|---|")
    for place, run_dir in runs.items():
        losses = _losses(run_dir)
        pairs = list(zip(_losses(first), losses, strict=True))
        absolute = max(abs(b - a) for a, b in pairs)
        relative = max(abs(b / a - 1) for a, b in pairs)
        weight = _largest_difference(first, run_dir)
        print(
            f"| {place} | {losses[0]:.7f}, {losses[-1]:.7f} | {absolute:.1e} | {relative:.1e} | "
            f"{weight:.1e} |"
        )


def _losses(run_dir: str) -> list[float]:
    lines = pathlib.Path(run_dir, "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [line["loss"] for line in found if line["kind"] == "train"]


def _largest_difference(first: str, other: str) -> float:
    """Largest difference over all weights, moving averages of BatchNorm included."""
    import numpy as np
    import tensorflow as tf

    from vatt_tf.models.io import newest_checkpoint

    one, two = (
        tf.train.load_checkpoint(newest_checkpoint(f"{folder}/checkpoints"))
        for folder in (first, other)
    )
    names = [name for name in one.get_variable_to_shape_map() if name.startswith("model/")]
    return max(float(np.abs(one.get_tensor(n) - two.get_tensor(n)).max()) for n in names)


if __name__ == "__main__":
    sys.exit(main())
