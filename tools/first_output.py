"""How long every command takes to answer: its help, a wrong flag, the first line of a small job.

    python tools/first_output.py --run_dir=runs/quickstart --data=data/sample

Needs a trained run and the sample set (``make quickstart`` makes both) and a quiet machine. Prints
a table; the first line of a job is what a person sees first, be it a progress bar.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

VIDEOS = 8


def jobs(run: str, data: str, videos: str, out: str) -> Iterator[tuple[str, list[str]]]:
    """Every command and the arguments of a small job, in an order in which each has its input."""
    bindings = [f"TRAIN_DATA='{data}/train'", "EVAL_DATA=None", "STEPS=1"]
    tiny = ["--gin_file=tiny.gin", *(f"--gin_bindings={binding}" for binding in bindings)]
    yield "prepare", [f"--videos={videos}", f"--out={out}/shards"]
    yield "train", [*tiny, f"--run_dir={out}/run"]
    yield "benchmark", [*tiny, "--parts=peak"]
    yield "evaluate", [f"--run_dir={run}", f"--data={data}/val", "--task=retrieval"]
    yield "export", [f"--run_dir={run}", f"--out={out}/models"]
    yield "serving", [f"--models={out}/models", "--port=0"]
    yield "embed", [f"--run_dir={run}", f"--videos={videos}", f"--out={out}/index"]
    yield "search", [f"--index={out}/index", "a red circle"]
    yield "convert", ["--checkpoint=none", f"--out={out}/weights"]
    yield "deflate", [f"--run_dir={run}", "--images=none", f"--out={out}/image"]


def seconds_to_first_line(command: list[str]) -> float:
    """Seconds until the command writes something; it is stopped then."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.kill()
    return seconds


def seconds_of(command: list[str]) -> float:
    """Seconds of the whole command."""
    start = time.perf_counter()
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measures every command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run_dir", required=True, help="trained run")
    parser.add_argument("--data", required=True, help="folder of the sample set")
    flags = parser.parse_args()
    print("| command | `--help` | wrong flag | first line | whole job |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as out:
        videos = pathlib.Path(out) / "videos"
        videos.mkdir()
        for path in sorted(pathlib.Path(flags.data).glob("videos/val/*.mp4"))[:VIDEOS]:
            (videos / path.name).symlink_to(path.resolve())
        for name, arguments in jobs(flags.run_dir, flags.data, str(videos), out):
            module = [sys.executable, "-m", f"vatt_tf.{name}"]
            row = [
                seconds_of([*module, "--help"]),
                seconds_of([*module, "--no_such_flag=1"]),
                seconds_to_first_line([*module, *arguments]),
            ]
            if name != "serving":  # It would serve for ever.
                row.append(seconds_of([*module, *arguments]))
            cells = " | ".join(f"{seconds:.2f} s" for seconds in row)
            print(f"| `vatt_tf.{name}` | {cells} |", flush=True)


if __name__ == "__main__":
    main()
