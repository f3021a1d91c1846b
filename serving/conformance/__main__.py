"""Tests the conformance of any server with TensorFlow Serving 2.20.

Usage::

    python -m vatt_tf.serving.conformance.models OUT
    ... start a server with OUT/models.config (and OUT/monitoring.config, OUT/batching.config) ...
    python -m vatt_tf.serving.conformance --server=localhost:8500 --rest=localhost:8501 --models=OUT

Prints a line for each case. Exit code: 0 if none failed, 1 if one did, 2 if the suite cannot run.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys

from vatt_tf import cli
from vatt_tf.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.serving.conformance``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.serving.conformance",
        description=__doc__,
    )
    add = parser.add_argument
    add("--server", required=True, metavar="HOST:PORT", help="address of the gRPC service")
    add("--rest", metavar="HOST:PORT", help="address of the REST service; without: not checked")
    add(
        "--models",
        type=cli.path,
        metavar="OUT",
        help="the folder that the server serves; the suite adds and removes versions in it and "
        "changes the server's configuration (without: it does neither)",
    )
    add(
        "--batching",
        action="store_true",
        help="the server was started with OUT/batching.config",
    )
    add("--only", metavar="REGEX", help="run the cases whose name matches")
    add(
        "--patience",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="limit for a call or for a change of versions (default: 30)",
    )
    cli.add_quiet_flag(parser, "no lines about cases that pass or are skipped")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = build_parser().parse_args(argv)

    def command() -> int:
        try:
            only = re.compile(args.only or "")
        except re.error as error:
            raise UserError(f"--only={args.only}: not a regular expression ({error})") from error
        models = None if args.models is None else pathlib.Path(args.models).absolute()
        if models is not None and not (models / "models.config").is_file():
            raise UserError(
                f"--models={args.models}: no models.config there; write the folder with "
                "python -m vatt_tf.serving.conformance.models"
            )
        # TensorFlow's messages are imported only here, so that --help is quick.
        from vatt_tf.serving.conformance import runner
        from vatt_tf.serving.conformance.cases.connection import Server

        with Server(
            args.server,
            rest=args.rest,
            models=models,
            batching=args.batching,
            patience=args.patience,
        ) as server:
            outcomes = runner.run(server, only, args.quiet)
        return 1 if any(outcome.verdict == "FAIL" for outcome in outcomes) else 0

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
