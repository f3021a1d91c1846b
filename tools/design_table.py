"""Design table: spaces and towers of MMV beside VATT, on the small data sets, over seeds.

    python tools/design_table.py --data=narrated_digits --out=runs/design

Trains and evaluates every design by the public commands, two at a time, each on a
processor of its own. VATT is trained twice: with as many parameters as the TSM networks for as many
steps, and for as long as they took. Prints a table of means and standard deviations over the seeds.
The rows are kept in ``rows.json`` of the folder, and none is measured twice.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import statistics
from collections.abc import Iterable, Iterator, Sequence

import experiments
from lanes import Lanes

from vatt_tf import cli

TOWERS = {"TSM": "vatt.video=@tsm_resnet_tower()", "S3D-G": "vatt.video=@s3d_tower()"}
SPACES = {"Shared": "mmv_shared", "Disjoint": "mmv_disjoint", "FAC": "mmv_fac"}
WIDTHS = {"Shared": ("vat_dim",), "Disjoint": ("va_dim", "vt_dim"), "FAC": ("va_dim", "vat_dim")}
# VATT with as many parameters as the TSM networks, 0.44 million.
NARROW = tuple(
    f"{tower}_tower.{field}={value}"
    for tower in ("video", "audio", "text")
    for field, value in {"d_model": 44, "num_heads": 2, "d_kv": 22, "d_ff": 176}.items()
)
METRICS: dict[str, dict[str, tuple[str, ...]]] = {
    "narrated_digits": experiments.BY_CLASS,
    "grid_lips": {
        "audio to video, R@10": ("audio_to_video", "R@10"),
        "video to audio, R@10": ("video_to_audio", "R@10"),
        "video to text, R@10": ("video_to_text", "R@10"),
    },
}


def designs(data: str) -> Iterator[tuple[str, list[str]]]:
    """Names and flags of the designs that are trained for the configured number of steps."""
    for tower, video in TOWERS.items():
        for space, kind in SPACES.items():
            bindings = [video, f"common_space.kind='{kind}'"]
            bindings += [f"common_space.{width}=128" for width in WIDTHS[space]]
            yield f"MMV {tower}, {space}", [f"mmv_{data}.gin", *bindings]
    yield "VATT, equal parameters", [f"{data}.gin", *NARROW]


def measured(
    lanes: Lanes,
    data: str,
    flags: Sequence[str],
    steps: int | None,
    folder: pathlib.Path,
    seed: int,
) -> experiments.Row:
    """Trains and evaluates one design with one seed."""
    gin_file, *bindings = flags
    bindings += [f"STEPS={steps}"] if steps else []
    row = {"seconds": experiments.train(lanes, folder, gin_file, bindings, seed)}
    run = folder / "run"
    results = experiments.evaluate(lanes, folder, run, "retrieval", f"--data=shards/{data}/val")
    row["parameters"] = parameters(run)
    return row | {name: experiments.percent(results, path) for name, path in METRICS[data].items()}


def parameters(run: pathlib.Path) -> int:
    """Trainable parameters of a run."""
    from vatt_tf.models.config.vatt import VattConfig
    from vatt_tf.models.vatt import abstract_vatt, parameter_counts

    config = VattConfig.from_dict(json.loads((run / "model.json").read_text())["model"])
    return parameter_counts(abstract_vatt(config))["trainable"]


def main() -> None:
    """Trains missing rows and prints the table."""
    parser = cli.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, choices=METRICS, help="data set, in shards/")
    parser.add_argument("--out", default="runs/design", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each design")
    parser.add_argument("--steps", type=int, help="in place of the configured ones")
    parser.add_argument(
        "--gin_bindings", action="append", default=[], help="for every run; choose another --out"
    )
    parser.add_argument("--lanes", type=int, default=os.cpu_count(), help="runs at a time")
    flags = parser.parse_args()
    out = pathlib.Path(flags.out) / flags.data / f"{flags.steps or 'configured'}_steps"
    lanes = Lanes(flags.lanes)

    def rows_of(entries: Iterable[tuple[str, list[str]]], steps: int | None) -> dict:
        measures = {
            name: functools.partial(
                measured, lanes, flags.data, [*arguments, *flags.gin_bindings], steps
            )
            for name, arguments in entries
        }
        return experiments.measured(measures, out, flags.seeds, flags.lanes)

    rows = rows_of(designs(flags.data), flags.steps)
    seconds = {
        name: statistics.median(row["seconds"] for row in found) for name, found in rows.items()
    }
    _, narrow = list(designs(flags.data))[-1]
    steps = flags.steps or {"narrated_digits": 2500, "grid_lips": 1400}[flags.data]
    longest = max(value for name, value in seconds.items() if name.startswith("MMV TSM"))
    longer = round(steps * longest / seconds["VATT, equal parameters"])
    # The name includes the steps: another number of steps is another row.
    rows |= rows_of([(f"VATT, equal time, {longer} steps", narrow)], longer)

    names = list(METRICS[flags.data])
    print(experiments.head(["design", "parameters", "training", *names]))
    for name, found in rows.items():
        cells = [experiments.over_seeds(found, metric) for metric in names]
        middle = statistics.median(row["seconds"] for row in found)
        millions = found[0]["parameters"] / 1e6
        print(f"| {name} | {millions:.2f} M | {middle:.0f} s | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
