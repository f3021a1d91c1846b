"""Text output of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vatt_tf.benchmarking.table import columns, duration, table
from vatt_tf.wording import count_of, wrapped


def report(results: Mapping[str, Any]) -> str:
    """Formats the results of a benchmark."""
    return "\n".join(_lines(results))


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    machine, configuration = results["machine"], results["configuration"]
    devices = ", ".join(machine["gpus"]) or machine["processor"] or "CPU"
    yield f"machine        {devices}, {machine['cores']} cores, TensorFlow {machine['tensorflow']}"
    for precision, peak in results["peaks"].items():
        yield f"peak           {peak / 1e9:.0f} GFLOP/s {precision} (4096 x 4096 matrices)"
    yield (
        f"configuration  {', '.join(configuration['gin_files'])}: "
        f"{count_of(configuration['batch_size'], 'clip')} a step, "
        f"{configuration['micro_batch_size']} at a time"
    )
    if configuration["data"] == "noise":
        yield "input          the configured data are not there: 320 x 240 JPEG noise instead"
    yield ""
    yield table(results["rows"])
    for precision, difference in results.get("output_difference", {}).items():
        yield ""
        yield (
            f"Embeddings, {precision}: within {difference:.1e} of the reference's "
            "(share of the largest value)."
        )
    for precision in {row["variant"]: None for row in results["ratios"]}:
        yield ""
        yield f"In turn with the package in {precision}, multiples of its figures (times by clip):"
        rows = (_compared(row) for row in results["ratios"] if row["variant"] == precision)
        yield columns(_COMPARED, rows)
    for precision, estimate in results["estimates"].items():
        yield ""
        yield from _estimate(precision, estimate, machine["memory_bytes"])


_COMPARED = (
    "part",
    "variant",
    "time",
    "by rounds",
    "memory",
    "to the first run",
    "lines of layers",
)


def _compared(row: Mapping[str, Any]) -> tuple[str, ...]:
    name = "the package" if row["beside"] == row["variant"] else row["beside"]
    time, memory, first = (f"{row[which]:.2f}" for which in ("median", "memory", "first"))
    spread = f"{row['least']:.2f} to {row['most']:.2f}"
    return (row["part"], name, time, spread, memory, first, f"{row['lines']:,}")


def _estimate(precision: str, estimate: Mapping[str, Any], available: int | None) -> Iterator[str]:
    cost = f", costs {estimate['cost']:,.2f}" if "cost" in estimate else ""
    yield (
        f"The run, {precision}: {count_of(estimate['steps'], 'step')} take "
        f"{duration(estimate['seconds'])}"
        f"{cost}; evaluations and checkpoints come on top."
    )
    if "memory" not in estimate:
        return
    sizes = ", ".join(
        f"{row['bytes'] / 1e9:.1f} GB at {row['micro_batch_size']}" for row in estimate["memory"]
    )
    yield wrapped(f"Peak memory by MICRO_BATCH_SIZE: {sizes}.")
    if available:
        fitting = [
            row["micro_batch_size"] for row in estimate["memory"] if row["bytes"] < 0.9 * available
        ]
        yield (
            f"In {available / 1e9:.1f} GB fits "
            + (f"MICRO_BATCH_SIZE={max(fitting)}." if fitting else "none of them.")
        )
