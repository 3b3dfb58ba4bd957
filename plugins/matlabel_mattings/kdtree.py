"""The k-d tree of PyMatting: boxes halved along their longest side, leaves of 8 to 16 points.

Reference: pymatting 1.1.16, util/kdtree.py. Which of several equally far points are neighbours depends on the tree and
on the order of the points in it, so both are the same here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32
from numba import njit

from matlabel_mattings.lanes import FOUR, extremes

DIMS = 5
LEAF = 16
"""Most points of a leaf; the least are half of it. PyMatting's default."""
KIDS = 16
"""Most members of a family, as many as there are lanes."""
DEPTH = 1000
"""Nodes a walk may have before it; a tree of a million points is some thirty deep."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Points sorted so that each node's are a run of them."""

    points: Float32[np.ndarray, "n 5"]
    order: Int32[np.ndarray, " n"]
    """Which of the given points stands at each place."""
    nodes: Int32[np.ndarray, "m 4"]
    """Start and end of the run; the lower child, the upper one follows it, or -1; axis of the split, or the leaf."""
    splits: Float32[np.ndarray, " m"]
    boxes: Float32[np.ndarray, "m 2 5"]
    starts: Int32[np.ndarray, " l+1"]
    """Where the points of each leaf start, in the order of places, and the end of all."""
    rooms: Float32[np.ndarray, " l*10"]
    """The box of each leaf."""
    tiles: Float32[np.ndarray, " l*80"]
    """Of each leaf sixteen first coordinates, sixteen second ones, and so on; nan where it has fewer points."""
    kids: Int32[np.ndarray, "f 16"]
    """Families, of a node up to sixteen descendants that hold its points: each a leaf, or a family f as -1 - f."""
    sides: Float32[np.ndarray, " f*160"]
    """The boxes of each family, as `lanes.gaps` takes them; nan where it has fewer."""


