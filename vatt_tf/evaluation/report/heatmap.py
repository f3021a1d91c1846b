"""A table of numbers as coloured cells in an inline SVG: confusion matrices, unit activations."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

WIDTH = 480
LEVELS = 12
# Up to so many columns the cells show their number, and up to so many they have a tooltip.
NUMBERED, NOTED = 12, 200
# Up to so many rows or columns have their name written beside them.
NAMED = 40


def heatmap(
    values: np.ndarray,
    description: str,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    row_title: str = "",
    column_title: str = "",
    numbers: np.ndarray | None = None,
    height: float | None = None,
    style: str = "accent",
) -> str:
    """Cells whose opacity is their value.

    Args:
        values: float [R, C] in [0, 1]; 0 stays empty.
        description: What the picture shows, for readers who do not see it.
        rows: Names of the rows; written when there are at most 40.
        columns: Names of the columns, likewise.
        row_title: Name of the vertical axis.
        column_title: Name of the horizontal axis.
        numbers: [R, C] to write into the cells and their tooltips, while they have room.
        height: Height of the plot, for cells that need not be square.
        style: CSS class that carries the colour.
    """
    count_rows, count_columns = values.shape
    shown_rows = list(map(_short, rows)) if len(rows) <= NAMED else []
    shown_columns = list(map(_short, columns)) if len(columns) <= NAMED else []
    left = 24 + max((6.2 * len(name) for name in shown_rows), default=0)
    bottom = 24 + max((5.2 * len(name) for name in shown_columns), default=0)
    width = WIDTH - left - 8
    if height is None:
        height = width * count_rows / count_columns
    cell = (width / count_columns, height / count_rows)
    row_size, column_size = min(12.5, 0.95 * cell[1]), min(12.5, 0.95 * cell[0])
    body = [
        f'<rect class="field" x="{left:.1f}" y="8" width="{width:.1f}" height="{height:.1f}"/>',
        *_cells(values, left, cell, style),
    ]
    if numbers is not None and count_columns <= NOTED:
        body += _numbers(values, numbers, rows, columns, left, cell)
    for i, name in enumerate(shown_rows):
        y = 8 + (i + 0.5) * cell[1] + row_size / 3
        body.append(_text(name, left - 6, y, row_size, "end"))
    for j, name in enumerate(shown_columns):
        x, y = left + (j + 0.5) * cell[0] + column_size / 3, 8 + height + 8
        body.append(
            _text(name, x, y, column_size, "end", f' transform="rotate(-60 {x:.1f} {y:.1f})"')
        )
    total = 8 + height + bottom
    middle = 8 + height / 2
    if row_title:
        turn = f' class="label" transform="rotate(-90 12 {middle:.1f})"'
        body.append(_text(row_title, 12, middle, 12.5, "middle", turn))
    if column_title:
        body.append(
            _text(column_title, left + width / 2, total - 6, 12.5, "middle", ' class="label"')
        )
    return (
        f'<svg class="heat" viewBox="0 0 {WIDTH} {total:.0f}" role="img" '
        f'aria-label="{html.escape(description, quote=True)}">{"".join(body)}</svg>'
    )


def _cells(values: np.ndarray, left: float, cell: tuple[float, float], style: str) -> list[str]:
    """Draws one path per shade, so that thousands of cells are a small file."""
    level = np.ceil(np.clip(values, 0.0, 1.0) * LEVELS).astype(int)
    paths = []
    for shade in range(1, LEVELS + 1):
        places = np.argwhere(level == shade)
        if len(places):
            box = f"h{cell[0]:.2f}v{cell[1]:.2f}h-{cell[0]:.2f}z"
            data = "".join(
                f"M{left + j * cell[0]:.1f} {8 + i * cell[1]:.1f}{box}" for i, j in places
            )
            paths.append(f'<path class="{style}" fill-opacity="{shade / LEVELS:.2f}" d="{data}"/>')
    return paths


def _numbers(
    values: np.ndarray,
    numbers: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    left: float,
    cell: tuple[float, float],
) -> list[str]:
    """Tooltips of the cells that are not 0, and the numbers while they have room."""
    parts = []
    for i, j in np.argwhere(numbers):
        x, y = left + j * cell[0], 8 + i * cell[1]
        note = f"{rows[i]} \N{RIGHTWARDS ARROW} {columns[j]}: {numbers[i, j]:g}"
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell[0]:.1f}" height="{cell[1]:.1f}" '
            f'fill-opacity="0"><title>{html.escape(note)}</title></rect>'
        )
        if len(columns) <= NUMBERED:
            place = (x + cell[0] / 2, y + cell[1] / 2 + 4)
            shade = ' class="on"' if values[i, j] > 0.55 else ' class="off"'
            parts.append(_text(f"{numbers[i, j]:g}", *place, 12.5, "middle", shade))
    return parts


def _text(words: str, x: float, y: float, size: float, anchor: str, more: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'style="font-size:{size:.1f}px"{more}>{html.escape(words)}</text>'
    )


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else name[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"
