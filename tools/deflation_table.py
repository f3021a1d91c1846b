"""Deflation on real hands: a network of videos that names still images, as it is and deflated.

    python tools/deflation_table.py --manifest=sign_digits/manifest.csv --out=runs/deflation

Trains narrow MMV networks on the narrated digits (``shards/narrated_digits``, eight frames),
deflates them with the training images of the manifest, and asks each network which digit the hands
of ``shards/sign_digits/val`` show (zero-shot, from ten captions): the video network on repeated
images, naive and learned deflation. As many at a time as there are processors, each on one of its
own; goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import csv
import json
import os
import pathlib
import statistics

from lanes import Lanes

TOWERS = {"TSM": "vatt.video=@tsm_resnet_tower()", "S3D-G": "vatt.video=@s3d_tower()"}
# Eight frames of the same second and a third that the example sees four of.
FRAMES = ("tsm_resnet_tower.frames=8", "s3d_tower.frames=8", "train.frame_rate=6.0")
PROMPTS = "examples/prompts/narrated_digits.txt"


def training_images(manifest: str, folder: pathlib.Path) -> str:
    """A folder of links to the images of the training split."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(manifest, encoding="utf-8", newline="") as file:
        paths = [row["clip"] for row in csv.DictReader(file) if row["split"] == "train"]
    for path in paths:
        link = folder / path.replace("/", "_")
        if not link.is_symlink():
            link.symlink_to((pathlib.Path(manifest).parent / path).resolve())
    return str(folder)


def measured(
    lanes: Lanes, out: pathlib.Path, images: str, tower: str, seed: int, steps: int
) -> dict[str, float]:
    """Top-1 of the three networks, distances and times, unless they are there already."""
    folder = out / f"{tower.lower()}_{seed}"
    done, log, run = folder / "row.json", folder / "log.txt", folder / "run"
    if done.exists():
        return json.loads(done.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    bindings = [TOWERS[tower], *FRAMES, f"SEED={seed}", f"STEPS={steps}", "train.evaluate_every=0"]
    arguments = ["--gin_file=examples/mmv_narrated_digits.gin", f"--run_dir={run}"]
    lanes.run("train", [*arguments, *(f"--gin_bindings={one}" for one in bindings)], log)
    row = {}
    networks = {"image repeated": run, "naive": folder / "naive", "learned": folder / "learned"}
    for name, network in networks.items():
        if network is not run and not network.exists():
            flags = [f"--run_dir={run}", f"--images={images}", f"--out={network}", f"--seed={seed}"]
            lanes.run("deflate", [*flags, *(["--steps=0"] if name == "naive" else [])], log)
        flags = [f"--run_dir={network}", "--data=shards/sign_digits/val", "--task=zero_shot"]
        lanes.run("evaluate", [*flags, f"--prompts={PROMPTS}"], log)
        row[name] = 100 * json.loads((network / "results.json").read_text())["zero_shot"]["top1"]
    result = json.loads((networks["learned"] / "deflation.json").read_text())
    row |= {f"L1 {name}": value for name, value in result["l1"].items()}
    for kind in ("seconds_per_image", "seconds_alone"):
        row |= {f"{kind} {name}": value for name, value in result[kind].items()}
    temporary = done.with_suffix(".tmp")
    temporary.write_text(json.dumps(row))
    os.replace(temporary, done)
    return row


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", required=True, help="images to fit with, and their split")
    parser.add_argument("--out", default="runs/deflation", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each network")
    parser.add_argument("--steps", type=int, default=800, help="training steps of a network")
    parser.add_argument("--lanes", type=int, default=os.cpu_count(), help="runs at a time")
    flags = parser.parse_args()
    lanes, out = Lanes(flags.lanes), pathlib.Path(flags.out)
    images = training_images(flags.manifest, out / "images")
    with concurrent.futures.ThreadPoolExecutor(flags.lanes) as pool:
        futures = {
            (tower, seed): pool.submit(measured, lanes, out, images, tower, seed, flags.steps)
            for tower in TOWERS
            for seed in range(flags.seeds)
        }
        rows = {key: future.result() for key, future in futures.items()}
    names = ("image repeated", "learned", "naive")
    print(f"| network | {' | '.join(names)} | faster | faster, one at a time |\n|{'---|' * 6}")
    for tower in TOWERS:
        found = [row for (name, _), row in rows.items() if name == tower]
        cells = [" / ".join(f"{row[name]:.1f}" for row in found) for name in names]
        for kind in ("seconds_per_image", "seconds_alone"):
            ratios = [row[f"{kind} inflated"] / row[f"{kind} deflated"] for row in found]
            cells.append(f"{statistics.median(ratios):.1f} x")
        print(f"| {tower} | {' | '.join(cells)} |")
    (out / "table.json").write_text(
        json.dumps({f"{tower} {seed}": row for (tower, seed), row in rows.items()}, indent=2)
    )


if __name__ == "__main__":
    main()
