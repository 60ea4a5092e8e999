"""Small line charts under and beside each other, as SVG: no library, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 300, 130
LEFT, TOP, BOTTOM, GAP = 58, 30, 24, 24
COLUMNS = 3
INK, FAINT, LINE, MARK = "#333", "#ddd", "#2b6cb0", "#c05621"


class Series(NamedTuple):
    """One chart: a value a step."""

    name: str
    values: Sequence[float]


def panels(title: str, series: Sequence[Series], *, marks: Sequence[int], unit: str) -> str:
    """All charts with a common x axis of steps of `unit`; `marks` are drawn as dashed lines."""
    rows = -(-len(series) // COLUMNS)
    width = COLUMNS * (LEFT + WIDTH + GAP) + GAP
    height = rows * (TOP + HEIGHT + BOTTOM) + 50
    box = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11" fill="{INK}"'
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{GAP}" y="24" font-size="15">{escape(title)}</text>',
    ]
    for number, one in enumerate(series):
        left = GAP + number % COLUMNS * (LEFT + WIDTH + GAP) + LEFT
        top = 40 + number // COLUMNS * (TOP + HEIGHT + BOTTOM) + TOP
        body += _chart(one, left, top, marks, unit)
    return "\n".join([*body, "</svg>", ""])


def _chart(one: Series, left: int, top: int, marks: Sequence[int], unit: str) -> list[str]:
    most = max(one.values) * 1.08 or 1.0
    steps = max(1, len(one.values) - 1)

    def x(step: float) -> str:
        return f"{left + step / steps * WIDTH:.1f}"

    def y(value: float) -> str:
        return f"{top + HEIGHT - value / most * HEIGHT:.1f}"

    found = [f'<text x="{left}" y="{top - 8}" font-weight="bold">{escape(one.name)}</text>']
    for share in (0.0, 0.5, 1.0):
        value = most * share
        found += [
            f'<line x1="{left}" x2="{left + WIDTH}" y1="{y(value)}" y2="{y(value)}" stroke="{FAINT}"/>',
            f'<text x="{left - 6}" y="{float(y(value)) + 4:.1f}" text-anchor="end">{_short(value)}</text>',
        ]
    found += [
        f'<line x1="{x(step)}" x2="{x(step)}" y1="{top}" y2="{top + HEIGHT}" stroke="{MARK}" stroke-dasharray="3 3"/>'
        for step in marks
    ]
    points = " ".join(f"{x(step)},{y(value)}" for step, value in enumerate(one.values))
    found += [
        f'<polyline points="{points}" fill="none" stroke="{LINE}" stroke-width="1.6"/>',
        f'<text x="{left}" y="{top + HEIGHT + 15}">{unit} 1</text>',
        f'<text x="{left + WIDTH}" y="{top + HEIGHT + 15}" text-anchor="end">{unit} {len(one.values)}</text>',
    ]
    return found


def _short(value: float) -> str:
    for size, name in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}"
