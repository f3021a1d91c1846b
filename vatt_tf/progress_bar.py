"""Progress bar of all commands."""

from __future__ import annotations

import sys
from typing import Any

# The rate is never inverted: "0.05 steps/s", not "18.97s/ steps".
_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


def progress_bar(
    doing: str, total: float | None, unit: str, *, initial: float = 0, quiet: bool = False
) -> Any:
    """Progress bar on standard error with rate and remaining time.

    Args:
        doing: The activity, ``"embedding"``.
        total: Total number of units; None where it is unknown.
        unit: Name of a unit, ``"clips"``; ``"B"`` for bytes.
        initial: Units done before.
        quiet: Shows no bar.

    Returns:
        A ``tqdm.tqdm``.
    """
    from tqdm import tqdm

    is_bytes = unit == "B"
    return tqdm(
        desc=doing,
        total=total,
        unit=unit if is_bytes else f" {unit}",
        unit_scale=is_bytes,
        initial=initial,
        disable=quiet,
        file=sys.stderr,
        # In a file, standard error gets a line every 15 s.
        mininterval=0.5 if sys.stderr.isatty() else 15.0,
        dynamic_ncols=True,
        bar_format=_FORMAT if total else None,
    )
