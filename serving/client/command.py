"""Command line of the client: ``python -m vatt_tf.serving.client text "..."`` and the like."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from vatt_tf import cli, paths
from vatt_tf.serving.client.address import credentials
from vatt_tf.serving.client.calls import Classification
from vatt_tf.serving.client.client import DEFAULT_TARGET, Client
from vatt_tf.wording import WIDTH, fixed, percent, shortened

SHOWN = 6  # numbers of a vector
# Columns of a name; what is left of the terminal holds so many cosines.
NAME_WIDTH = 48
COSINES = (WIDTH - NAME_WIDTH - 8) // 7


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.serving.client``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.serving.client",
        description="Asks a running server: embeds words, videos or sounds, or classifies a file.",
    )
    add = parser.add_argument
    add("task", choices=("text", "video", "audio", "classify"), help="what the inputs are")
    add("inputs", nargs="+", metavar="INPUT", help="strings, or files")
    add("--server", default=DEFAULT_TARGET, help=f"host:port (default: {DEFAULT_TARGET})")
    add("--space", help="modality to compare with, or a space (default: all)")
    add("--windows", type=cli.positive, default=4, help="windows averaged per file (default: 4)")
    add("--model", default="classifier", help="classify: name of the model (default: classifier)")
    add("--top", type=cli.positive, default=5, help="classify: classes shown (default: 5)")
    add("--timeout", type=cli.above_zero, default=60.0, help="seconds per request (default: 60)")
    cli.add_tls_flags(parser)
    add("--json", action="store_true", help="print one JSON object with all numbers")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = build_parser().parse_args(argv)

    def command() -> int:
        tls = credentials(args.tls_ca, args.tls_cert, args.tls_key)
        with Client(args.server, timeout=args.timeout, credentials=tls) as client:
            if args.task == "classify":
                _classify(client, args)
            else:
                _embed(client, args)
        return 0

    return cli.run(command)


def _embed(client: Client, args: argparse.Namespace) -> None:
    embed: Any = getattr(client, f"embed_{args.task}")
    windows = {} if args.task == "text" else {"windows": args.windows}
    description = client.describe(args.task)
    began = time.monotonic()
    found = embed(args.inputs, space=args.space or "all", **windows)
    seconds = time.monotonic() - began
    if args.space:
        found = {args.space: found}
    if args.json:
        print(json.dumps({"inputs": args.inputs, **_lists(found)}))
        return
    print(
        f"{args.server}, model {args.task} version {description.version} "
        f"(weights {description.model_hash[:12]}), {1000 * seconds:.0f} ms"
    )
    partners = {v.get("space"): v.get("partners", ()) for v in description.outputs.values()}
    for space, vectors in found.items():
        others = " and ".join(partners.get(space, ()))
        shared = f", shared with {others}" if others else ""
        print(f"\nspace {space}{shared}: {vectors.shape[1]} numbers each, length 1")
        names = [shortened(paths.shown(name), NAME_WIDTH) for name in args.inputs]
        width = max(len(name) for name in names)
        for name, vector in zip(names, vectors, strict=True):
            numbers = " ".join(f"{fixed(value, 4):>7}" for value in vector[:SHOWN])
            print(f"  {name:{width}}  {numbers}{' ...' if len(vector) > SHOWN else ''}")
        if len(vectors) > 1:
            print("  cosines:")
            for name, row in zip(names, vectors @ vectors.T, strict=True):
                cosines = " ".join(f"{fixed(value, 3):>6}" for value in row[:COSINES])
                print(f"  {name:{width}}  {cosines}{' ...' if len(row) > COSINES else ''}")


def _lists(found: dict[str, np.ndarray]) -> dict[str, Any]:
    return {"embeddings": {space: value.tolist() for space, value in found.items()}}


def _classify(client: Client, args: argparse.Namespace) -> None:
    began = time.monotonic()
    found: Classification = client.classify(args.inputs, model=args.model, windows=args.windows)
    seconds = time.monotonic() - began
    rows = found.top(args.top)
    if args.json:
        classes = [[{"label": a, "probability": b} for a, b in row] for row in rows]
        print(json.dumps({"inputs": args.inputs, "classes": classes}))
        return
    print(f"{args.server}, model {args.model}, {1000 * seconds:.0f} ms")
    for name, row in zip(args.inputs, rows, strict=True):
        print(f"\n{paths.shown(name)}")
        for label, probability in row:
            bar = "#" * round(40 * probability)
            print(f"  {percent(probability):>7}  {shortened(label, 64)}  {bar}")
