"""Exact nearest neighbours of all points among themselves, in five dimensions: the neighbours PyMatting finds.

Reference: pymatting 1.1.16, util/kdtree.py, whose tree (kdtree.py) is walked here. What is faster:

- all points of a leaf search together, first among the leaves beside it: one walk through the tree, whose boxes are
  compared with the leaf's sixteen at a time (`Tree.kids`), then with its points, which need not all look further;
- a leaf's points lie side by side, so that its 16 distances are one loop without branches;
- all 16 are kept where one counts (nearest.py), and only a limit is found once there are many, in place of a sorted
  insertion each.

Distances in that order differ from PyMatting's in the last bits. Where a rival is as far as the k-th neighbour within
`nearest.TIE`, the point is searched again alone, in PyMatting's order and arithmetic, with the radius known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, Int32
from numba import njit

from matlabel_mattings.kdtree import DEPTH, DIMS, KIDS, LEAF, grow
from matlabel_mattings.lanes import distances, gaps, lowest, near, ones
from matlabel_mattings.nearest import INF, TIE, count, farthest, names, narrow, squeeze

SPARE = 8
"""Blocks a query holds besides the k that its nearest may be spread over."""
MANY, FEW = 12, 2
"""Candidates beyond k at which the reach is narrowed, and most that it then leaves beyond k."""


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
    t = grow(points)
    found, radius = np.empty((n, k), np.int32), np.full(n, -1, np.float32)
    _search(t.points, t.starts, t.rooms, t.tiles, t.kids, t.sides, *_scratch(k), found, radius)
    _settle_ties(t.points, t.nodes, t.splits, t.boxes, t.tiles, radius, found)
    return found, t.order


def _scratch(k: int) -> tuple[Any, ...]:
    """What `_search` works in, from `far` to `away`."""
    far, first = np.empty(LEAF * (k + SPARE) * LEAF, np.float32), np.empty(LEAF * (k + SPARE), np.int32)
    ends, held = np.empty(LEAF, np.int64), np.empty(LEAF, np.int64)  # of its blocks; candidates since the last cut
    reach, spare, gap = np.empty(LEAF, np.float32), np.empty(LEAF, np.float32), np.empty(LEAF, np.float32)
    stack, away = np.empty(LEAF * DEPTH, np.int32), np.empty(LEAF * DEPTH, np.float32)
    return far, first, ends, held, reach, spare, gap, stack, away


# Compiled code counts, by an atomic instruction, each array handed to a function, which the search does often.
# So what is called often is compiled into it ("always"), and it counts none (_nrt), nor can it make arrays of its own.
@njit(cache=True, nogil=True, _nrt=False)
def _search(
    points: Any, starts: Any, rooms: Any, tiles: Any, kids: Any, sides: Any, far: Any, first: Any, ends: Any, held: Any,
    reach: Any, spare: Any, gap: Any, stack: Any, away: Any, found: Any, radius: Any
) -> None:  # fmt: skip
    """Fill `found`; where the k-th neighbour has a rival, the squared `radius` to look in, else leave it."""
    k = found.shape[1]
    room = (k + SPARE) * LEAF
    leaves = len(starts) - 1
    for leaf in range(leaves):
        start, end = np.int64(starts[leaf]), np.int64(starts[leaf + 1])
        for q in range(LEAF):
            ends[q], held[q], reach[q], spare[q] = q * room, 0, INF, INF
        everyone = (1 << (end - start)) - 1
        for other in range(max(leaf - 1, 0), min(leaf + 2, leaves)):
            _meet(points, tiles, start, everyone, other, starts[other], far, first, ends, held, reach, spare, k)
        for q in range(end - start):
            if held[q] > k and reach[q] == INF:
                limit, held[q] = narrow(far, q * room, ends[q], k, k + FEW, INF)
                reach[q] = limit * TIE
        worst = _worst(reach, end - start)
        stack[0], away[0], depth = -1, 0.0, 1
        while depth:
            depth -= 1
            other = np.int64(stack[depth])
            if away[depth] > worst:
                continue
            if other < 0:
                bits = gaps(sides, (-1 - other) * 2 * DIMS * KIDS, rooms, leaf * 2 * DIMS, worst, gap)
                depth = _push(kids[-1 - other], bits, gap, stack, away, depth)
                continue
            if abs(other - leaf) <= 1:
                continue
            queries = near(tiles, leaf * LEAF * DIMS, rooms, other * 2 * DIMS, reach)
            if queries and _meet(
                points, tiles, start, queries, other, starts[other], far, first, ends, held, reach, spare, k
            ):
                worst = _worst(reach, end - start)
        for q in range(end - start):
            limit, inside = narrow(far, q * room, ends[q], k, k, reach[q])
            if inside == k and count(far, q * room, ends[q], limit * TIE) > k:
                limit = farthest(far, q * room, ends[q], limit)
            if inside > k or spare[q] <= limit * TIE or count(far, q * room, ends[q], limit * TIE) > k:
                radius[start + q] = limit * TIE
            else:
                names(far, first, q * room, ends[q], limit, found[start + q])


@njit(cache=True, nogil=True, inline="always")
def _worst(reach: Any, queries: int) -> Any:
    """The widest reach of a leaf's queries."""
    worst = np.float32(0)
    for q in range(queries):
        worst = reach[q] if worst < reach[q] else worst
    return worst


