"""The graph of KNN matting, and the part of its system that a trimap leaves to be solved.

Reference: pymatting 1.1.16, laplacian/knn_laplacian.py and util/util.py (make_linear_system). There W counts how often
one pixel is among the other's neighbours, over both searches and both directions; rows are divided by their sums D, and
known pixels (K) are held by a penalty c: (I - W/D + cK) a = cK f, with f the trimap. Rows times D give the symmetric
system D - W + cDK that is solved here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt8, UInt32
from numba import njit

from matlabel_mattings.lanes import WIDE
from matlabel_mattings.neighbours import neighbours

WINDOW = 256
"""Rows of a system among which those of a like number of links come together."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Pixels that are neighbours, in the order of the first search's tree, where pixels that are alike lie together."""

    order: Int32[np.ndarray, " n"]
    """The pixel at each place."""
    ends: UInt32[np.ndarray, " n+1"]
    links: UInt32[np.ndarray, " m"]
    """Row i: the places links[ends[i]:ends[i + 1]], without i."""
    weights: UInt8[np.ndarray, " m"]
    degree: Float32[np.ndarray, " n"]
    """D: the sum of a row's weights, its own included."""


def build(image: Any, counts: tuple[int, ...], spreads: tuple[float, ...]) -> Graph:
    """The graph of an image h w 3 in [0, 1]; `counts` neighbours a search, the place weighted by `spreads`."""
    order, searches = None, []
    for k, spread in zip(counts, spreads, strict=True):
        found, placed = neighbours(features(image, spread), k)
        if order is None:
            order, place = placed, np.empty_like(placed)
            place[order] = np.arange(len(order), dtype=np.int32)
        searches.append((found.view(np.uint32), place[placed].view(np.uint32)))
    n = len(order)
    rows = np.zeros(n + 1, np.uint32)
    for found, here in searches:
        _count(found, here, rows)
    degree = rows[:-1].astype(np.float32)
    ends = np.zeros(n + 1, np.uint32)  # unsigned: half the time a look-up in compiled code
    np.cumsum(rows[:-1], out=ends[1:])
    links, weights = np.empty(ends[-1], np.uint32), np.empty(ends[-1], np.uint8)
    rows[:] = ends
    while searches:
        found, here = searches.pop(0)
        _link(found, here, rows, links)
    size = _merge(ends, rows, links, weights)
    return Graph(order, ends, links[:size], weights[:size], degree)


def features(image: Any, spread: float) -> Float32[np.ndarray, "n 5"]:
    """(r, g, b, spread * x, spread * y) of each pixel, x and y in [0, 1]; rounded as in the reference."""
    h, w = image.shape[:2]
    out = np.empty((h, w, 5), np.float32)
    out[:, :, :3] = image
    out[:, :, 3] = spread * np.linspace(0, 1, w)
    out[:, :, 4] = spread * np.linspace(0, 1, h)[:, None]
    return out.reshape(-1, 5)


@njit(cache=True, nogil=True)
def _count(found: Any, here: Any, rows: Any) -> None:
    """Add to `rows` each place's sum of weights."""
    for q in range(len(found)):
        i = here[q]
        for other in found[q]:
            rows[i] += 1
            rows[here[other]] += 1


@njit(cache=True, nogil=True)
def _link(found: Any, here: Any, fill: Any, links: Any) -> None:
    """Write each pair to both rows; `fill` says where a row goes on."""
    for q in range(len(found)):
        i = here[q]
        for other in found[q]:
            j = here[other]
            if i != j:
                links[fill[i]], links[fill[j]] = j, i
                fill[i] += np.uint32(1)
                fill[j] += np.uint32(1)


@njit(cache=True, nogil=True)
def _merge(ends: Any, fill: Any, links: Any, weights: Any) -> Any:
    """Make one link of those that a row holds several times; how many are left. They move to the front."""
    seen = np.zeros(len(ends) - 1, np.uint32)  # one above the last link to each place
    last = 0
    for i in range(len(ends) - 1):
        start, read = last, ends[i]
        ends[i] = start
        for e in range(read, fill[i]):
            j = links[e]
            if seen[j] > start:
                weights[seen[j] - np.uint32(1)] += 1
            else:
                links[last], weights[last] = j, 1
                last += 1
                seen[j] = last
    ends[len(ends) - 1] = last
    return last


@dataclass(frozen=True, slots=True)
class System:
    """Symmetric, positive: diagonal - weights, for the unknown pixels and the known ones beside them.

    Sixteen rows are a slice, whose links lie side by side, as `lanes.weighted` takes them: link k of row r is at
    starts[r // 16] + 16 k + r % 16, of weight 0 where the row has fewer. So that few do, rows of a like number of links
    come together, within WINDOW of the graph's order (SELL-C-sigma; Kreutzer et al., SIAM J. Sci. Comput. 36(5), 2014).
    """

    places: Int32[np.ndarray, " u"]
    """Of each row, its place in the graph's order."""
    unknown: Bool[np.ndarray, " u"]
    starts: Int64[np.ndarray, " s+1"]
    links: UInt32[np.ndarray, " m"]
    weights: UInt8[np.ndarray, " m"]
    diagonal: Float32[np.ndarray, " u"]
    target: Float32[np.ndarray, " u"]
    degree: Float32[np.ndarray, " u"]


