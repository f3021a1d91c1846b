"""Measures data services: ``python -m vatt_tf.data.service_benchmark --workers=1,2,4``.

Makes shards of clips (frames of smooth noise as JPEG, sound), reads them locally and then through
services on this host, and prints a table and, as last line, the same as JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from vatt_tf import cli
from vatt_tf.errors import UserError

_WARM_UP_BATCHES = 2


def parser() -> argparse.ArgumentParser:
    """The command line."""
    flags = cli.ArgumentParser(prog="python -m vatt_tf.data.service_benchmark", description=__doc__)
    flags.add_argument(
        "--workers", default="1,2,4", help="numbers of services to try (default: 1,2,4)"
    )
    flags.add_argument("--batches", type=cli.positive, default=20, help="measured (default: 20)")
    flags.add_argument("--batch_size", type=cli.positive, default=8, help="clips (default: 8)")
    flags.add_argument(
        "--size", type=cli.positive, default=224, help="side of a clip in pixels (default: 224)"
    )
    flags.add_argument(
        "--frames", type=cli.positive, default=32, help="frames of a clip (default: 32)"
    )
    return flags


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    flags = parser().parse_args(argv)
    return cli.run(lambda: _measure(flags))


def _measure(flags: argparse.Namespace) -> int:
    cli.before_tensorflow()
    try:
        counts = [cli.positive(part) for part in flags.workers.split(",")]
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--workers={flags.workers}: {error}") from error
    from vatt_tf.data.input.noise import write_noise_shard

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        shard = write_noise_shard(folder, 4 * flags.batch_size, flags.frames + 10)
        rows.append({"services": 0, "clips_per_second": _speed(shard, flags, ())})
        for count in counts:
            port = _free_ports(2 * count)
            command = [sys.executable, "-m", "vatt_tf.data.service"]
            command += [f"--port={port}", f"--workers={count}"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
                assert service.stdout is not None
                service.stdout.readline()
                try:
                    addresses = [f"localhost:{port + i}" for i in range(count)]
                    speed = _speed(shard, flags, addresses)
                finally:
                    service.terminate()
                    service.communicate()
            rows.append({"services": count, "clips_per_second": speed})
    print(table(rows))
    settings = {name: getattr(flags, name) for name in ("batch_size", "batches", "size", "frames")}
    print(json.dumps({"cores": os.cpu_count(), **settings, "rows": rows}))
    return 0


def table(rows: Sequence[dict[str, float]]) -> str:
    """The figures, a line for each number of services."""
    lines = [f"{'services':>8} {'clips/s':>12}"]
    lines += [f"{row['services'] or 'none':>8} {row['clips_per_second']:>12,.1f}" for row in rows]
    return "\n".join(lines)


def _speed(shard: str, flags: argparse.Namespace, addresses: Sequence[str]) -> float:
    """Clips per second of a trainer that does nothing else."""
    from vatt_tf.data.input.pipeline import training_dataset
    from vatt_tf.data.schema import ClipSpec

    clip = dataclasses.replace(ClipSpec(), frames=flags.frames, height=flags.size, width=flags.size)
    dataset: Any = training_dataset(
        shard, clip, None, batch_size=flags.batch_size, services=addresses
    )
    batches = iter(dataset)
    for _ in range(_WARM_UP_BATCHES + len(addresses)):
        next(batches)
    start = time.perf_counter()
    for _ in range(flags.batches):
        next(batches)
    return round(flags.batches * flags.batch_size / (time.perf_counter() - start), 2)


def _free_ports(count: int) -> int:
    """First of so many free ports in a row."""
    for _ in range(20):
        with socket.socket() as first:
            first.bind(("localhost", 0))
            port = first.getsockname()[1]
        try:
            for i in range(count):
                with socket.socket() as other:
                    other.bind(("localhost", port + i))
        except (OSError, OverflowError):
            continue
        return port
    raise UserError(f"found no {count} free ports in a row on this host")
