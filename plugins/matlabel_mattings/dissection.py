"""Nested dissection of the pixels of a grid: the order in which they are eliminated, and which fronts that makes.

George, Nested Dissection of a Regular Finite Element Mesh, SIAM J. Numer. Anal. 10(2), 1973. Lines of pixels as wide
as the stencil reaches cut the pixels in two, again and again, until few are left. Each cut, and each rest, is a front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64
from numba import njit

LEAF = 32
"""Most pixels that are not cut any further."""
ROW, COLUMN = 16, 0xFFFF
"""While they are sorted, a pixel is its row shifted by ROW, and its column."""
UNEVEN = 8.0
"""How much a cut that leaves one side empty counts above one of as many pixels through the middle."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Fronts in the order of their elimination, children before parents; a place is a pixel's number in that order."""

    pixels: Int32[np.ndarray, " n"]
    """The pixel at each place, as its index in the flat grid."""
    places: Int32[np.ndarray, " grid"]
    """The place of each pixel of the grid; -1 for those outside."""
    starts: Int32[np.ndarray, " f+1"]
    """Front i eliminates the places from starts[i] to starts[i + 1]."""
    parents: Int32[np.ndarray, " f"]
    """-1 for the last front of each connected part."""
    parities: Int32[np.ndarray, " f"]
    """0 or 1: whether a front's number of ancestors is even."""
    ends: Int64[np.ndarray, " f+1"]
    rows: Int32[np.ndarray, " r"]
    """rows[ends[i]:ends[i + 1]]: places beyond front i's own that its elimination changes, ascending."""


def dissect(inside: Bool[np.ndarray, "h w"], reach: int) -> Tree:
    """The tree of the pixels `inside`; none may lie within `reach`, the stencil's, of the grid's edge."""
    rows, columns = np.nonzero(inside)
    codes, width = (rows << ROW | columns).astype(np.int32), inside.shape[1]
    starts, parents, parities = _cut(codes, reach, LEAF, UNEVEN)
    pixels = (codes >> ROW) * np.int32(width) + (codes & COLUMN)
    places = np.full(inside.size, -1, np.int32)
    places[pixels] = np.arange(len(pixels), dtype=np.int32)
    ends, beyond = _rows(pixels, places, starts, parents, width, reach)
    return Tree(pixels, places, starts, parents, parities, ends, beyond)


@njit(cache=True, nogil=True)
def _best(counts: Any, reach: Any, total: Any, uneven: Any) -> Any:
    """Cost and first line of the best cut, given how many pixels each line holds; neither side may be empty."""
    best, at, before = np.inf, -1, 0
    for i in range(1, len(counts) - reach):
        before += counts[i - 1]
        cut = 0
        for k in range(reach):
            cut += counts[i + k]
        off = (2 * before + cut - total) / total
        cost = (cut + 0.5) * (1 + uneven * off * off)
        if cost < best:
            best, at = cost, i
    return best, at


@njit(cache=True, nogil=True)
def _choose(pixels: Any, reach: Any, uneven: Any) -> Any:
    """How far to shift a pixel to see the coordinate to cut along, and the first line of the cut."""
    top, bottom, left, right = pixels[0] >> ROW, pixels[0] >> ROW, COLUMN, 0
    for g in pixels:
        y, x = g >> ROW, g & COLUMN
        top, bottom, left, right = min(top, y), max(bottom, y), min(left, x), max(right, x)
    rows, columns = np.zeros(bottom - top + 1, np.int32), np.zeros(right - left + 1, np.int32)
    for g in pixels:
        rows[(g >> ROW) - top] += 1
        columns[(g & COLUMN) - left] += 1
    across, y = _best(rows, reach, len(pixels), uneven)
    down, x = _best(columns, reach, len(pixels), uneven)
    return (0, left + x) if down < across else (ROW, top + y)


@njit(cache=True, nogil=True)
def _split(pixels: Any, spare: Any, reach: Any, shift: Any, line: Any) -> Any:
    """Bring `pixels` into the order before, after, on the cut; how many are before and after it."""
    before, after = 0, 0
    for g in pixels:
        at = (g >> shift) & COLUMN
        before += at < line
        after += at >= line + reach
    fill = np.zeros(3, np.int64)
    fill[1], fill[2] = before, before + after
    for g in pixels:
        at = (g >> shift) & COLUMN
        side = 0 if at < line else 1 if at >= line + reach else 2
        spare[fill[side]] = g
        fill[side] += 1
    for k in range(len(pixels)):
        pixels[k] = spare[k]
    return before, after


@njit(cache=True, nogil=True)
def _cut(pixels: Any, reach: Any, leaf: Any, uneven: Any) -> Any:
    """Sort pixels, row << ROW | column, by elimination; starts, parents and parities of the fronts."""
    spare = np.empty_like(pixels)
    todo = [(0, len(pixels), -1, 0)]
    found = [(0, 0, 0)]
    found.clear()
    while len(todo):
        start, stop, parent, level = todo.pop()
        if stop - start > leaf:
            part = pixels[start:stop]
            shift, line = _choose(part, reach, uneven)
            before, after = _split(part, spare, reach, shift, line)
            middle, own = start + before, start + before + after
        else:
            middle, own = start, start
        if stop > own:  # a cut through a gap makes no front
            found.append((own, parent, level % 2))
            parent, level = len(found) - 1, level + 1
        if own > middle:
            todo.append((start, middle, parent, level))
            todo.append((middle, own, parent, level))
    count = len(found)
    starts = np.full(count + 1, len(pixels), np.int32)
    parents, parities = np.empty(count, np.int32), np.empty(count, np.int32)
    for i in range(count):
        starts[i], parents[i], parities[i] = found[count - 1 - i]
        if parents[i] >= 0:
            parents[i] = count - 1 - parents[i]
    return starts, parents, parities


@njit(cache=True, nogil=True)
def _rows(pixels: Any, places: Any, starts: Any, parents: Any, width: Any, reach: Any) -> Any:
    """Ends and rows of a `Tree`."""
    count = len(starts) - 1
    ends, rows = np.zeros(count + 1, np.int64), np.empty(8 * len(pixels) + 64, np.int32)
    seen = np.full(len(pixels), -1, np.int32)
    last, following = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    for i in range(count):
        first, end, n = starts[i], starts[i + 1], ends[i]
        most = (end - first) * ((2 * reach + 1) ** 2 - 1)
        child = last[i]
        while child >= 0:
            most += ends[child + 1] - ends[child]
            child = following[child]
        if n + most > len(rows):
            more = np.empty(2 * len(rows) + most, np.int32)
            for e in range(n):
                more[e] = rows[e]
            rows = more
        child = last[i]
        while child >= 0:
            for e in range(ends[child], ends[child + 1]):
                q = rows[e]
                if q >= end and seen[q] != i:
                    seen[q], rows[n] = i, q
                    n += 1
            child = following[child]
        for p in range(first, end):
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    q = places[pixels[p] + dy * width + dx]
                    if q >= end and seen[q] != i:
                        seen[q], rows[n] = i, q
                        n += 1
        rows[ends[i] : n].sort()
        ends[i + 1] = n
        if parents[i] >= 0:
            following[i] = last[parents[i]]
            last[parents[i]] = i
    return ends, rows[: ends[count]].copy()
