"""Results of a benchmark: timings, derived figures and their table."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vatt_tf.wording import percent


@dataclasses.dataclass
class Timing:
    """Timings of one part of one variant.

    Attributes:
        part: Its name.
        variant: ``"float32"``, ``"mixed_bfloat16"`` or what is measured beside them.
        seconds: Of every round.
        flops: Floating-point operations of one run by the model's own count; 0: none worth
            counting.
        clips: Clips of one run.
        peak_bytes: Largest peak memory.
        passing_bytes: Largest size of the tensors above what was there before the run.
        waiting: Fraction of the time spent waiting for input; None where there is no input.
        peaks: The machine's FLOP/s right after every round.
        beside: Seconds of the package in the same rounds, of another variant.
        ready: Seconds until the part was traced, compiled and had run ``runs`` times.
        runs: See ``ready``.
    """

    part: str
    variant: str
    seconds: list[float]
    flops: float = 0.0
    clips: int = 0
    peak_bytes: int = 0
    passing_bytes: int = 0
    waiting: float | None = None
    peaks: list[float] = dataclasses.field(default_factory=list)
    beside: list[float] = dataclasses.field(default_factory=list)
    ready: float = 0.0
    runs: int = 2

    @property
    def first(self) -> float:
        """Seconds to the end of the first run."""
        return self.ready - (self.runs - 1) * self.median

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def mfu(self) -> float | None:
        """Median fraction of the machine's peak over the rounds; None where it is unknown."""
        pairs = zip(self.seconds, self.peaks, strict=False)
        shares = [self.flops / seconds / peak for seconds, peak in pairs]
        return statistics.median(shares) if self.flops and shares else None

    def row(self) -> dict[str, Any]:
        """Row of the table and of the JSON file."""
        rate = self.flops / self.median
        return {
            "part": self.part,
            "variant": self.variant,
            "seconds": self.median,
            "fastest": min(self.seconds),
            "slowest": max(self.seconds),
            "clips_per_second": self.clips / self.median,
            "flops": self.flops,
            "flops_per_second": rate,
            "mfu": self.mfu,
            "peak_bytes": self.peak_bytes,
            "passing_bytes": self.passing_bytes,
            "waiting": self.waiting,
            "first_seconds": self.first,
        }

    def compared(self, ours: Timing) -> dict[str, Any]:
        """This variant's figures as multiples of the package's, times by clip."""
        share = self.clips / ours.clips if ours.clips else 1.0
        pairs = [its / own / share for its, own in zip(self.seconds, self.beside, strict=True)]
        return {
            "part": self.part,
            "beside": self.variant,
            "variant": ours.variant,
            "median": statistics.median(pairs),  # of the ratios of the rounds
            "least": min(pairs),
            "most": max(pairs),
            "memory": self.peak_bytes / ours.peak_bytes,
            "first": self.first / ours.first,
        }


_TITLES = ("part", "variant", "time", "clips/s", "GFLOP/s", "MFU", "memory", "passing", "waiting")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats the rows, one per line."""
    return columns(_TITLES, map(_cells, rows))


def columns(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligns the cells of a table, the first two columns to the left."""
    lines = [titles, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = []
    for line in lines:
        left = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        shown.append("  ".join([*left, *right]).rstrip())
    return "\n".join(shown)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["part"],
        row["variant"],
        duration(row["seconds"]),
        f"{row['clips_per_second']:.3g}" if row["clips_per_second"] else "",
        f"{row['flops_per_second'] / 1e9:.1f}" if row["flops"] else "",
        percent(row["mfu"], 0) if row["mfu"] else "",
        f"{row['peak_bytes'] / 1e9:.2f} GB" if row["peak_bytes"] else "",
        f"{row['passing_bytes'] / 1e9:.2f} GB" if row["peak_bytes"] else "",
        percent(row["waiting"]) if row["waiting"] is not None else "",
    )


def duration(seconds: float) -> str:
    """``0.0123`` -> ``12.3 ms``, ``90000`` -> ``25.0 h``."""
    if seconds < 1:
        return f"{1e3 * seconds:.1f} ms"
    if seconds < 120:
        return f"{seconds:.2f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def whole_run(
    steps: int, step_seconds: float, price_per_hour: float | None = None
) -> dict[str, float]:
    """Time and cost of all steps; evaluations and checkpoints come on top."""
    seconds = steps * step_seconds
    cost = {} if price_per_hour is None else {"cost": price_per_hour * seconds / 3600}
    return {"steps": steps, "seconds": seconds, **cost}
