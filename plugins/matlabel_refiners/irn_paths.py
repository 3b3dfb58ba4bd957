"""Pairs of neighbouring cells and the straight paths between them, as IRN looks at them.

Compared with jiwoon-ahn/irn at a2ece00 (MIT), misc/indexing.py: the same pairs, paths and order, by offsets instead of
tables of indices (28 million of them for a grid of 128 x 128), so that slices of a map do the work.
"""

from __future__ import annotations

from functools import lru_cache

from matlabel_bench.errors import UsageError

CELL = 4
"""Pixels of a cell's side: the branches answer on a grid of a quarter of the image."""

CellPath = tuple[tuple[int, int], ...]
"""(row, column) offsets of the cells between a source and its destination, both included, destination first."""


def grid(pixels: int) -> int:
    """Cells along a side of so many pixels; the last may reach over the edge."""
    return -(-pixels // CELL)


def offsets(radius: int) -> list[tuple[int, int]]:
    """Destinations as seen from a source: one of each two opposite ones, nearer than `radius` cells."""
    beside = [(0, x) for x in range(1, radius)]
    below = [(y, x) for y in range(1, radius) for x in range(1 - radius, radius) if x * x + y * y < radius * radius]
    return beside + below


def path(row: int, column: int) -> CellPath:
    """The cells of the bounding box of (0, 0) and (row, column) that are less than one cell off the line."""
    square = row * row + column * column
    box = [(y, x) for y in range(row + 1) for x in range(min(0, column), max(0, column) + 1)]
    near = [(y, x) for y, x in box if (row * x - column * y) ** 2 < square]
    return tuple(sorted(near, key=lambda cell: -cell[0] - abs(cell[1])))


@lru_cache(maxsize=8)
def paths(radius: int) -> tuple[CellPath, ...]:
    """The paths to all offsets, shorter ones first."""
    return tuple(sorted((path(*offset) for offset in offsets(radius)), key=len))


def sources(height: int, width: int, radius: int) -> tuple[slice, slice]:
    """Rows and columns of the cells from which every destination lies on the grid.

    Raises:
        UsageError: there are none; the grid is too small for the radius.
    """
    margin = radius - 1
    if height <= margin or width <= 2 * margin:
        raise UsageError(
            f"a grid of at least {margin + 1} x {2 * margin + 1} cells for paths of radius {radius}",
            f"{height} x {width}",
            f"raise crop ({CELL} pixels a cell), or lower train_radius",
        )
    return slice(0, height - margin), slice(margin, width - margin)


def shifted(window: tuple[slice, slice], row: int, column: int) -> tuple[slice, slice]:
    """The window moved by an offset."""
    rows, columns = window
    return slice(rows.start + row, rows.stop + row), slice(columns.start + column, columns.stop + column)