def reduce(graph: Graph, known: Bool[np.ndarray, " n"], f: Float32[np.ndarray, " n"], constraint: float) -> System:
    """The system of one trimap, given in the graph's order.

    A known pixel ends within 1 / (1 + constraint) of its value. Those beside unknown pixels are solved for; to them,
    other known pixels have exactly their value, which moves them by (1 + constraint)^-2 at most.
    """
    local, lengths = np.full(len(known), -1, np.int32), np.zeros(len(known), np.int32)
    _mark(graph.ends, graph.links, known, local, lengths)
    s = _system(graph, known, f, np.flatnonzero(local >= 0).astype(np.int32), local, lengths)
    held = np.where(s.unknown, 0, constraint * s.degree).astype(np.float32)
    s.diagonal[:] += held
    s.target[:] += held * f[s.places]
    return s


def pulled(graph: Graph, pull: Float32[np.ndarray, " n"]) -> tuple[System, Float32[np.ndarray, " n"]]:
    """The system in which every pixel is drawn to a value p of its own: (D - W + D pull) a = D pull p.

    Args:
        pull: above 0, in the graph's order.

    Returns:
        The system, of all pixels, with a target of 0, and D pull in its order, which times p is the target.
    """
    n = len(pull)
    known, lengths = np.zeros(n, np.bool_), np.diff(graph.ends.astype(np.int64)).astype(np.int32)
    local, f = np.full(n, -1, np.int32), np.zeros(n, np.float32)
    s = _system(graph, known, f, np.arange(n, dtype=np.int32), local, lengths)
    held = s.degree * pull[s.places]
    s.diagonal[:] += held
    return s, held


def _system(graph: Graph, known: Any, f: Any, places: Any, local: Any, lengths: Any) -> System:
    """The rows of `places`, of so many links each, without what holds known pixels. `local` becomes their number."""
    starts = np.zeros(-(-len(places) // WIDE) + 1, np.int64)
    _arrange(places, lengths, local, starts)
    u, m = len(places), starts[-1]
    s = System(
        places, ~known[places], starts, np.zeros(m, np.uint32), np.zeros(m, np.uint8), np.zeros(u, np.float32),
        np.zeros(u, np.float32), graph.degree[places],
    )  # fmt: skip
    _reduce(graph.ends, graph.links, graph.weights, known, f, local, s.places, s.starts, s.links, s.weights, s.diagonal,
            s.target)  # fmt: skip
    return s


@njit(cache=True, nogil=True)
def _arrange(places: Any, lengths: Any, local: Any, starts: Any) -> None:
    """Order the rows of each window by their lengths, falling; number them in `local`, and say where slices start."""
    most = np.int64(WINDOW)  # longer rows lie together in any order
    window, begins = np.empty(WINDOW, places.dtype), np.empty(WINDOW + 2, np.int64)
    for first in range(0, len(places), WINDOW):
        count = min(WINDOW, len(places) - first)
        begins[:] = 0
        for r in range(count):
            window[r] = places[first + r]
            begins[most - min(most, lengths[window[r]]) + 1] += 1
        for length in range(most + 1):
            begins[length + 1] += begins[length]
        for i in window[:count]:
            group = most - min(most, lengths[i])
            local[i] = first + begins[group]
            places[local[i]] = i
            begins[group] += 1
    for s in range(len(starts) - 1):
        longest = 0
        for i in places[s * WIDE : (s + 1) * WIDE]:
            longest = max(longest, lengths[i])
        starts[s + 1] = starts[s] + WIDE * longest


@njit(cache=True, nogil=True)
def _mark(ends: Any, links: Any, known: Any, local: Any, lengths: Any) -> None:
    """Mark by 0 in `local` unknown pixels that a known one is linked to over others, and the known ones beside them.

    `lengths` become the links of the former, and those of the latter to the former. To other unknown pixels nothing is
    known; the reference leaves them 0.
    """
    inner, queue, few, last = np.empty(len(known), np.int32), np.empty(len(known), np.int32), 0, 0
    for i in range(len(known)):
        if not known[i]:
            lengths[i] = ends[i + 1] - ends[i]
            for e in range(ends[i], ends[i + 1]):
                if known[links[e]]:
                    local[i] = local[links[e]] = 0
                    lengths[links[e]] += 1
            if local[i] < 0:
                inner[few] = i
                few += 1
    for i in inner[:few]:
        for e in range(ends[i], ends[i + 1]):
            if local[i] < 0 <= local[links[e]]:
                local[i], queue[0], last = 0, i, 1
        while last:
            last -= 1
            at = queue[last]
            for e in range(ends[at], ends[at + 1]):
                if local[links[e]] < 0:
                    local[links[e]], queue[last] = 0, links[e]
                    last += 1


@njit(cache=True, nogil=True)
def _reduce(
    ends: Any, links: Any, weights: Any, known: Any, f: Any, local: Any, places: Any, starts: Any, to_links: Any,
    to_weights: Any, diagonal: Any, target: Any
) -> None:  # fmt: skip
    for r in range(len(places)):
        i, to, total = places[r], np.uint64(starts[r // WIDE] + r % WIDE), np.float32(0)
        if known[i]:
            drawn = np.float32(0)
            for e in range(ends[i], ends[i + 1]):
                j, w = links[e], np.float32(weights[e])
                total += w
                if not known[j] and local[j] >= 0:
                    to_links[to], to_weights[to] = local[j], weights[e]
                    to += np.uint64(WIDE)
                else:
                    drawn += w * f[j]
            target[r] = drawn
        else:
            for e in range(ends[i], ends[i + 1]):
                to_links[to], to_weights[to] = local[links[e]], weights[e]
                total += np.float32(weights[e])
                to += np.uint64(WIDE)
        diagonal[r] = total
