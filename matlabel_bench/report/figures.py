"""Figures of sweeps, as SVG: a line over the rows, or a grid of rows and columns. The numbers stay in the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np

from matlabel_bench.cells import Cell
from matlabel_bench.report.frame import DASH, Report, interval
from matlabel_bench.report.pictures import heat

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 360, 56, 16, 60, 48
_INSET = 16
_CELL, _ROW, _SIDE, _HEAD = 104, 52, 120, 56
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
MEASURED = "measured, with 95 % interval over images"


def figure(report: Report) -> str:
    """The figure of a table whose form is `line` or `grid`; empty for other forms, and where there is no number."""
    if report.info.form == "line":
        return _line(report)
    return _grid(report) if report.info.form == "grid" else ""


def standalone(svg: str) -> str:
    """A figure as a file of its own: with namespace, style, and a ground to stand on."""
    style = (Path(__file__).parent / "figure.css").read_text(encoding="utf-8")
    head, rest = svg.split(">", 1)
    ground = '<rect class="ground" width="100%" height="100%"/>'
    return f'{head} xmlns="http://www.w3.org/2000/svg">\n<style>\n{style}</style>\n{ground}{rest}\n'


@dataclass(frozen=True, slots=True)
class _Point:
    """A row of a sweep: where it stands between 0 and 1, and its cell."""

    row: str
    place: float
    cell: Cell

    @property
    def values(self) -> list[float]:
        cell = self.cell
        return [v for v in (cell.value, cell.low, cell.high, cell.published) if v is not None]


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where values stand on the drawing."""

    low: float
    high: float
    step: float

    @staticmethod
    def around(values: Sequence[float]) -> _Axes:
        """Round numbers below and above the values, with at most eight steps between them."""
        low, high = min(values), max(values)
        step = next((s for s in _STEPS if (high - low) / s <= 6), _STEPS[-1])
        first, last = math.floor(low / step), math.ceil(high / step)
        return _Axes(first * step, (last if last > first else first + 1) * step, step)

    def x(self, place: float) -> str:
        return f"{_LEFT + _INSET + place * (_WIDTH - _LEFT - _RIGHT - 2 * _INSET):.1f}"

    def y(self, value: float) -> str:
        return f"{_TOP + (self.high - value) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM):.1f}"

    def lines(self) -> list[str]:
        """Lines across the drawing with their values at the left."""
        out = []
        for j in range(round((self.high - self.low) / self.step) + 1):
            value = self.low + j * self.step
            y = self.y(value)
            out.append(f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}"/>')
            out.append(_text(_LEFT - 8, y, f"{value:.{0 if self.step >= 1 else 1}f}", "end", "tick", 4))
        return out


def _line(report: Report) -> str:
    """The first column over the rows: measured ones joined where they follow each other, published ones hollow."""
    info = report.info
    column, found = info.columns[0], {c.row: c for c in report.cells if c.column == info.columns[0]}
    points = [_Point(r, p, found.get(r, Cell(info.name, r, column))) for r, p in _places(info.rows)]
    values = [v for p in points for v in p.values]
    if not values:
        return ""
    axes = _Axes.around(values)
    out = [_open(_WIDTH, _HEIGHT, f"{column} over {info.row_label}; the numbers are in the table"), _caption(report)]
    out += axes.lines()
    out += [_text(axes.x(p.place), _HEIGHT - _BOTTOM, p.row, "middle", "tick", 18) for p in points]
    out.append(_text(axes.x(0.5), _HEIGHT - 8, info.row_label, "middle", "tick"))
    published = [p for p in points if p.cell.published is not None]
    out += _path("published", [(axes.x(p.place), axes.y(p.cell.published or 0)) for p in published])
    out += [_square(axes, p) for p in published]
    for there, run in groupby(points, key=lambda p: p.cell.value is not None):
        out += _measured(axes, list(run)) if there else []
    return "\n".join([*out, *_key(report, any(p.cell.value is not None for p in points), bool(published)), "</svg>"])


def _measured(axes: _Axes, run: Sequence[_Point]) -> list[str]:
    """Neighbours that were measured: their line, and each with its interval."""
    out = _path("line c0", [(axes.x(p.place), axes.y(p.cell.value or 0)) for p in run])
    for p in run:
        x, cell = axes.x(p.place), p.cell
        if cell.low is not None and cell.high is not None:
            out.append(f'<line class="line c0" x1="{x}" y1="{axes.y(cell.low)}" x2="{x}" y2="{axes.y(cell.high)}"/>')
        said = escape(f"{p.row}: {interval(cell.value or 0, cell.low, cell.high, metric=cell.metric)}")
        out.append(
            f'<circle class="dot c0" cx="{x}" cy="{axes.y(cell.value or 0)}" r="4"><title>{said}</title></circle>'
        )
    return out


def _square(axes: _Axes, point: _Point) -> str:
    value = point.cell.published or 0
    x, y = float(axes.x(point.place)) - 4, float(axes.y(value)) - 4
    said = escape(f"{point.row}: published {interval(value, None, None, metric=point.cell.metric)}")
    return f'<rect class="published mark" x="{x:.1f}" y="{y:.1f}" width="8" height="8"><title>{said}</title></rect>'


