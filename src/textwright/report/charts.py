"""Charts as inline SVG: curves with axes and a legend, and values with their intervals.

Colors are the page's variables (`--series-1` to `--series-8`), so a chart turns dark with its page.
Each has a title and a description for those who cannot see it, and tells its series apart by dashes
as well as by color. Sizes are in the drawing's own units; the page scales it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

SERIES = 8  # colors; a ninth series begins again with the first
WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 78, 20, 14, 58  # margins
ROW = 54  # height of a row in an interval plot: a name above its mark
# Where the label of a point may stand, tried in this order from one on that its series chooses.
_BESIDE = (
    *((-7, -6, "end"), (8, 6, "start"), (2, 18, "start"), (8, -8, "start"), (-8, 15, "end")),
    *((0, -14, "middle"), (0, 24, "middle"), (-14, 4, "end"), (14, 4, "start")),
    *((-10, -20, "end"), (10, 26, "start"), (10, -22, "start"), (-10, 30, "end")),
)
LETTER, LINE = 9, 15  # about how large a letter is, between that of a desk and that of a phone
_DASHES = ("", "7 4", "2 3", "9 3 2 3")


@dataclass(frozen=True)
class Curve:
    """Points joined by a line. series: which color, from 0; dots: mark each point; joined: False
    for stars alone; labels: one beside each point."""

    name: str
    points: Sequence[tuple[float, float]]
    series: int
    dots: bool = False
    joined: bool = True
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Interval:
    """A value with its interval. note: written at the end of its row."""

    name: str
    value: float
    low: float
    high: float
    series: int = 0
    note: str = ""


def line_chart(
    curves: Sequence[Curve], *, x: str, y: str, title: str, description: str, log_x: bool = False
) -> str:
    """Curves over shared axes, with their legend → HTML. x, y: what the axes measure, with units.
    log_x: a logarithmic axis, where all x are above 0. Points that are not finite are left out."""
    kept = [
        [(a, b) for a, b in curve.points if math.isfinite(a) and math.isfinite(b)]
        for curve in curves
    ]
    across = [a for points in kept for a, _ in points]
    up = [b for points in kept for _, b in points]
    steps_x, steps_y = (log_ticks if log_x else ticks)(across), ticks(up)
    to_x = _scale(steps_x[0], steps_x[-1], LEFT, WIDTH - RIGHT, log_x)
    to_y = _scale(steps_y[0], steps_y[-1], HEIGHT - BOTTOM, TOP)
    parts = []
    for tick in steps_y:
        at = to_y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(_text(LEFT - 8, at, label(tick, steps_y), "end", middle=True))
    for place, tick in enumerate(steps_x):
        anchor = {0: "start", len(steps_x) - 1: "end"}.get(place, "middle")
        shown = f"{tick:,g}" if log_x else label(tick, steps_x)
        parts.append(_text(to_x(tick), HEIGHT - BOTTOM + 22, shown, anchor))
    parts.append(
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" '
        f'y2="{HEIGHT - BOTTOM}"/>'
    )
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x, "middle"))
    places = [[(to_x(a), to_y(b)) for a, b in points] for points in kept]
    parts += map(_curve, curves, places)
    parts += _labels(curves, places)
    return _legend(curves, y) + _svg(parts, HEIGHT, title, description)


def interval_plot(
    intervals: Sequence[Interval],
    *,
    x: str,
    title: str,
    description: str,
    zero: bool = False,
) -> str:
    """Values with their intervals, a row each, → HTML. zero: draw the line of no difference."""
    ends = [end for each in intervals for end in (each.low, each.high, each.value)]
    steps = ticks([*ends, 0.0] if zero else ends)
    height = TOP + ROW * len(intervals) + BOTTOM
    to_x = _scale(steps[0], steps[-1], RIGHT, WIDTH - RIGHT)
    bottom = height - BOTTOM
    parts = []
    for place, tick in enumerate(steps):
        at = to_x(tick)
        kind = "axis" if zero and tick == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{at}" x2="{at}" y1="{TOP}" y2="{bottom}"/>')
        anchor = {0: "start", len(steps) - 1: "end"}.get(place, "middle")
        parts.append(_text(at, bottom + 22, label(tick, steps), anchor))
    parts.append(_text(WIDTH / 2, height - 10, x, "middle"))
    for row, each in enumerate(intervals):
        y = TOP + ROW * row
        color = _color(each.series)
        low, value, high = map(to_x, (each.low, each.value, each.high))
        middle = y + 38
        parts.append(_text(RIGHT, y + 22, each.name, "start", kind="name"))
        parts.append(_text(WIDTH - RIGHT, y + 22, each.note, "end"))
        parts.append(
            f'<path d="M{low} {middle}H{high}M{low} {middle - 5}v10M{high} {middle - 5}v10" '
            f'fill="none" stroke="{color}" stroke-width="2.5"/>'
            f'<circle cx="{value}" cy="{middle}" r="5.5" fill="{color}"/>'
        )
    return _svg(parts, height, title, description)


def ticks(values: Sequence[float]) -> list[float]:
    """About five round numbers that enclose the values: steps of 1, 2 or 5 times ten^n."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low < 1e-12 * max(1.0, abs(low)):
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next((times for times in (1, 2, 5) if times * power >= rough * 0.99), 10)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def log_ticks(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 times ten^n, those that enclose the values above 0; ten^n alone, of many."""
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    times = (1, 2, 5) if high < 1_000 * low else (1,)
    steps = [float(f"{each}e{power}") for power in range(first, last + 1) for each in times]
    begin = max(at for at, step in enumerate(steps) if step <= low)
    end = min(at for at, step in enumerate(steps) if step >= high)
    return steps[begin - (begin == end) : end + 1 + (begin == end)]


def label(tick: float, steps: Sequence[float]) -> str:
    """A tick with the decimals that tell it from its neighbors."""
    step = min((abs(b - a) for a, b in pairwise(steps)), default=1.0)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{tick:,.{decimals}f}".replace("-", "−")


def _scale(
    low: float, high: float, begin: float, end: float, log: bool = False
) -> Callable[[float], float]:
    if log:
        straight = _scale(math.log10(low), math.log10(high), begin, end)
        return lambda value: straight(math.log10(value))
    return lambda value: round(begin + (value - low) / (high - low) * (end - begin), 1)


def _color(series: int) -> str:
    return f"var(--series-{series % SERIES + 1})"


def _curve(curve: Curve, places: Sequence[tuple[float, float]]) -> str:
    drawn = ""
    if curve.joined and places:
        points = " ".join(f"{a},{b}" for a, b in places)
        drawn = f'<polyline points="{points}" {_stroke(curve)}/>'
    if curve.dots:
        drawn += "".join(_mark(curve, a, b) for a, b in places)
    return f"<g><title>{html.escape(curve.name)}</title>{drawn}</g>"


def _mark(curve: Curve, x: float, y: float, size: float = 10) -> str:
    """A point: a dot on a line, a star of this radius where there is no line."""
    fill = f'fill="{_color(curve.series)}"'
    if curve.joined:
        return f'<circle cx="{x}" cy="{y}" r="4" {fill}/>'
    corners = (
        (size * (0.4 if turn % 2 else 1.0), math.pi * (turn / 5 - 0.5)) for turn in range(10)
    )
    points = " ".join(
        f"{x + radius * math.cos(angle):.1f},{y + radius * math.sin(angle):.1f}"
        for radius, angle in corners
    )
    return f'<polygon points="{points}" {fill}/>'


def _labels(curves: Sequence[Curve], places: Sequence[Sequence[tuple[float, float]]]) -> list[str]:
    """The labels of points, each where it covers least of the points and of other labels."""
    taken = [(a - 5, b - 5, a + 5, b + 5) for points in places for a, b in points]
    inside = (LEFT + 2, TOP - 4, WIDTH - RIGHT, HEIGHT - BOTTOM - 2)
    drawn = []
    for curve, points in zip(curves, places, strict=True):
        first = curve.series % 3
        for (a, b), shown in zip(points, curve.labels, strict=False):
            if not shown:
                continue
            width = LETTER * len(shown)
            found: list[tuple[Any, ...]] = []
            for across, down, anchor in (*_BESIDE[first:], *_BESIDE[:first]):
                left = a + across - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
                box = (left, b + down - LINE + 3, left + width, b + down + 3)
                covered = sum(_shared(box, other) for other in taken)
                outside = width * LINE - _shared(box, inside)
                found.append((covered + 2 * outside, len(found), box, across, down, anchor))
            _, _, box, across, down, anchor = min(found)
            taken.append(box)
            drawn.append(_text(a + across, b + down, shown, anchor))
    return drawn


def _shared(one: Sequence[float], other: Sequence[float]) -> float:
    """The area that two boxes (left, top, right, bottom) share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _stroke(curve: Curve) -> str:
    dashes = _DASHES[curve.series % len(_DASHES)]
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'class="curve" stroke="{_color(curve.series)}"{dashed}'


def _legend(curves: Sequence[Curve], y: str) -> str:
    """What each curve is, and what goes up; in HTML, which wraps on a narrow page."""
    items = ""
    for curve in curves:
        mark = f'<line x1="0" x2="28" y1="6" y2="6" {_stroke(curve)}/>' if curve.joined else ""
        if curve.dots:
            mark += _mark(curve, 14, 6, 6)
        items += (
            f'<li><svg viewBox="0 0 28 12" aria-hidden="true">{mark}</svg>'
            f"{html.escape(curve.name)}</li>"
        )
    return f'<p class="lead-axis">{html.escape(y)}</p><ul class="legend">{items}</ul>'


def _text(x: float, y: float, text: str, anchor: str, middle: bool = False, kind: str = "") -> str:
    if not text:
        return ""
    named = f' class="{kind}"' if kind else ""
    base = ' dominant-baseline="middle"' if middle else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{named}{base}>{html.escape(text)}</text>'


def _svg(parts: Sequence[str], height: int, title: str, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img">'
        f"<title>{html.escape(title)}</title><desc>{html.escape(description)}</desc>"
        f"{''.join(parts)}</svg>"
    )
