"""Small inline SVG charts for the report.

Drawn by hand, not by matplotlib, because an inline SVG takes its colours from the page's style
sheet: one file looks right on a light and on a dark background, and the text stays text.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vatt_tf.wording import fixed

WIDTH, HEIGHT = 480, 270
# Colours for runs and classes, see style.py.
NUMBERED = 10
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 12, 42


@dataclasses.dataclass(frozen=True)
class Series:
    """One line or cloud of points.

    Attributes:
        name: Name in the legend.
        x: [n].
        y: [n].
        style: CSS class that carries the colour, e.g. ``"video"``.
        notes: Tooltip of each point, for scatter plots.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    style: str
    notes: Sequence[str] = ()


def rounded(count: int | None) -> str:
    """A count in three digits: 9.61M; "" for None."""
    return "" if count is None else format_number(float(f"{count:.3g}"))


def numbered_style(index: int) -> str:
    """CSS class of the colour of run or class ``index``; the colours repeat after ten."""
    return f"c{index % NUMBERED}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover [low, high], about ``count`` of them."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def format_number(value: float, scientific: bool = False) -> str:
    """Short form of a number: 12k, 0.25, 1e-4 (the last one always when ``scientific``)."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:g}M"
    if size >= 1e4:
        return f"{value / 1e3:g}k"
    if size and (scientific or size < 1e-3):
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.6g}"


def _horizontal(style: str, y: float) -> str:
    right = WIDTH - _RIGHT
    return f'<line class="{style}" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'


class _Axes:
    """Maps data to the page and draws the frame."""

    def __init__(self, x_ticks: list[float], y_ticks: list[float], bottom: int = _BOTTOM):
        self.x_ticks, self.y_ticks = x_ticks, y_ticks
        self.floor = HEIGHT - bottom

    def x(self, value: Any) -> Any:
        low, high = self.x_ticks[0], self.x_ticks[-1]
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: Any) -> Any:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return self.floor - (value - low) / (high - low) * (self.floor - _TOP)

    def path(self, x: np.ndarray, y: np.ndarray) -> str:
        points = zip(self.x(x), self.y(y), strict=True)
        return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)

    def frame(self, x_label: str, y_label: str, y_text: bool = True) -> str:
        parts = []
        small = any(0 < abs(tick) < 1e-3 for tick in self.y_ticks)
        for tick in self.y_ticks if y_text else ():
            y = self.y(tick)
            parts.append(_horizontal("grid", y))
            text = format_number(tick, scientific=small)
            parts.append(f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        for i, tick in enumerate(self.x_ticks):
            x = self.x(tick)
            anchor = "end" if i == len(self.x_ticks) - 1 and x > WIDTH - 30 else "middle"
            parts.append(
                f'<text x="{x:.1f}" y="{self.floor + 17}" text-anchor="{anchor}">'
                f"{format_number(tick)}</text>"
            )
        parts.append(_horizontal("axis", self.floor))
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        parts.append(
            f'<text class="label" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">'
            f"{html.escape(x_label)}</text>"
        )
        if y_label:
            center = (_TOP + self.floor) / 2
            parts.append(
                f'<text class="label" x="13" y="{center}" text-anchor="middle" '
                f'transform="rotate(-90 13 {center})">{html.escape(y_label)}</text>'
            )
        return "".join(parts)


def _svg(body: str, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(description, quote=True)}">{body}</svg>'
    )


def smooth(y: np.ndarray, share: float = 0.04) -> np.ndarray:
    """Running mean over a centred window of ``share`` of the points, shorter at the ends."""
    half = int(len(y) * share / 2)
    if half < 1:
        return y
    sums = np.concatenate([[0.0], np.cumsum(y)])
    index = np.arange(len(y))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(y))
    return (sums[high] - sums[low]) / (high - low)


def _thin(x: np.ndarray, y: np.ndarray, most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    if len(x) <= most:
        return x, y
    index = np.unique(np.linspace(0, len(x) - 1, most).round().astype(int))
    return x[index], y[index]


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    reference: tuple[str, float] | None = None,
    zero: bool = False,
) -> str:
    """Lines over a common x; long noisy ones also get their running mean.

    Args:
        series: The lines; values that are not finite are left out.
        x_label: Name of the x axis.
        y_label: Name of the y axis, with its unit; "" where the title has it.
        reference: (name, value) of a dashed horizontal line.
        zero: Whether the y axis starts at 0.
    """
    lines = []
    for one in series:
        good = np.isfinite(one.y)
        lines.append(dataclasses.replace(one, x=one.x[good], y=one.y[good]))
    lines = [one for one in lines if len(one.x)]
    if not lines:
        return ""
    every = np.concatenate([one.y for one in lines])
    # A spike at the start must not flatten the rest.
    low, high = float(every.min()), float(np.quantile(every, 0.995 if len(every) > 50 else 1.0))
    if reference is not None:
        low, high = min(low, reference[1]), max(high, reference[1])
    x_all = np.concatenate([one.x for one in lines])
    axes = _Axes(
        ticks(float(x_all.min()), float(x_all.max()), 6), ticks(0.0 if zero else low, high, 5)
    )
    # The curve fills the width: the last tick may lie beyond the last step.
    axes.x_ticks = [t for t in axes.x_ticks if t <= x_all.max() * 1.0001] or axes.x_ticks
    if len(axes.x_ticks) < 2:
        axes.x_ticks = [float(x_all.min()), float(max(x_all.max(), x_all.min() + 1))]
    elif axes.x_ticks[-1] < x_all.max():
        gap = axes.x_ticks[-1] - axes.x_ticks[-2]
        if x_all.max() - axes.x_ticks[-1] < 0.35 * gap:
            axes.x_ticks.pop()
        axes.x_ticks.append(float(x_all.max()))
    body = [axes.frame(x_label, y_label)]
    if reference is not None:
        y = axes.y(reference[1])
        body.append(_horizontal("reference", y))
        body.append(
            f'<text class="note" x="{WIDTH - _RIGHT}" y="{y - 5:.1f}" text-anchor="end">'
            f"{html.escape(reference[0])}</text>"
        )
    for one in lines:
        x, y = _thin(one.x, np.clip(one.y, axes.y_ticks[0], axes.y_ticks[-1]))
        if len(one.x) > 60:  # noisy: the raw line stays behind its running mean
            body.append(f'<path class="line {one.style} faint" d="{axes.path(x, y)}"/>')
            x, y = _thin(one.x, np.clip(smooth(one.y), axes.y_ticks[0], axes.y_ticks[-1]))
        body.append(f'<path class="line {one.style}" d="{axes.path(x, y)}"/>')
        note = html.escape(f"{one.name}: {y[-1]:.4g} at {x[-1]:g}")
        body.append(
            f'<circle class="dot {one.style}" cx="{axes.x(x[-1]):.1f}" cy="{axes.y(y[-1]):.1f}" '
            f'r="3.5"><title>{note}</title></circle>'
        )
    names = ", ".join(f"{one.name} ends at {one.y[-1]:.3g}" for one in lines)
    return _svg("".join(body), f"curves over {x_label}: {names}")


def histogram(groups: Sequence[tuple[str, np.ndarray, str]], x_label: str, bins: int = 40) -> str:
    """Densities of several groups of numbers as overlaid filled steps, with a line at each mean.

    Args:
        groups: (name, values, style) of each group.
        x_label: Name of the x axis.
        bins: Steps over the range of all values.
    """
    every = np.concatenate([values for _, values, _ in groups])
    x_ticks = ticks(float(every.min()), float(every.max()), 6)
    edges = np.linspace(x_ticks[0], x_ticks[-1], bins + 1)
    heights = [np.histogram(values, edges, density=True)[0] for _, values, _ in groups]
    axes = _Axes(x_ticks, [0.0, max(float(h.max()) for h in heights) * 1.05])
    body = []
    for (name, values, style), height in zip(groups, heights, strict=True):
        steps = np.concatenate([[0.0], np.repeat(height, 2), [0.0]])
        body.append(f'<path class="area {style}" d="{axes.path(np.repeat(edges, 2), steps)}Z"/>')
        mean = axes.x(float(values.mean()))
        body.append(
            f'<line class="mean {style}" x1="{mean:.1f}" x2="{mean:.1f}" y1="{_TOP}" '
            f'y2="{axes.floor}"><title>{html.escape(name)}: mean '
            f"{fixed(values.mean(), 3)}</title></line>"
        )
    body.append(axes.frame(x_label, "density", y_text=False))
    means = ", ".join(f"{name} mean {fixed(values.mean(), 3)}" for name, values, _ in groups)
    return _svg("".join(body), f"densities of {x_label}: {means}")


def _point(style: str, x: float, y: float, note: str) -> str:
    """Marker with a tooltip; each modality has a shape, legible without colour."""
    title = f"<title>{html.escape(note)}</title>"
    if style == "audio":
        return f'<path d="M{x:.1f} {y - 4.4:.1f}l4 7.2h-8z">{title}</path>'
    if style == "text":
        return f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6">{title}</rect>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4">{title}</circle>'


def scatter(series: Sequence[Series]) -> str:
    """Clouds of points without axes (t-SNE has no units)."""
    x = np.concatenate([one.x for one in series])
    y = np.concatenate([one.y for one in series])
    pad = 10
    x_scale = (WIDTH - 2 * pad) / max(float(np.ptp(x)), 1e-9)
    y_scale = (HEIGHT - 2 * pad) / max(float(np.ptp(y)), 1e-9)
    body = []
    for one in series:
        places = zip(
            pad + (one.x - x.min()) * x_scale,
            pad + (one.y - y.min()) * y_scale,
            one.notes or [one.name] * len(one.x),
            strict=True,
        )
        points = "".join(_point(one.style, a, b, note) for a, b, note in places)
        body.append(f'<g class="points {one.style}">{points}</g>')
    return _svg("".join(body), "t-SNE of " + ", ".join(one.name for one in series))