def grow(points: Float32[np.ndarray, "n 5"]) -> Tree:
    """The tree of at least one point."""
    n = len(points)
    most = 4 * (n // LEAF + 1)
    nodes, splits, boxes = np.empty((most, 4), np.int32), np.empty(most, np.float32), np.empty((most, 2, DIMS), "f4")
    placed, order = points.copy(), np.arange(n, dtype=np.int32)
    count = _grow(placed, order, nodes, splits, boxes)
    nodes, splits, boxes = nodes[:count], splits[:count], boxes[:count]
    leaves = np.flatnonzero(nodes[:, 2] < 0).astype(np.int32)
    leaves = leaves[np.argsort(nodes[leaves, 0])]
    nodes[leaves, 3] = np.arange(len(leaves))
    tiles = np.full((len(leaves), DIMS, LEAF), np.nan, np.float32)
    _tile(placed, nodes, leaves, tiles)
    kids = np.zeros((len(leaves), KIDS), np.int32)
    sides = np.full((len(leaves), 2 * DIMS, KIDS), np.nan, np.float32)
    families = _gather(nodes, boxes, kids, sides)
    starts, rooms = np.append(nodes[leaves, 0], np.int32(n)), boxes[leaves].ravel()
    kids, sides = kids[:families], sides[:families].ravel()
    return Tree(placed, order, nodes, splits, boxes, starts, rooms, tiles.ravel(), kids, sides)


@njit(cache=True, nogil=True)
def _grow(points: Any, order: Any, nodes: Any, splits: Any, boxes: Any) -> Any:
    """Sort `points` and `order` into a tree; fill `nodes` (start, end, lower child or -1, axis); count nodes."""
    stack = np.empty(DEPTH, np.int32)
    left, right = np.empty(len(points) + 1, np.int32), np.empty(len(points) + 1, np.int32)
    low, high = np.empty(FOUR * DIMS, np.float32), np.empty(FOUR * DIMS, np.float32)
    stack[0], depth, count = 0, 1, 1
    nodes[0, 0], nodes[0, 1] = 0, len(points)
    while depth:
        depth -= 1
        node = stack[depth]
        start, end = nodes[node, 0], nodes[node, 1]
        _enclose(points, start, end, low, high, boxes[node])
        nodes[node, 2] = -1
        if end - start <= LEAF:
            continue
        axis = 0
        for d in range(1, DIMS):
            if boxes[node, 1, d] - boxes[node, 0, d] > boxes[node, 1, axis] - boxes[node, 0, axis]:
                axis = d
        side = boxes[node, 1, axis] - boxes[node, 0, axis]
        split = boxes[node, 0, axis] + 0.5 * side  # float64 here and float32 below, as in the reference
        middle = _partition(points, order, start, end, axis, split, left, right)
        middle = max(start + LEAF // 2, min(end - LEAF // 2, middle))
        nodes[node, 2], nodes[node, 3], splits[node] = count, axis, split
        nodes[count, 0], nodes[count, 1] = start, middle
        nodes[count + 1, 0], nodes[count + 1, 1] = middle, end
        stack[depth], stack[depth + 1] = count + 1, count
        depth, count = depth + 2, count + 2
    return count


@njit(cache=True, nogil=True)
def _enclose(points: Any, start: int, end: int, low: Any, high: Any, box: Any) -> None:
    """The box of a run of points; `low` and `high` are room for what `extremes` writes."""
    if end - start < FOUR:
        box[0], box[1] = points[start], points[start]
        for i in range(start + 1, end):
            for d in range(DIMS):
                box[0, d], box[1, d] = _less(points[i, d], box[0, d]), _more(points[i, d], box[1, d])
        return
    extremes(points, start, end, low, high)
    for d in range(DIMS):
        for t in range(d + DIMS, FOUR * DIMS, DIMS):
            low[d], high[d] = _less(low[t], low[d]), _more(high[t], high[d])
        box[0, d], box[1, d] = low[d], high[d]


@njit(cache=True, nogil=True)
def _less(x: Any, y: Any) -> Any:
    return x if x < y else y  # one instruction each; min() would look for nan


@njit(cache=True, nogil=True)
def _more(x: Any, y: Any) -> Any:
    return x if x > y else y


@njit(cache=True, nogil=True)
def _partition(points: Any, order: Any, start: int, end: int, axis: int, split: float, left: Any, right: Any) -> Any:
    """Bring points below `split` to the front, swapping from both ends; the first place at or above it.

    Those to swap are listed first, in `left` and `right`, by sums: a branch would be guessed wrong half the time.
    """
    border, wrong, other = start, 0, 0
    for i in range(start, end):
        border += points[i, axis] < split
    for i in range(start, border):
        left[wrong] = i
        wrong += points[i, axis] >= split
    for i in range(end - 1, border - 1, -1):
        right[other] = i
        other += points[i, axis] < split
    for w in range(wrong):
        i, j = left[w], right[w]
        for d in range(DIMS):
            points[i, d], points[j, d] = points[j, d], points[i, d]
        order[i], order[j] = order[j], order[i]
    return border


@njit(cache=True, nogil=True)
def _tile(points: Any, nodes: Any, leaves: Any, tiles: Any) -> None:
    """Lay each leaf's points side by side."""
    for leaf in range(len(leaves)):
        start, end = nodes[leaves[leaf], 0], nodes[leaves[leaf], 1]
        for i in range(start, end):
            for d in range(DIMS):
                tiles[leaf, d, i - start] = points[i, d]


@njit(cache=True, nogil=True)
def _gather(nodes: Any, boxes: Any, kids: Any, sides: Any) -> Any:
    """Fill families from the root on, each by opening the node with most points until there are sixteen; count them."""
    roots, members = np.empty(len(kids), np.int32), np.empty(KIDS, np.int32)
    roots[0], count, family = 0, 1, 0
    while family < count:
        members[0], size = roots[family], 1
        while size < KIDS:
            most, at = 0, -1
            for m in range(size):
                node = members[m]
                if nodes[node, 2] >= 0 and nodes[node, 1] - nodes[node, 0] > most:
                    most, at = nodes[node, 1] - nodes[node, 0], m
            if at < 0:
                break
            members[at], members[size] = nodes[members[at], 2], nodes[members[at], 2] + 1
            size += 1
        for m in range(size):
            node = members[m]
            for d in range(DIMS):
                sides[family, d, m], sides[family, DIMS + d, m] = boxes[node, 0, d], boxes[node, 1, d]
            if nodes[node, 2] >= 0:
                roots[count], kids[family, m] = node, -1 - count
                count += 1
            else:
                kids[family, m] = nodes[node, 3]
        family += 1
    return count
