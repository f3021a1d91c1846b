"""Table of deflation on real hands: video networks classify images, inflated and deflated.

    python tools/deflation_table.py --manifest=sign_digits/manifest.csv --out=runs/deflation

Trains narrow MMV networks and a VATT on the narrated digits (``shards/narrated_digits``), deflates
them with the training images of the manifest, and asks each network which digit the hands of
``shards/sign_digits/val`` show (zero-shot, from ten captions): the video network on repeated
images, naive and learned deflation. A Transformer has nothing to learn: both are one.
As many at a time as there are processors, each on one of its own; rows that ``rows.json``
has are not measured again.
"""

from __future__ import annotations

import csv
import functools
import json
import os
import pathlib
import statistics

import experiments
from lanes import Lanes

from vatt_tf import cli

MMV, VATT = "mmv_narrated_digits.gin", "narrated_digits.gin"
# Four frames, as in the examples (that of MMV uses TSM), or eight of the same 1.33 s.
EIGHT = "train.frame_rate=6.0"
NETWORKS = {
    "TSM, 4 frames": (MMV,),
    "TSM, 8 frames": (MMV, "tsm_resnet_tower.frames=8", EIGHT),
    "S3D-G, 8 frames": (MMV, "vatt.video=@s3d_tower()", "s3d_tower.frames=8", EIGHT),
    "Transformer, 8 frames": (VATT, "video_tower.frames=8", EIGHT),
}
# Batch size of the timing: 16 images of this size take only two milliseconds.
TIMED = 64
PROMPTS = "examples/prompts/narrated_digits.txt"


def training_images(manifest: str, folder: pathlib.Path) -> str:
    """Makes a folder of links to the images of the training split."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(manifest, encoding="utf-8", newline="") as file:
        paths = [row["clip"] for row in csv.DictReader(file) if row["split"] == "train"]
    for path in paths:
        link = folder / path.replace("/", "_")
        if not link.is_symlink():
            link.symlink_to((pathlib.Path(manifest).parent / path).resolve())
    return str(folder)


def measured(
    lanes: Lanes, images: str, network: str, steps: int, folder: pathlib.Path, seed: int
) -> experiments.Row:
    """Measures top-1 of the three networks, distances and times."""
    gin_file, *bindings = NETWORKS[network]
    bindings.append(f"STEPS={steps}")
    experiments.train(lanes, folder, gin_file, bindings, seed)
    run, row = folder / "run", {}
    networks = {"image repeated": run, "naive": folder / "naive", "learned": folder / "learned"}
    for name, path in networks.items():
        if path is not run:
            flags = [f"--run_dir={run}", f"--images={images}", f"--out={path}", f"--seed={seed}"]
            flags += [f"--timed_batch={TIMED}", *(["--steps=0"] if name == "naive" else [])]
            lanes.run("deflate", flags, folder / "log.txt")
        flags = ["--data=shards/sign_digits/val", f"--prompts={PROMPTS}"]
        results = experiments.evaluate(lanes, folder, path, "zero_shot", *flags)
        row[name] = 100 * results["top1"]
    result = json.loads((networks["learned"] / "deflation.json").read_text())
    row |= {f"L1 {name}": value for name, value in result["l1"].items()}
    for kind in ("seconds_per_image", "seconds_alone"):
        row |= {f"{kind} {name}": value for name, value in result[kind].items()}
    return row


def main() -> None:
    """Measures missing rows and prints the table."""
    parser = cli.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", required=True, help="images to fit with, and their split")
    parser.add_argument("--out", default="runs/deflation", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each network")
    parser.add_argument("--steps", type=int, default=800, help="training steps of a network")
    parser.add_argument("--lanes", type=int, default=os.cpu_count(), help="runs at a time")
    flags = parser.parse_args()
    lanes, out = Lanes(flags.lanes), pathlib.Path(flags.out)
    images = training_images(flags.manifest, out / "images")
    measures = {
        network: functools.partial(measured, lanes, images, network, flags.steps)
        for network in NETWORKS
    }
    rows = experiments.measured(measures, out / f"{flags.steps}_steps", flags.seeds, flags.lanes)
    names = ("image repeated", "learned", "naive")
    print(experiments.head(["network", *names, f"faster, {TIMED} at a time", "one at a time"]))
    for network, found in rows.items():
        cells = [" / ".join(f"{row[name]:.1f}" for row in found) for name in names]
        for kind in ("seconds_per_image", "seconds_alone"):
            ratios = [row[f"{kind} inflated"] / row[f"{kind} deflated"] for row in found]
            cells.append(f"{statistics.median(ratios):.1f} x")
        print(f"| {network} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