@njit(cache=True, nogil=True, inline="always")
def _push(kids: Any, bits: Any, gap: Any, stack: Any, away: Any, depth: int) -> Any:
    """Put the kids of these bits on the stack, the nearest on top, the others in any order."""
    bottom = depth
    while bits:
        j = lowest(bits)
        bits &= bits - 1
        at = depth - 1 if depth > bottom and away[depth - 1] < gap[j] else depth
        stack[depth], away[depth] = stack[at], away[at]
        stack[at], away[at] = kids[j], gap[j]
        depth += 1
    return depth


@njit(cache=True, nogil=True, inline="always")
def _meet(
    points: Any, tiles: Any, start: int, queries: Any, leaf: int, place: Any, far: Any, first: Any, ends: Any,
    held: Any, reach: Any, spare: Any, k: int
) -> Any:  # fmt: skip
    """Offer a leaf's points to some queries of the leaf that starts at `start`; whether a reach has changed.

    Args:
        queries: their bits.
        leaf, place: the leaf whose points are offered, and where they start.
        far, first: each query's blocks, `nearest.names`'s, k + SPARE of them.
        ends: of the blocks in use.
        held: candidates since the reach was narrowed, and what that left.
        reach: what a candidate may be away, squared.
        spare: what the nearest was away that was given up with the k nearest held, or less.
    """
    room = (k + SPARE) * LEAF
    changed = False
    while queries:
        q = lowest(queries)
        queries &= queries - 1
        i, end = start + q, ends[q]
        p0, p1, p2, p3, p4 = points[i, 0], points[i, 1], points[i, 2], points[i, 3], points[i, 4]
        bits = distances(tiles, leaf * LEAF * DIMS, p0, p1, p2, p3, p4, reach[q], far, end)
        first[end // LEAF] = place
        held[q] += ones(bits)
        end += LEAF if bits else 0
        ends[q] = end
        if held[q] >= k + MANY:
            limit, inside = narrow(far, q * room, end, k, k + FEW, reach[q])
            reach[q], held[q], changed = limit * TIE, min(inside, k + FEW), True
        if end == (q + 1) * room:
            ends[q], limit = squeeze(far, first, q * room, end, k, reach[q])
            reach[q], spare[q], held[q], changed = limit * TIE, min(spare[q], limit), k, True
    return changed


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
            bits = distances(tiles, np.int64(nodes[node, 3]) * LEAF * DIMS, p0, p1, p2, p3, p4, r, now, 0)
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
