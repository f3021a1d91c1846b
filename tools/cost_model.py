"""Fits time and memory of a training step to frames, pixels, tokens, batch and model.

    python tools/cost_model.py --out=runs/cost_model

Measures steps of several configurations (``vatt_tf.benchmark``, each in a process of its own), fits
time and memory to predictors (FLOPs, activations, weights), and checks the fit on held-out
configurations. Prints a table and writes ``cost_model.json``. Needs a quiet
machine. ``tools/scaling_table.py`` computes the cost of replicas.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

from vatt_tf import cli
from vatt_tf.atomic import write_json

SMALL = (
    "video_tower.num_layers=4",
    "audio_tower.num_layers=4",
    "video_tower.frames=16",
    "video_tower.image_size=(112, 112)",
    "BATCH_SIZE=4",
)
FITTED = {
    "four layers, 16 x 112 x 112, 4 clips": SMALL,
    "32 frames": (*SMALL, "video_tower.frames=32"),
    "160 x 160 pixels": (*SMALL, "video_tower.image_size=(160, 160)"),
    "no DropToken for video": (*SMALL, "video_tower.drop_token_rate=0.0"),
    "12 clips": (*SMALL, "BATCH_SIZE=12"),
    "8 clips, 4 at a time": (*SMALL, "BATCH_SIZE=8", "MICRO_BATCH_SIZE=4"),
    "12 layers for video": (*SMALL, "video_tower.num_layers=12"),
    "half the sound": (*SMALL, "audio_tower.samples=76800"),
    "32 x 160 x 160": (
        *SMALL,
        "video_tower.frames=32",
        "video_tower.image_size=(160, 160)",
    ),
}
UNSEEN = {
    "24 x 144 x 144, 6 clips": (
        *SMALL,
        "video_tower.frames=24",
        "video_tower.image_size=(144, 144)",
        "BATCH_SIZE=6",
    ),
    "BBS, 2 clips": ("BATCH_SIZE=2",),
}


def known(bindings: Sequence[str]) -> dict[str, float]:
    """Predictors of a configuration's cost, in TFLOP, GB and billions."""
    from vatt_tf import config as gin_config
    from vatt_tf.benchmarking.batches import read_config
    from vatt_tf.models.flops import step_flops
    from vatt_tf.training.estimate import memory_bytes
    from vatt_tf.training.tasks.registry import count_parameters

    gin_config.clear()
    config = read_config(["bbs.gin"], ["TRAIN_DATA='none'", *bindings])
    batch, micro = config.sizes(1)
    parameters = count_parameters(config)
    passes = 1.0 if micro == batch else 4.0 / 3.0
    flops = passes * step_flops(config.model_config, batch, texts=config.clip.texts)["total"]
    memory = memory_bytes(config, parameters, 1)
    return {
        "tflop": flops / 1e12,
        "passing": passes * batch / micro * memory["activations"] / 1e9,
        "weights": parameters["trainable"] / 1e9,
        "held": (memory["state"] + memory["batch"]) / 1e9,
        "peak": memory["peak"] / 1e9,
    }


def measured(bindings: Sequence[str], out: pathlib.Path, rounds: int) -> tuple[float, float]:
    """Measures seconds and peak GB of a step."""
    command = [
        sys.executable, "-m", "vatt_tf.benchmark", "--gin_file=bbs.gin", "--parts=step",
        f"--rounds={rounds}", f"--out={out}",
    ]  # fmt: skip
    command += [f"--gin_bindings={binding}" for binding in bindings]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (row,) = (r for r in json.loads(out.read_text())["rows"] if r["part"] == "step")
    return row["seconds"], row["peak_bytes"] / 1e9


def main() -> None:
    """Measures, fits and checks."""
    parser = cli.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/cost_model", help="folder of the figures")
    parser.add_argument("--rounds", type=int, default=3, help="measured steps")
    flags = parser.parse_args()
    folder = pathlib.Path(flags.out)
    folder.mkdir(parents=True, exist_ok=True)

    points = []
    for name, bindings in (FITTED | UNSEEN).items():
        seconds, peak = measured(bindings, folder / "step.json", flags.rounds)
        points.append({"name": name, **known(bindings), "seconds": seconds, "bytes": peak})
        print(f"{name:40s} {seconds:6.2f} s  {peak:5.2f} GB", flush=True)
    seen = points[: len(FITTED)]

    def fit(target: str, features: Sequence[str]) -> list[float]:
        rows = [[1.0, *(point[feature] for feature in features)] for point in seen]
        goal = np.array([point[target] for point in seen])
        # Relative errors: the fit should predict small steps as well as large ones.
        factors, *_ = np.linalg.lstsq(
            np.array(rows) / goal[:, None], np.ones(len(goal)), rcond=None
        )
        return factors.tolist()

    models = {"seconds": ("tflop", "passing"), "bytes": ("held", "peak")}
    fits = {target: fit(target, features) for target, features in models.items()}
    for target, features in models.items():
        constant, *factors = fits[target]
        terms = (f"{factor:+.3f} {name}" for factor, name in zip(factors, features, strict=True))
        print(f"{target} = {constant:.3f} {' '.join(terms)}")
    print("\n| step | s | fit | GB | fit |\n|---|---|---|---|---|")
    for point in points:
        for target, features in models.items():
            constant, *factors = fits[target]
            pairs = zip(factors, features, strict=True)
            point[f"fitted_{target}"] = constant + sum(f * point[name] for f, name in pairs)
        mark = "" if point["name"] in FITTED else " (unseen)"
        print(
            f"| {point['name']}{mark} | {point['seconds']:.2f} | {point['fitted_seconds']:.2f} "
            f"({100 * (point['fitted_seconds'] / point['seconds'] - 1):+.0f} %) | "
            f"{point['bytes']:.2f} | {point['fitted_bytes']:.2f} "
            f"({100 * (point['fitted_bytes'] / point['bytes'] - 1):+.0f} %) |"
        )
    write_json(folder / "cost_model.json", {"fits": fits, "points": points}, indent=2)


if __name__ == "__main__":
    main()
