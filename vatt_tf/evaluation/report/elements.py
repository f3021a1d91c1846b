"""HTML elements of the report's sections."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

CHANCE_LEGEND = '<div class="legend"><span><i class="key mark"></i>chance, in brackets</span></div>'


def legend(series: Sequence[tuple[str, str]]) -> str:
    """HTML legend of (name, style) pairs."""
    items = "".join(
        f'<span><i class="key {style}"></i>{html.escape(name)}</span>' for name, style in series
    )
    return f'<div class="legend">{items}</div>'


def bar(
    value: float,
    chance: float | None = None,
    style: str = "accent",
    interval: Sequence[float] | None = None,
) -> str:
    """HTML bar of a fraction, with a mark at chance and a whisker over the interval."""
    share = 100 * min(max(value, 0.0), 1.0)
    mark = "" if chance is None else f'<b style="left:{100 * min(chance, 1.0):.2f}%"></b>'
    if interval is not None:
        low, high = (100 * min(max(end, 0.0), 1.0) for end in interval)
        mark += f'<u style="left:{low:.2f}%;width:{high - low:.2f}%"></u>'
    return f'<span class="bar"><i class="{style}" style="width:{share:.2f}%"></i>{mark}</span>'


def percent_cell(
    value: float,
    chance: float | None = None,
    style: str = "accent",
    interval: Sequence[float] | None = None,
) -> str:
    """HTML table cell: a bar and the fraction in percent, with chance in brackets.

    Args:
        value: Fraction in [0, 1].
        chance: Chance level.
        style: CSS class that carries the colour.
        interval: Confidence interval (low, high) of the fraction.
    """
    note = "" if chance is None else f" <small>({100 * chance:.1f})</small>"
    if interval is not None:
        note += f"<br><small>{100 * interval[0]:.1f} to {100 * interval[1]:.1f}</small>"
    return (
        f'<td><div class="cell">{bar(value, chance, style, interval)}'
        f"<span>{100 * value:.1f}&nbsp;%{note}</span></div></td>"
    )


def table(head: Sequence[str], rows: Sequence[str]) -> str:
    """HTML table that scrolls when it is too wide; ``head`` is text, ``rows`` are ``<tr>``."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    return (
        f'<div class="scroll"><table><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def strip(jpeg: bytes) -> str:
    """HTML image of a frame strip."""
    data = base64.b64encode(jpeg).decode("ascii")
    return f'<img alt="frames of the clip" src="data:image/jpeg;base64,{data}">'


def tiles(values: Sequence[tuple[str, str, str]]) -> str:
    """HTML row of numbers: (name, value, note) each; nothing without numbers."""
    cells = "".join(
        f'<div class="tile"><span>{html.escape(a)}</span><strong>{html.escape(b)}</strong>'
        f"<small>{html.escape(c)}</small></div>"
        for a, b, c in values
    )
    return f'<div class="tiles">{cells}</div>' if cells else ""


def grid(parts: Sequence[str], style: str = "") -> str:
    """HTML grid of figures; those that are empty are left out."""
    body = "".join(parts)
    return f'<div class="charts {style}">{body}</div>' if body else ""


def figure(title: str, chart: str, legend: str = "") -> str:
    """HTML figure: a title, a legend, a chart."""
    return f"<figure><h3>{html.escape(title)}</h3>{legend}{chart}</figure>"


def card(title: str, hint: str, body: str) -> str:
    """HTML section with a title and a hint; nothing when the body is empty."""
    return f'<section><h2>{title}</h2><p class="hint">{hint}</p>{body}</section>' if body else ""
