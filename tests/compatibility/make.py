"""Makes tests/compatibility/COMMIT: what an earlier state of the code wrote, to be read by today's.

Usage::

    git worktree add /tmp/b79b6f5 b79b6f5
    python tests/compatibility/make.py --checkout=/tmp/b79b6f5 --out=tests/compatibility/b79b6f5

The commands are those of the checkout: videos, shards, a run of six of twelve steps (its folder
``best`` is a weights folder), an evaluation, an export and an index; ``numbers.json`` and
``numbers.npz`` hold what they answered.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

GIN_FILE = pathlib.Path(__file__).with_name("tiny_run.gin")

VIDEOS = """
import csv, pathlib
from vatt_tf.data import sample_videos

folder = pathlib.Path("videos")
plan = sample_videos.sample_plan()
of = lambda split: [clip for clip in plan if clip.split == split]
clips = [*of("train")[::50][:4], *of("val")[::50][:3]]
with open("manifest.csv", "w", newline="") as file:
    writer = csv.writer(file, lineterminator="\\n")
    writer.writerow(["path", "start", "end", "label", "caption", "split"])
    for clip in clips:
        (folder / clip.split).mkdir(parents=True, exist_ok=True)
        sample_videos.write_clip(clip, folder)
        end = sample_videos.SECONDS
        writer.writerow([f"{clip.name}.mp4", 0.0, end, clip.shape, "", clip.split])
"""

NUMBERS = """
import dataclasses, json, pathlib
import numpy as np
import vatt_tf
from vatt_tf import search
from vatt_tf.export import load
from vatt_tf.models import io

rng = np.random.default_rng(0)
frames = rng.integers(0, 256, (2, 4, 16, 16, 3)).astype(np.uint8)
sound = (0.3 * rng.normal(size=(2, 640))).astype(np.float32)
texts = ["a red circle moving up", "the green moon"]
inputs = {"video": frames, "audio": sound, "text": texts}
numbers = {"frames": frames, "sound": sound}
embedders = {name: vatt_tf.load(name) for name in ("run", "run/best")} | {"export": load("models")}
for name, embedder in embedders.items():
    for modality, value in inputs.items():
        rate = {"sample_rate": 1000} if modality == "audio" else {}
        if (name, modality) != ("export", "audio"):  # The sound tower is not exported.
            found = getattr(embedder, f"embed_{modality}")(value, space="all", **rate)
            numbers |= {f"{name}/{space}/{modality}": v for space, v in found.items()}
model = io.load_model("run")
numbers |= {f"variable/{v.path}": np.asarray(v) for v in model.variables if "seed" not in v.path}
hits = {}
for text in texts:
    found = search.search("index", text, run_dir="run", top=12)  # All clips.
    hits[text] = [dataclasses.asdict(hit) for hit in found.hits]
lines = map(json.loads, open("resumed/metrics.jsonl"))
losses = {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}
results = json.loads(pathlib.Path("run/results.json").read_text())
np.savez_compressed("numbers.npz", **numbers)
written = {"texts": texts, "hits": hits, "losses": losses, "results": results}
pathlib.Path("numbers.json").write_text(json.dumps(written, indent=1) + "\\n")
"""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        package = _package(flags.checkout.resolve(), work / "package")

        def python(*arguments: str) -> None:
            command = [sys.executable, *arguments]
            environment = {**os.environ, "PYTHONPATH": str(package), "CUDA_VISIBLE_DEVICES": "-1"}
            subprocess.run(command, cwd=work, env=environment, check=True)

        def run(command: str, *arguments: str) -> None:
            python("-m", f"vatt_tf.{command}", *arguments)

        shutil.copy(GIN_FILE, work)
        python("-c", VIDEOS)
        small = ("--short_side=16", "--frame_rate=5", "--sample_rate=1000", "--num_shards=1")
        source = ("--videos=videos", "--manifest=manifest.csv", "--cut=whole")
        run("prepare", *source, "--out=shards", *small, "--quiet")
        run("train", f"--gin_file={GIN_FILE.name}", "--run_dir=run", "--stop_at_step=6")
        run("evaluate", "--run_dir=run", "--data=shards")
        shutil.copytree(work / "run", work / "resumed")
        run("train", f"--gin_file={GIN_FILE.name}", "--run_dir=resumed", "--stop_at_step=8")
        run("export", "--run_dir=run", "--out=models", "--version=1", "--models=video,text")
        run("embed", "--videos=videos/val", "--out=index", "--run_dir=run")
        python("-c", NUMBERS)
        for name in ("shards", "run", "models", "index"):
            shutil.rmtree(flags.out / name, ignore_errors=True)
            shutil.copytree(work / name, flags.out / name)
        for name in ("numbers.npz", "numbers.json", GIN_FILE.name):
            shutil.copy(work / name, flags.out)


def _package(checkout: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A folder to import ``vatt_tf`` of a checkout from, whatever is installed."""
    package = folder / "vatt_tf"
    package.mkdir(parents=True)
    for path in (checkout / "vatt_tf").iterdir():
        (package / path.name).symlink_to(path)
    for name in ("export", "serving", "gin_configs"):  # At the top of a checkout.
        (package / name).symlink_to(checkout / name)
    return folder


if __name__ == "__main__":
    main()
