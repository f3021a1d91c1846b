"""Formatting of numbers and lines in the output of all commands."""

from __future__ import annotations

import textwrap

# Columns of a terminal that every table fits.
WIDTH = 120
# Metric of results.json -> its name in a table.
METRIC_NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_class_accuracy": "mean per class",
    "ap": "AP",
}


def count_of(number: int, name: str, plural: str = "") -> str:
    """Formats a number with its noun: ``1 clip``, ``2 clips``.

    Args:
        number: The number.
        name: Singular.
        plural: Plural; with an s by default.
    """
    return f"{number:,} {name if number == 1 else plural or name + 's'}"


def fixed(value: float, digits: int) -> str:
    """Formats a number with so many decimals; a value that rounds to 0 has no sign."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def percent(fraction: float, digits: int = 1) -> str:
    """Formats a fraction as percentage: ``0.812`` -> ``81.2 %``."""
    return f"{fixed(100 * fraction, digits)} %"


def shortened(text: str, width: int) -> str:
    """Shortens a text to ``width`` columns by leaving out its middle."""
    if len(text) <= width:
        return text
    kept = width - len("...")
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def wrapped(line: str) -> str:
    """Wraps a long line at ``WIDTH`` columns."""
    return textwrap.fill(
        line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
