"""Measures a configuration on this machine: ``python -m vatt_tf.benchmark --gin_file=tiny.gin``.

Speed of matrix products, towers, training step, input pipeline and whole run; the fraction of the
machine's peak; memory; and an estimate of time, memory and money of the configured run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vatt_tf import cli
from vatt_tf.benchmarking.compared import compared
from vatt_tf.errors import UserError
from vatt_tf.output_folder import check_replaceable, marked

PARTS = ("peak", "towers", "export", "step", "input", "run")
# Single towers of a part.
TOWER_PARTS = tuple(
    f"{what}/{tower}"
    for what in ("forward", "train", "export")
    for tower in ("video", "audio", "text")
    if (what, tower) != ("export", "text")
)
PRECISIONS = ("float32", "mixed_bfloat16")


def parser() -> argparse.ArgumentParser:
    """Builds the parser of the command line."""
    flags = cli.ArgumentParser(prog="python -m vatt_tf.benchmark", description=__doc__)
    cli.add_gin_flags(flags)
    usual = ",".join(part for part in PARTS if part != "export")
    flags.add_argument(
        "--parts",
        default=usual,
        help=f"some of {','.join(PARTS)}, or single towers such as train/video (default: {usual})",
    )
    flags.add_argument(
        "--precision",
        default=None,
        help="float32, mixed_bfloat16 or both with a comma (default: that of the configuration)",
    )
    flags.add_argument(
        "--compare",
        metavar="WHAT",
        help="measure in turn with the package, with a comma between several: reference, the same "
        "model written in the most direct way; ablation, the package without each of its ways to "
        "be fast (both need a source checkout, whose tests hold them); checkout:FOLDER, another "
        "source checkout; plain, beside a step of several micro-batches one of a single one",
    )
    flags.add_argument("--rounds", type=cli.positive, default=3, help="measurements (default: 3)")
    flags.add_argument("--threads", type=cli.positive, help="processor threads (default: all)")
    flags.add_argument("--price_per_hour", type=cli.above_zero, help="of the machine, for the cost")
    cli.add_module_flag(flags)
    cli.add_quiet_flag(flags, "no progress bar; with --out, no table")
    flags.add_argument("--out", type=cli.path, help="write the figures to this JSON file")
    return flags


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = parser().parse_args(argv)
    return cli.run(lambda: _benchmark(flags), "nothing was written: run the same command again")


def _chosen(given: str, allowed: Sequence[str], flag: str) -> list[str]:
    names = given.split(",")
    for name in names:
        if name not in allowed:
            raise UserError(f"--{flag}={given}: {name!r} is none of {', '.join(allowed)}")
    return names


def _benchmark(flags: argparse.Namespace) -> int:
    parts = _chosen(flags.parts, (*PARTS, *TOWER_PARTS), "parts")
    if flags.precision:
        _chosen(flags.precision, PRECISIONS, "precision")
    compared(flags.compare)
    if flags.out:
        check_replaceable(flags.out, "--out")
    cli.before_tensorflow()
    from vatt_tf.atomic import write_json
    from vatt_tf.benchmarking.measure import measure
    from vatt_tf.benchmarking.report import report

    results = measure(flags, parts)
    if flags.out:
        write_json(flags.out, marked(results))
        if flags.quiet:
            return 0
    print(report(results))
    if flags.out:
        print(f"written: {flags.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
