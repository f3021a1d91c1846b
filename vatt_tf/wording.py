"""Numbers and lines as the commands print them."""

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
    """``1 clip``, ``2 clips``.

    Args:
        number: How many.
        name: Of one.
        plural: Of several; with an s by default.
    """
    return f"{number:,} {name if number == 1 else plural or name + 's'}"


def fixed(value: float, digits: int) -> str:
    """A number with so many digits after the point; what rounds to 0 has no sign."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def percent(fraction: float, digits: int = 1) -> str:
    """``0.812`` -> ``81.2 %``."""
    return f"{fixed(100 * fraction, digits)} %"


def shortened(text: str, width: int) -> str:
    """A text of at most ``width`` columns; a longer one loses its middle."""
    if len(text) <= width:
        return text
    kept = width - len("...")
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def wrapped(line: str) -> str:
    """A long line as several of at most ``WIDTH`` columns."""
    return textwrap.fill(
        line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
