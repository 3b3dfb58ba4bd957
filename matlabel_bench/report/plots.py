"""Drawings of the HTML page: SVG written by hand, so that it follows the page's colours and is the same every time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from matlabel_bench.report.model import Curve, StageScore

COLOURS = 8
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 340, 48, 12, 12, 44


@dataclass(frozen=True, slots=True)
class Bar:
    """A stage's score with its change to the stage before; three widths in per cent draw it."""

    score: StageScore
    change: float | None
    base: float
    gain: float
    loss: float


def curves(lines: Sequence[Curve]) -> str:
    """mIoU over the background threshold, one line a row; a dot where a rule chose, hollow for the oracle."""
    values = [v for c in lines for v in c.values]
    low, high = math.floor(min(values) / 10) * 10, max(math.ceil(max(values) / 10) * 10, 10)
    high = high if high > low else low + 10

    def at(threshold: float, value: float) -> tuple[str, str]:
        x = _LEFT + threshold * (_WIDTH - _LEFT - _RIGHT)
        y = _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return f"{x:.1f}", f"{y:.1f}"

    title = "mIoU over the background threshold; the numbers are in curves.csv"
    out = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">']
    for value in range(low, high + 1, 10 if high - low <= 60 else 20):
        (left, y), (right, _) = at(0, value), at(1, value)
        out.append(f'<line class="grid" x1="{left}" y1="{y}" x2="{right}" y2="{y}"/>')
        out.append(f'<text class="tick" x="{_LEFT - 8}" y="{y}" dy="4" text-anchor="end">{value}</text>')
    for tenth in range(0, 11, 2):
        x, y = at(tenth / 10, low)
        out.append(f'<text class="tick" x="{x}" y="{y}" dy="18" text-anchor="middle">{tenth / 10:.1f}</text>')
    x, _ = at(0.5, low)
    out.append(f'<text class="tick" x="{x}" y="{_HEIGHT - 6}" text-anchor="middle">background threshold</text>')
    for number, curve in enumerate(lines):
        path = " ".join(",".join(at(j / 100, v)) for j, v in enumerate(curve.values))
        out.append(f'<polyline class="{colour(number)}" points="{path}"><title>{escape(curve.row)}</title></polyline>')
        out += [_dot(at(t, value_at(curve, t)), rule, t, curve, number) for rule, t in sorted(curve.chosen.items())]
    return "\n".join([*out, "</svg>"])


def colour(number: int) -> str:
    """CSS classes of a line: a colour, and a dash pattern once the colours are used up."""
    return f"line c{number % COLOURS} d{number // COLOURS % 3}"


def value_at(curve: Curve, threshold: float) -> float:
    """The curve's value at the nearest of its thresholds (a mean over seeds may lie between two)."""
    return curve.values[min(max(round(threshold * 100), 0), len(curve.values) - 1)]


def bars(stages: Sequence[StageScore]) -> list[list[Bar]]:
    """Bars of each row in the order of its stages, on a scale of 0 to 100."""
    rows: dict[str, list[Bar]] = {}
    for score in stages:
        before = rows.setdefault(score.row, [])
        last = before[-1].score.value if before else None
        change = None if last is None else score.value - last
        base = score.value if last is None else min(last, score.value)
        before.append(Bar(score, change, base, max(change or 0, 0), max(-(change or 0), 0)))
    return list(rows.values())


def _dot(place: tuple[str, str], rule: str, threshold: float, curve: Curve, number: int) -> str:
    said = escape(f"{curve.row}: {rule} threshold {threshold:.2f}, {value_at(curve, threshold):.1f}")
    hollow = " hollow" if rule == "oracle" else ""
    x, y = place
    return f'<circle class="dot c{number % COLOURS}{hollow}" cx="{x}" cy="{y}" r="4"><title>{said}</title></circle>'
