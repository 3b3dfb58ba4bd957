"""Exact nearest neighbours of all points among themselves, in five dimensions: the neighbours PyMatting finds.

Reference: pymatting 1.1.16, util/kdtree.py. Its tree decides which of several equally far points are neighbours, so
the same tree is built here (boxes halved along their longest side, leaves of 8 to 16 points, the query's side visited
first). What is faster:

- all points of a leaf search together: one walk through the tree, boxes against boxes;
- a leaf's points lie side by side, so that its 16 distances are one loop without branches;
- candidates are appended, and cut to the k nearest once there are many, in place of a sorted insertion each.

Distances in that order differ from PyMatting's in the last bits. Where a rival is as far as the k-th neighbour within
`TIE`, the point is searched again alone, in PyMatting's order and arithmetic, with the radius known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, Int32
from numba import njit

from matlabel_mattings.lanes import distances, lowest, ones, within

DIMS = 5
LEAF = 16
"""Most points of a leaf; the least are half of it. PyMatting's default."""
TIE = np.float32(1 + 2e-6)
"""Squared distances within this factor count as equal: some ten roundings of float32."""
DEPTH = 1000
"""Nodes a walk may have before it; a tree of a million points is some thirty deep."""
INF = np.float32(np.inf)


def neighbours(points: Float32[np.ndarray, "n 5"], k: int) -> tuple[Int32[np.ndarray, "n k"], Int32[np.ndarray, " n"]]:
    """The k nearest of `points` for each of them, itself or an equal point included, in any order.

    Returns:
        neighbours as places in the tree's order, one row a place, and the point at each place.

    Raises:
        ValueError: fewer points than neighbours.
    """
    n = len(points)
    if n < k:
        raise ValueError(f"Number of data points ({n}) is less than the number of neighbors requested (k={k}).")
    most = 4 * (n // LEAF + 1)
    nodes, splits, boxes = np.empty((most, 4), np.int32), np.empty(most, np.float32), np.empty((most, 2, DIMS), "f4")
    placed, order = points.copy(), np.arange(n, dtype=np.int32)
    count = _grow(placed, order, nodes, splits, boxes)
    nodes, splits, boxes = nodes[:count], splits[:count], boxes[:count]
    leaves = np.flatnonzero(nodes[:, 2] < 0).astype(np.int32)
    leaves = leaves[np.argsort(nodes[leaves, 0])]
    nodes[leaves, 3] = np.arange(len(leaves))
    tiles = np.full((len(leaves), DIMS, LEAF), np.nan, np.float32)  # nan: in reach of nothing
    _tile(placed, nodes, leaves, tiles)
    found, radius = np.empty((n, k), np.int32), np.full(n, -1, np.float32)
    _search(placed, nodes, boxes, leaves, tiles.ravel(), found, radius)
    _settle_ties(placed, nodes, splits, boxes, tiles.ravel(), radius, found)
    return found, order


@njit(cache=True, nogil=True)
def _grow(points: Any, order: Any, nodes: Any, splits: Any, boxes: Any) -> Any:
    """Sort `points` and `order` into a tree; fill `nodes` (start, end, lower child or -1, axis); count nodes."""
    stack = np.empty(DEPTH, np.int32)
    stack[0], depth, count = 0, 1, 1
    nodes[0, 0], nodes[0, 1] = 0, len(points)
    while depth:
        depth -= 1
        node = stack[depth]
        start, end = nodes[node, 0], nodes[node, 1]
        _enclose(points, start, end, boxes[node])
        nodes[node, 2] = -1
        if end - start <= LEAF:
            continue
        sides = boxes[node, 1] - boxes[node, 0]
        axis = np.argmax(sides)
        split = boxes[node, 0, axis] + 0.5 * sides[axis]  # float64 here and float32 below, as in the reference
        middle = _partition(points, order, start, end, axis, split)
        middle = max(start + LEAF // 2, min(end - LEAF // 2, middle))
        nodes[node, 2], nodes[node, 3], splits[node] = count, axis, split
        nodes[count, 0], nodes[count, 1] = start, middle
        nodes[count + 1, 0], nodes[count + 1, 1] = middle, end
        stack[depth], stack[depth + 1] = count + 1, count
        depth, count = depth + 2, count + 2
    return count


@njit(cache=True, nogil=True)
def _enclose(points: Any, start: int, end: int, box: Any) -> None:
    box[:] = points[start]
    for i in range(start + 1, end):
        for d in range(DIMS):
            box[0, d], box[1, d] = min(box[0, d], points[i, d]), max(box[1, d], points[i, d])


@njit(cache=True, nogil=True)
def _partition(points: Any, order: Any, start: int, end: int, axis: int, split: float) -> Any:
    """Bring points below `split` to the front, swapping from both ends; the first place at or above it."""
    i, j = start, end - 1
    while True:
        while i < j and points[i, axis] < split:
            i += 1
        while i < j and points[j, axis] >= split:
            j -= 1
        if i >= j:
            return i + 1 if points[i, axis] < split else i
        for d in range(DIMS):
            points[i, d], points[j, d] = points[j, d], points[i, d]
        order[i], order[j] = order[j], order[i]


@njit(cache=True, nogil=True)
def _tile(points: Any, nodes: Any, leaves: Any, tiles: Any) -> None:
    """Lay each leaf's points side by side."""
    for leaf in range(len(leaves)):
        start, end = nodes[leaves[leaf], 0], nodes[leaves[leaf], 1]
        for i in range(start, end):
            for d in range(DIMS):
                tiles[leaf, d, i - start] = points[i, d]


@njit(cache=True, nogil=True)
def _search(points: Any, nodes: Any, boxes: Any, leaves: Any, tiles: Any, found: Any, radius: Any) -> None:
    """Fill `found`; where the k-th neighbour has a rival, the squared `radius` to look in, else leave it."""
    k = found.shape[1]
    trigger = 2 * k + 8
    room = (trigger + 3 * LEAF) // LEAF * LEAF
    far = np.empty(LEAF * room, np.float32)  # candidates' distances, `room` a query
    who = np.empty(LEAF * room, np.int32)
    held, reach, now = np.empty(LEAF, np.int64), np.empty(LEAF, np.float32), np.empty(LEAF, np.float32)
    stack, gap = np.empty(DEPTH, np.int32), np.empty(DEPTH, np.float32)
    for node in leaves:
        start, end = np.int64(nodes[node, 0]), np.int64(nodes[node, 1])
        for q in range(LEAF):
            held[q], reach[q] = q * room, INF
        worst = INF
        stack[0], gap[0], depth = 0, 0.0, 1
        while depth:
            depth -= 1
            other = stack[depth]
            if gap[depth] > worst:
                continue
            if nodes[other, 2] >= 0:
                depth = _open(nodes, boxes, node, other, stack, gap, depth)
                continue
            tile, first = np.int64(nodes[other, 3]) * LEAF * DIMS, np.int64(nodes[other, 0])
            worst = np.float32(0)
            for q in range(end - start):
                i = start + q
                bits = distances(
                    tiles, tile, points[i, 0], points[i, 1], points[i, 2], points[i, 3], points[i, 4], reach[q], now
                )
                if bits:
                    c = held[q]
                    while bits:
                        j = lowest(bits)
                        bits &= bits - 1
                        far[c], who[c] = now[j], first + j
                        c += 1
                    if c >= q * room + trigger:
                        c, reach[q] = _cut(far, who, q * room, c, k, reach[q])
                    held[q] = c
                worst = reach[q] if worst < reach[q] else worst
        for q in range(end - start):
            c, r = _cut(far, who, q * room, held[q], k, reach[q])
            for j in range(k):
                found[start + q, j] = who[q * room + j]
            if c > q * room + k:
                radius[start + q] = r


@njit(cache=True, nogil=True)
def _open(nodes: Any, boxes: Any, node: int, other: int, stack: Any, gap: Any, depth: int) -> Any:
    """Push the children of `other`: on top the one `node` is in, else the nearer one."""
    child, start = nodes[other, 2], nodes[node, 0]
    a, b = _gap(boxes, node, child), _gap(boxes, node, child + 1)
    inside = nodes[other, 0] <= start < nodes[other, 1]
    if (start >= nodes[child, 1]) if inside else (b < a):
        stack[depth], gap[depth], stack[depth + 1], gap[depth + 1] = child, a, child + 1, b
    else:
        stack[depth], gap[depth], stack[depth + 1], gap[depth + 1] = child + 1, b, child, a
    return depth + 2


@njit(cache=True, nogil=True)
def _gap(boxes: Any, one: Any, two: Any) -> Any:
    """Squared distance of two boxes."""
    total = np.float32(0)
    for d in range(DIMS):
        apart, behind = boxes[one, 0, d] - boxes[two, 1, d], boxes[two, 0, d] - boxes[one, 1, d]
        apart = behind if apart < behind else apart  # one instruction; max() would look for nan
        apart = apart if apart > 0 else np.float32(0)
        total += apart * apart
    return total


@njit(cache=True, nogil=True)
def _cut(far: Any, who: Any, start: int, end: int, k: int, reach: Any) -> Any:
    """Keep the k nearest candidates, and one rival if the k-th has any; where they end, and the new reach.

    All are within `reach`. The k-th is found by halving the range of distances; spoils what follows `end`.
    """
    high = reach if reach < INF else _largest(far, start, end, INF)
    far[end : end + LEAF] = INF
    low = np.float32(0)
    count = end - start
    while count > k:
        middle = (low + high) * np.float32(0.5)
        if middle >= high or middle <= low:
            return _cut_rivals(far, who, start, end, k, low, high)
        inside = 0
        for i in range(start, end, LEAF):
            inside += ones(within(far, i, middle))
        if inside < k:
            low = middle
        else:
            high, count = middle, inside
    kth = _largest(far, start, end, high)
    inside = 0
    for i in range(start, end, LEAF):
        inside += ones(within(far, i, kth * TIE))
    if inside > k:
        return _cut_rivals(far, who, start, end, k, low, kth)
    c = start
    for i in range(start, end, LEAF):
        bits = within(far, i, high)
        while bits:
            j = i + lowest(bits)
            bits &= bits - 1
            far[c], who[c] = far[j], who[j]
            c += 1
    return c, kth * TIE


@njit(cache=True, nogil=True)
def _largest(far: Any, start: int, end: int, limit: Any) -> Any:
    """The largest of far[start:end] that is at most `limit`."""
    most = np.float32(0)
    for i in range(start, end):
        most = far[i] if most < far[i] <= limit else most
    return most


@njit(cache=True, nogil=True)
def _cut_rivals(far: Any, who: Any, start: int, end: int, k: int, below: Any, kth: Any) -> Any:
    """`_cut` where others are as far as the k-th; fewer than k are up to `below`."""
    reach = kth * TIE
    c, last = start, start + k
    for near in range(2):  # first what is surely nearer than the k-th; the others may then fill its places
        for i in range(c, end):
            x, name = far[i], who[i]
            if x <= (reach if near else below) and c <= last:
                far[i], who[i] = far[c], who[c]
                far[c], who[c] = x, name
                c += 1
    return c, reach


@njit(cache=True, nogil=True)
def _settle_ties(points: Any, nodes: Any, splits: Any, boxes: Any, tiles: Any, radius: Any, found: Any) -> None:
    """Search again, alone and in the reference's order, where `radius` is given; what lies outside never counts."""
    k = found.shape[1]
    stack, far, now = np.empty(DEPTH, np.int32), np.empty(k, np.float32), np.empty(LEAF, np.float32)
    for q in range(len(points)):
        r = radius[q]
        if r < 0:
            continue
        held = 0
        p0, p1, p2, p3, p4 = points[q, 0], points[q, 1], points[q, 2], points[q, 3], points[q, 4]
        stack[0], depth = 0, 1
        while depth:
            depth -= 1
            node = stack[depth]
            if _away(points, q, boxes, node) > r:
                continue
            child = nodes[node, 2]
            if child >= 0:
                below = np.int32(points[q, nodes[node, 3]] < splits[node])
                stack[depth], stack[depth + 1] = child + below, child + 1 - below
                depth += 2
                continue
            bits = distances(tiles, np.int64(nodes[node, 3]) * LEAF * DIMS, p0, p1, p2, p3, p4, r, now)
            while bits:
                held = _insert(points, q, nodes[node, 0] + lowest(bits), far, found, held)
                bits &= bits - 1


@njit(cache=True, nogil=True)
def _away(points: Any, q: int, boxes: Any, node: int) -> Any:
    """Squared distance of a point to a box."""
    total = np.float32(0)
    for d in range(DIMS):
        apart, behind = boxes[node, 0, d] - points[q, d], points[q, d] - boxes[node, 1, d]
        apart = behind if apart < behind else apart
        apart = apart if apart > 0 else np.float32(0)
        total += apart * apart
    return total


@njit(cache=True, nogil=True)
def _insert(points: Any, q: int, i: int, far: Any, found: Any, held: int) -> Any:
    """Put point i into the sorted k nearest, behind those as far; how many there are. Rounded as in the reference."""
    distance = 0.0
    for d in range(DIMS):
        apart = points[q, d] - points[i, d]
        distance += apart * apart
    place = held
    while place > 0 and far[place - 1] > distance:
        place -= 1
    if place == len(far):
        return held
    held = min(held + 1, len(far))
    for j in range(held - 1, place, -1):
        far[j], found[q, j] = far[j - 1], found[q, j - 1]
    far[place], found[q, place] = distance, i
    return held
