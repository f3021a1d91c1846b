"""Table of statistical regularisation: silhouette by modality, and retrieval.

    python tools/statistics_table.py --out=runs/statistics

Trains the agnostic model on the narrated digits (``shards/narrated_digits``) without and with
``contrastive_loss.statistics_weight`` and measures the silhouette by modality (features behind the
towers, common spaces) and retrieval by class. Two at a time, each on a processor of its own; rows
that ``rows.json`` has are not measured again. The reports of the runs have the t-SNE maps.
"""

from __future__ import annotations

import functools
import os
import pathlib

import experiments
from lanes import Lanes

from vatt_tf import cli

WEIGHTS = {
    "none": (),
    "moments, weight 0.1": ("moments", 0.1),
    "moments, weight 1": ("moments", 1.0),
    "mixture, weight 0.1": ("mixture", 0.1),
}
SILHOUETTES = {"features": "features", "video-audio space": "va", "video-text space": "vt"}


def measured(
    lanes: Lanes, weights: tuple, steps: int, folder: pathlib.Path, seed: int
) -> experiments.Row:
    """Measures silhouettes and retrieval of one run."""
    bindings = [f"STEPS={steps}"]
    if weights:
        kind, weight = weights
        bindings += [f"contrastive_loss.statistics='{kind}'"]
        bindings += [f"contrastive_loss.statistics_weight={weight}"]
    experiments.train(lanes, folder, "narrated_digits_agnostic.gin", bindings, seed)
    flags = ("--data=shards/narrated_digits/val", "--report")
    results = experiments.evaluate(lanes, folder, folder / "run", "retrieval", *flags)
    row = {name: results["silhouette"][space]["mean"] for name, space in SILHOUETTES.items()}
    return row | {
        name: experiments.percent(results, path) for name, path in experiments.BY_CLASS.items()
    }


def main() -> None:
    """Trains missing rows and prints the table."""
    parser = cli.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/statistics", help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row")
    parser.add_argument("--steps", type=int, default=800, help="training steps of a run")
    parser.add_argument("--lanes", type=int, default=os.cpu_count(), help="runs at a time")
    flags = parser.parse_args()
    lanes, out = Lanes(flags.lanes), pathlib.Path(flags.out) / f"{flags.steps}_steps"
    measures = {
        name: functools.partial(measured, lanes, weights, flags.steps)
        for name, weights in WEIGHTS.items()
    }
    rows = experiments.measured(measures, out, flags.seeds, flags.lanes)
    print(experiments.head(["regularisation", *SILHOUETTES, *experiments.BY_CLASS]))
    for name, found in rows.items():
        cells = [experiments.over_seeds(found, place, digits=3) for place in SILHOUETTES]
        cells += [experiments.over_seeds(found, metric) for metric in experiments.BY_CLASS]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
