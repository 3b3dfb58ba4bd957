"""Exact nearest neighbours of all points among themselves, in five dimensions: the neighbours PyMatting finds.

Reference: pymatting 1.1.16, util/kdtree.py, whose tree (kdtree.py) is walked here. What is faster:

- all points of a leaf search together: one walk through the tree, boxes against boxes;
- a leaf's points lie side by side, so that its 16 distances are one loop without branches;
- candidates are appended, and cut to the k nearest once there are many, in place of a sorted insertion each.

Distances in that order differ from PyMatting's in the last bits. Where a rival is as far as the k-th neighbour within
`nearest.TIE`, the point is searched again alone, in PyMatting's order and arithmetic, with the radius known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, Int32
from numba import njit

from matlabel_mattings.kdtree import DEPTH, DIMS, LEAF, grow
from matlabel_mattings.lanes import distances, lowest
from matlabel_mattings.nearest import INF, cut


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
    tree = grow(points)
    found, radius = np.empty((n, k), np.int32), np.full(n, -1, np.float32)
    _search(tree.points, tree.nodes, tree.boxes, tree.leaves, tree.tiles, found, radius)
    _settle_ties(tree.points, tree.nodes, tree.splits, tree.boxes, tree.tiles, radius, found)
    return found, tree.order


@njit(cache=True, nogil=True)
def _search(points: Any, nodes: Any, boxes: Any, leaves: Any, tiles: Any, found: Any, radius: Any) -> None:
    """Fill `found`; where the k-th neighbour has a rival, the squared `radius` to look in, else leave it."""
    k = found.shape[1]
    room = _room(k)
    far, who = np.empty(LEAF * room, np.float32), np.empty(LEAF * room, np.int32)  # candidates, `room` a query
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
            here = start, end, np.int64(nodes[other, 3]), np.int64(nodes[other, 0])
            worst = _meet(points, tiles, here, far, who, held, reach, now, k)
        for q in range(end - start):
            c, r = cut(far, who, q * room, held[q], k, reach[q])
            for j in range(k):
                found[start + q, j] = who[q * room + j]
            if c > q * room + k:
                radius[start + q] = r


@njit(cache=True, nogil=True)
def _meet(
    points: Any, tiles: Any, here: Any, far: Any, who: Any, held: Any, reach: Any, now: Any, k: int
) -> Any:  # fmt: skip
    """Offer a leaf's points to each query of another leaf; the widest reach that is left."""
    start, end, leaf, first = here
    room = _room(k)
    worst = np.float32(0)
    for q in range(end - start):
        i = start + q
        p0, p1, p2, p3, p4 = points[i, 0], points[i, 1], points[i, 2], points[i, 3], points[i, 4]
        bits = distances(tiles, leaf * LEAF * DIMS, p0, p1, p2, p3, p4, reach[q], now)
        if bits:
            c = held[q]
            while bits:
                j = lowest(bits)
                bits &= bits - 1
                far[c], who[c] = now[j], first + j
                c += 1
            if c >= q * room + 2 * k + 8:
                c, reach[q] = cut(far, who, q * room, c, k, reach[q])
            held[q] = c
        worst = reach[q] if worst < reach[q] else worst
    return worst


@njit(cache=True, nogil=True)
def _room(k: int) -> Any:
    """Candidates a query holds at most: 2k + 7 before the last leaf, its points, and what `cut` spoils."""
    return (2 * k + 8 + 3 * LEAF) // LEAF * LEAF


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
