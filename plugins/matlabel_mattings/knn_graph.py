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
from jaxtyping import Bool, Float32, Int32, UInt8, UInt32
from numba import njit

from matlabel_mattings.neighbours import neighbours


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
    """Symmetric, positive: diagonal - weights, for the unknown pixels and the known ones beside them."""

    places: Int32[np.ndarray, " u"]
    unknown: Bool[np.ndarray, " u"]
    ends: UInt32[np.ndarray, " u+1"]
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
    local = np.full(len(known), -1, np.int32)
    u, m = _number(graph.ends, graph.links, known, local)
    s = System(
        np.flatnonzero(local >= 0).astype(np.int32), np.empty(u, np.bool_), np.zeros(u + 1, np.uint32),
        np.empty(m, np.uint32), np.empty(m, np.uint8), np.zeros(u, np.float32), np.zeros(u, np.float32),
        np.empty(u, np.float32),
    )  # fmt: skip
    s.unknown[:], s.degree[:] = ~known[s.places], graph.degree[s.places]
    _reduce(graph.ends, graph.links, graph.weights, known, f, local, s.places, s.ends, s.links, s.weights, s.diagonal,
            s.target)  # fmt: skip
    held = np.where(s.unknown, 0, constraint * s.degree).astype(np.float32)
    s.diagonal[:] += held
    s.target[:] += held * f[s.places]
    return s


def pulled(graph: Graph, pull: Float32[np.ndarray, " n"]) -> tuple[System, Float32[np.ndarray, " n"]]:
    """The system in which every pixel is drawn to a value p of its own: (D - W + D pull) a = D pull p.

    Args:
        pull: above 0, in the graph's order, as all of the system is.

    Returns:
        The system without its target, and D pull, which times p is the target.
    """
    held = graph.degree * pull
    diagonal = np.add.reduceat(np.append(graph.weights, 0), graph.ends[:-1], dtype=np.float32)
    diagonal[graph.ends[1:] == graph.ends[:-1]] = 0  # a pixel that is nobody's neighbour
    places = np.arange(len(pull), dtype=np.int32)
    everywhere = np.ones(len(pull), np.bool_)
    system = System(
        places, everywhere, graph.ends, graph.links, graph.weights, diagonal + held, np.zeros_like(held), graph.degree
    )
    return system, held


@njit(cache=True, nogil=True)
def _number(ends: Any, links: Any, known: Any, local: Any) -> Any:
    """Number unknown pixels that a known one is linked to over others, and the known ones beside them, in `local`.

    Returns how many they and their links are. To other unknown pixels nothing is known; the reference leaves them 0.
    """
    inner, queue, few, u, m = np.empty(len(known), np.int32), np.empty(len(known), np.int32), 0, 0, 0
    last = 0
    for i in range(len(known)):
        if not known[i]:
            beside = 0
            for e in range(ends[i], ends[i + 1]):
                if known[links[e]]:
                    local[links[e]] = 0
                    beside += 1
            if beside:
                local[i] = 0
                m += ends[i + 1] - ends[i] + beside
            else:
                inner[few] = i
                few += 1
    for i in inner[:few]:
        for e in range(ends[i], ends[i + 1]):
            if local[i] < 0 <= local[links[e]]:
                local[i], queue[0], last = 0, i, 1
        while last:
            last -= 1
            at = queue[last]
            m += ends[at + 1] - ends[at]
            for e in range(ends[at], ends[at + 1]):
                if local[links[e]] < 0:
                    local[links[e]], queue[last] = 0, links[e]
                    last += 1
    for i in range(len(known)):
        if local[i] == 0:
            local[i] = u
            u += 1
    return u, m


@njit(cache=True, nogil=True)
def _reduce(
    ends: Any, links: Any, weights: Any, known: Any, f: Any, local: Any, places: Any, to_ends: Any, to_links: Any,
    to_weights: Any, diagonal: Any, target: Any
) -> None:  # fmt: skip
    m = 0
    for r in range(len(places)):
        i = places[r]
        for e in range(ends[i], ends[i + 1]):
            j, w = links[e], np.float32(weights[e])
            diagonal[r] += w
            if not known[i] or (not known[j] and local[j] >= 0):
                to_links[m], to_weights[m] = local[j], weights[e]
                m += 1
            else:
                target[r] += w * f[j]
        to_ends[r + 1] = m
