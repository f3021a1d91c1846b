"""Measures nearest-neighbour search on vectors drawn from clusters, against exact search.

Usage::

    python -m vatt_tf.search_index.benchmark
    python -m vatt_tf.search_index.benchmark --vectors=50000 --clusters=500 --factories=HNSW32

For every kind of index: seconds to build, latency of single queries (p50, p99), recall of the first
ten against exact search, and memory. Prints a table; --out writes the numbers as JSON.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import sys
import time
from typing import Any

import numpy as np

from vatt_tf import cli
from vatt_tf.errors import UserError
from vatt_tf.output_folder import check_replaceable, marked
from vatt_tf.unit_length import l2_normalize
from vatt_tf.wording import count_of, percent, shortened

NEIGHBOURS = 10
# Vectors made at once, and queries answered exactly at once.
CHUNK, GROUP = 65_536, 100


def build_parser() -> argparse.ArgumentParser:
    """Flags of ``python -m vatt_tf.search_index.benchmark``."""
    parser = cli.ArgumentParser(
        prog="python -m vatt_tf.search_index.benchmark",
        description=__doc__,
    )
    add = parser.add_argument
    add(
        "--vectors",
        type=cli.positive,
        default=1_000_000,
        help="vectors searched (default: 1000000)",
    )
    add("--dim", type=cli.positive, default=512, help="their dimension (default: 512)")
    add(
        "--clusters",
        type=cli.positive,
        default=10_000,
        help="clusters they lie in (default: 10000)",
    )
    add("--spread", type=float, default=0.5, help="length of the noise about a unit centre")
    add("--queries", type=cli.positive, default=1000, help="single queries timed (default: 1000)")
    add("--seed", type=int, default=0, help="of the vectors and queries (default: 0)")
    add(
        "--factories",
        nargs="+",
        help="FAISS factory strings to compare (default: the one that the product takes)",
    )
    add("--out", type=cli.path, help="JSON file for the numbers")
    cli.add_quiet_flag(parser, "with --out, no table")
    return parser


def clustered(
    count: int, centres: np.ndarray, spread: float, rng: np.random.Generator
) -> np.ndarray:
    """Unit vectors float32 [count, d], each a random centre plus Gaussian noise."""
    result = np.empty((count, centres.shape[1]), np.float32)
    scale = spread / np.sqrt(centres.shape[1])
    for first in range(0, count, CHUNK):
        part = result[first : first + CHUNK]
        rng.standard_normal(out=part, dtype=np.float32)
        part *= scale
        part += centres[rng.integers(len(centres), size=len(part))]
        part[:] = l2_normalize(part, dtype=None)
    return result


def benchmark(
    vectors: int,
    dim: int,
    clusters: int,
    *,
    spread: float = 0.5,
    queries: int = 1000,
    seed: int = 0,
    factories: list[str] | None = None,
) -> dict[str, Any]:
    """Runs the benchmark; see the module.

    Returns:
        The settings and, under ``"indexes"``, one row of figures per kind of index. Times are
        seconds, except latencies in milliseconds; memory is the peak of the process in GB.
    """
    from vatt_tf.search_index import nearest

    rng = np.random.default_rng(seed)
    centres = l2_normalize(rng.standard_normal((clusters, dim), np.float32), dtype=None)
    data = clustered(vectors, centres, spread, rng)
    asked = clustered(queries, centres, spread, rng)
    exact = nearest.ExactSearch(data)
    truth = np.concatenate(
        [exact.search(asked[i : i + GROUP], NEIGHBOURS)[1] for i in range(0, queries, GROUP)]
    )
    rows = [{"index": "exact (NumPy)", **_measure(exact, asked[: min(queries, 50)], truth)}]
    for factory in factories or [nearest.default_factory(vectors)]:
        began = time.perf_counter()
        try:
            found = nearest.build_faiss(data, factory)
        except RuntimeError as error:
            reason = str(error).rsplit(": ", 1)[-1].strip()
            raise UserError(
                f"--factories={factory}: FAISS cannot build it with a search effort to set "
                f"({reason}); give e.g. IVF1024,Flat or HNSW32"
            ) from error
        seconds = time.perf_counter() - began
        effort = nearest.effort_of(found.index)
        row = {"index": factory, "build_seconds": round(seconds, 1), **effort}
        rows.append({**row, **_measure(found, asked, truth)})
        del found
    return {
        "vectors": vectors,
        "dim": dim,
        "clusters": clusters,
        "spread": spread,
        "queries": queries,
        "seed": seed,
        "cpus": os.cpu_count(),
        "indexes": rows,
    }


def _measure(search: Any, asked: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Latency of queries one at a time, and recall."""
    from vatt_tf.search_index import nearest

    search.search(asked[:1], NEIGHBOURS)
    found, milliseconds = [], []
    for query in asked:
        began = time.perf_counter()
        found.append(search.search(query[None], NEIGHBOURS)[1][0])
        milliseconds.append(1000 * (time.perf_counter() - began))
    return {
        "p50_ms": round(float(np.percentile(milliseconds, 50)), 3),
        "p99_ms": round(float(np.percentile(milliseconds, 99)), 3),
        "recall@10": round(nearest.recall(np.stack(found), truth[: len(asked)]), 4),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def format_result(result: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = [
        f"{count_of(result['vectors'], 'vector')} of {result['dim']} dimensions from "
        f"{result['clusters']:,} "
        f"clusters, {count_of(result['queries'], 'query', 'queries')}, {result['cpus']} CPUs",
        f"{'index':22} {'build s':>8} {'effort':>14} {'p50 ms':>8} {'p99 ms':>8} {'recall@10':>10} "
        f"{'peak GB':>8}",
    ]
    for row in result["indexes"]:
        effort = next((f"{k} {row[k]}" for k in ("nprobe", "efSearch") if k in row), "-")
        lines.append(
            f"{shortened(row['index'], 22):22} {row.get('build_seconds', '-'):>8} {effort:>14} "
            f"{row['p50_ms']:>8} {row['p99_ms']:>8} {percent(row['recall@10']):>10} "
            f"{row['peak_gb']:>8}"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = vars(build_parser().parse_args(argv))
    out, quiet = args.pop("out"), args.pop("quiet")

    def command() -> int:
        if out:
            check_replaceable(out, "--out")
        result = benchmark(args.pop("vectors"), args.pop("dim"), args.pop("clusters"), **args)
        if out:
            from vatt_tf.atomic import write_json

            write_json(pathlib.Path(out), marked(result))
            if quiet:
                return 0
        print(format_result(result))
        if out:
            print(f"written: {out}")
        return 0

    return cli.run(command)


if __name__ == "__main__":
    sys.exit(main())
