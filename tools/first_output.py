"""Measures the response time of every command: help, wrong flag, first line of a small job.

    python tools/first_output.py --run_dir=runs/quickstart --data=data/sample

Needs a trained run and the sample set (``make quickstart`` makes both) and a quiet machine. Prints
a table; the first line of a job may be a progress bar.
"""

from __future__ import annotations

import pathlib
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
from PIL import Image

from vatt_tf import cli

VIDEOS = 8


def jobs(run: str, data: str, videos: str, out: str) -> Iterator[tuple[str, list[str]]]:
    """Every command and the arguments of a small job, in an order in which each has its input."""
    bindings = [f"TRAIN_DATA='{data}/train'", "STEPS=1", "train.evaluate_every=0"]
    tiny = ["--gin_file=tiny.gin", *(f"--gin_bindings={binding}" for binding in bindings)]
    yield "prepare", [f"--videos={videos}", f"--out={out}/shards"]
    yield "train", [*tiny, f"--run_dir={out}/run"]
    yield "benchmark", [*tiny, "--parts=peak"]
    yield "evaluate", [f"--run_dir={run}", f"--data={data}/val", "--task=retrieval"]
    yield "export", [f"--run_dir={run}", f"--out={out}/models"]
    yield "serving", [f"--models={out}/models", "--port=0"]
    yield "embed", [f"--run_dir={run}", f"--videos={videos}", f"--out={out}/index"]
    yield "search", [f"--index={out}/index", "a red circle"]
    yield "deflate", [f"--run_dir={run}", f"--images={out}/images", f"--out={out}/image"]
    yield "convert", [f"--checkpoint={out}/mmv_s3d.pkl", f"--out={out}/converted"]


def seconds_of(command: list[str], code: int | None = 0) -> tuple[float, float]:
    """Seconds until the command writes something, and until it ends with ``code``.

    Without a code it is killed as soon as it has written something.
    """
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        written = process.stdout.read(1)
        first = time.perf_counter() - start
        if code is None:
            process.kill()
            return first, first
        written += process.stdout.read()
    if process.returncode != code:
        text = written.decode()[-2000:]
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{text}")
    return first, time.perf_counter() - start


def write_images(folder: pathlib.Path) -> None:
    """Writes some images of noise."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(VIDEOS):
        pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def write_checkpoint(path: pathlib.Path) -> None:
    """Writes a narrow network in the format of MMV's release, as the tests do."""
    tests = pathlib.Path(__file__).parents[1] / "tests"
    maker = runpy.run_path(str(tests / "pretrained" / "mmv_file.py"))
    maker["write"](str(path), maker["values_of"](maker["small"](path.stem)))


def main() -> None:
    """Measures every command."""
    parser = cli.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run_dir", required=True, help="trained run")
    parser.add_argument("--data", required=True, help="folder of the sample set")
    flags = parser.parse_args()
    print("| command | `--help` | wrong flag | first line | whole job |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as out:
        write_images(pathlib.Path(out, "images"))
        write_checkpoint(pathlib.Path(out, "mmv_s3d.pkl"))
        videos = pathlib.Path(out) / "videos"
        videos.mkdir()
        for path in sorted(pathlib.Path(flags.data).glob("videos/val/*.mp4"))[:VIDEOS]:
            (videos / path.name).symlink_to(path.resolve())
        for name, arguments in jobs(flags.run_dir, flags.data, str(videos), out):
            module = [sys.executable, "-m", f"vatt_tf.{name}"]
            row = [seconds_of([*module, "--help"])[1], seconds_of([*module, "--no_such=1"], 2)[1]]
            # Killed, because a server never ends.
            row += seconds_of([*module, *arguments], None if name == "serving" else 0)
            cells = " | ".join(f"{seconds:.2f} s" for seconds in row)
            print(f"| `vatt_tf.{name}` | {cells} |", flush=True)


if __name__ == "__main__":
    main()
