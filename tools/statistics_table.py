"""Tables of statistics in a loss and in a head: silhouette by modality, and retrieval.

    python tools/statistics_table.py --out=runs/statistics
    python tools/statistics_table.py --of=head --steps=200 --out=runs/head_statistics

Trains on the narrated digits (``shards/narrated_digits``): the agnostic model without and with
``contrastive_loss.statistics_weight``, or a narrow TSM-ResNet whose head ``shared`` takes the
statistics of all rows or of those that are there (``common_space.masked_statistics``). Measures
retrieval by class, of the former also the silhouette by modality (features behind the towers,
common spaces). Two at a time, each on a processor of its own; rows that ``rows.json`` has are not
measured again. The reports of the runs have the t-SNE maps.
"""

from __future__ import annotations

import functools
import os
import pathlib

import experiments
from lanes import Lanes

from vatt_tf import cli

SMALL = (
    "common_space.kind='shared'",
    "common_space.vat_dim=128",
    "tsm_resnet_tower.frames=2",
    "tsm_resnet_tower.image_size=(48, 48)",
    "train.frame_rate=1.5",
)
# Gin file, and bindings by row. A clip has one caption: of five texts four are padding.
TABLES: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "features": (
        "narrated_digits_agnostic.gin",
        {"none": ()}
        | {
            f"{kind}, weight {weight:g}": (
                f"contrastive_loss.statistics='{kind}'",
                f"contrastive_loss.statistics_weight={weight}",
            )
            for kind, weight in (("moments", 0.1), ("moments", 1.0), ("mixture", 0.1))
        },
    ),
    "head": (
        "mmv_narrated_digits.gin",
        {
            f"{texts}, {rows}": (
                *SMALL,
                f"train.texts={texts}",
                f"common_space.masked_statistics={masked}",
            )
            for texts in (1, 5)
            for masked, rows in ((False, "all rows"), (True, "rows that are there"))
        },
    ),
}
SILHOUETTES = {"features": "features", "video-audio space": "va", "video-text space": "vt"}


def measured(
    lanes: Lanes, gin_file: str, bindings: tuple[str, ...], folder: pathlib.Path, seed: int
) -> experiments.Row:
    """Measures silhouettes, of spaces that the run has, and retrieval of one run."""
    experiments.train(lanes, folder, gin_file, bindings, seed)
    flags = ("--data=shards/narrated_digits/val", "--report")
    results = experiments.evaluate(lanes, folder, folder / "run", "retrieval", *flags)
    row = {
        name: results["silhouette"][space]["mean"]
        for name, space in SILHOUETTES.items()
        if space in results["silhouette"]
    }
    return row | {
        name: experiments.percent(results, path) for name, path in experiments.BY_CLASS.items()
    }


def main() -> None:
    """Trains missing rows and prints the table."""
    parser = cli.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", default="features", choices=TABLES, help="whose statistics")
    parser.add_argument("--out", default="runs/statistics", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row")
    parser.add_argument("--steps", type=int, default=800, help="training steps of a run")
    parser.add_argument("--lanes", type=int, default=os.cpu_count(), help="runs at a time")
    flags = parser.parse_args()
    lanes, out = Lanes(flags.lanes), pathlib.Path(flags.out) / f"{flags.steps}_steps"
    gin_file, designs = TABLES[flags.of]
    measures = {
        name: functools.partial(measured, lanes, gin_file, (*bindings, f"STEPS={flags.steps}"))
        for name, bindings in designs.items()
    }
    rows = experiments.measured(measures, out, flags.seeds, flags.lanes)
    silhouettes = [name for name in SILHOUETTES if name in rows[next(iter(rows))][0]]
    print(experiments.head([f"statistics of the {flags.of}", *silhouettes, *experiments.BY_CLASS]))
    for name, found in rows.items():
        cells = [experiments.over_seeds(found, place, digits=3) for place in silhouettes]
        cells += [experiments.over_seeds(found, metric) for metric in experiments.BY_CLASS]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
