"""The progress bar of all commands."""

from __future__ import annotations

import sys
from typing import Any

# The rate is never turned around: "0.05 steps/s", not "18.97s/ steps".
_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"


def progress_bar(
    doing: str, total: float | None, unit: str, *, initial: float = 0, quiet: bool = False
) -> Any:
    """A bar on standard error with the speed and the time that is left.

    Args:
        doing: What is done, ``"embedding"``.
        total: How much there is; None where nobody knows.
        unit: Of what, ``"clips"``; ``"B"`` for bytes.
        initial: What was done before.
        quiet: No bar.

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
        # A file that collects standard error holds a line a quarter of a minute.
        mininterval=0.5 if sys.stderr.isatty() else 15.0,
        dynamic_ncols=True,
        bar_format=_FORMAT if total else None,
    )