def _caption(report: Report) -> str:
    """Whose numbers these are, so that a figure without its page still says it."""
    face = dict(report.face)
    said = [face["dataset"], face["split"], f"profile {face['profile']}", report.warning]
    return _text(8, 16, " · ".join(s for s in said if s), "start", "tick")


def _key(report: Report, ours: bool, theirs: bool) -> list[str]:
    """What the marks mean, above the drawing."""
    out, x = [], _LEFT
    if ours:
        out += [f'<circle class="dot c0" cx="{x + 6}" cy="38" r="4"/>', _text(x + 18, 38, MEASURED, "start", "tick", 4)]
        x += 300
    if theirs:
        note = report.info.published_note.removeprefix("published:").strip()
        said = f"published ({note})" if note else "published"
        out.append(f'<rect class="published mark" x="{x + 2}" y="34" width="8" height="8"/>')
        out.append(_text(x + 18, 38, said, "start", "tick", 4))
    return out


def _grid(report: Report) -> str:
    """Rows by columns, coloured from the lowest value (violet) to the highest (yellow, outlined)."""
    info = report.info
    cells = {(c.row, c.column): c for c in report.cells}
    values = [c.value for c in report.cells if c.value is not None]
    if not values and all(c.published is None for c in report.cells):
        return ""
    low, high = min(values, default=0), max(values, default=0)
    width, height = _SIDE + _CELL * len(info.columns) + 8, _HEAD + _ROW * len(info.rows) + 8
    out = [_open(width, height, f"{info.row_label}: a grid of colours; the numbers are in the table")]
    out += [_caption(report), _text(8, _HEAD - 14, info.row_label, "start", "tick", 4)]
    for j, column in enumerate(info.columns):
        out.append(_text(_SIDE + (j + 0.5) * _CELL, _HEAD - 14, column, "middle", "tick", 4))
    for i, row in enumerate(info.rows):
        out.append(_text(_SIDE - 12, _HEAD + (i + 0.5) * _ROW, row, "end", "tick", 4))
        for j, column in enumerate(info.columns):
            cell = cells.get((row, column), Cell(info.name, row, column))
            share = None if cell.value is None else (cell.value - low) / (high - low) if high > low else 0.5
            out += _tile(_SIDE + j * _CELL, _HEAD + i * _ROW, cell, share)
    return "\n".join([*out, "</svg>"])


def _tile(x: float, y: float, cell: Cell, share: float | None) -> list[str]:
    """One cell of the grid; `share` says where it stands between the lowest and the highest value."""
    box = f'x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_ROW - 2}"'
    middle, centre = x + _CELL / 2, y + _ROW / 2
    if share is None or cell.value is None:
        out = [f'<rect class="empty" {box}/>', _text(middle, centre, DASH, "middle", "tick", 4)]
        ink = "tick"
    else:
        red, green, blue = (int(v) for v in heat(np.array([[share]], dtype=np.float32))[0, 0])
        ink = "pale" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else "dark"
        said = escape(f"{cell.row}, {cell.column}: {interval(cell.value, cell.low, cell.high, metric=cell.metric)}")
        best = ' class="best"' if share == 1 else ""
        out = [f'<rect{best} {box} fill="rgb({red},{green},{blue})"><title>{said}</title></rect>']
        number = interval(cell.value, None, None, metric=cell.metric)
        out.append(_text(middle, centre, number, "middle", ink, 4 if cell.published is None else -1))
    if cell.published is not None:
        theirs = f"published {interval(cell.published, None, None, metric=cell.metric)}"
        out.append(_text(middle, y + _ROW - 10, theirs, "middle", f"{ink} small"))
    return out


def _places(rows: Sequence[str]) -> list[tuple[str, float]]:
    """Rows with their places from 0 to 1: to scale where all are rising numbers, else at even distances."""
    try:
        numbers = [float(row) for row in rows]
    except ValueError:
        numbers = []
    if not numbers or any(b <= a for a, b in pairwise(numbers)) or not np.isfinite(numbers).all():
        numbers = [float(j) for j in range(len(rows))]
    if len(rows) == 1:
        return [(rows[0], 0.5)]
    return [(row, (n - numbers[0]) / (numbers[-1] - numbers[0])) for row, n in zip(rows, numbers, strict=True)]


def _path(name: str, points: Sequence[tuple[str, str]]) -> list[str]:
    if len(points) < 2:
        return []
    return [f'<polyline class="{name}" points="{" ".join(",".join(p) for p in points)}"/>']


def _text(x: object, y: object, said: str, anchor: str, name: str, down: int = 0) -> str:
    shift = f' dy="{down}"' if down else ""
    return f'<text class="{name}" x="{x}" y="{y}"{shift} text-anchor="{anchor}">{escape(said)}</text>'


def _open(width: int, height: int, said: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(said)}">'
