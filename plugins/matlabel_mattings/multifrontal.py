"""Sparse Cholesky factorisation of a grid's matrix, as small dense ones along the tree of a nested dissection.

Duff, Reid, The Multifrontal Solution of Indefinite Sparse Symmetric Linear Equations, ACM TOMS 9(3), 1983. A front is
the dense matrix of its own pixels and of those its elimination changes: the columns of its own become part of the
factor, what is left over is added to the parent's front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from numba import njit

from matlabel_mattings import fronts, tiles
from matlabel_mattings.dissection import Tree


@dataclass(frozen=True, slots=True)
class Factor:
    """The lower triangular L, with L L^T the matrix in the tree's order."""

    tree: Tree
    panels: Any
    """Float32 or float64: each front's columns, one after the other."""
    at: Int64[np.ndarray, " f+1"]
    """Where a front's panel starts."""

    def solve(self, target: Any) -> Any:
        """The solution for a target in the tree's order; both of the panels' type."""
        t, x = self.tree, target.copy()
        fronts.forward(t.starts, t.ends, t.rows, self.panels, self.at, x)
        fronts.backward(t.starts, t.ends, t.rows, self.panels, self.at, x)
        return x


def factorise(tree: Tree, planes: Any, steps: Any, diagonal: Any, kind: Any) -> Factor | None:
    """The factor of a matrix on the tree's pixels.

    Args:
        planes: float64 o grid; planes[k, g] is the entry of pixels g and g + steps[k].
        diagonal: float64 grid, added to planes[0], where steps[0] is 0.
        kind: numpy's float32 or float64, in which to calculate.

    Returns:
        None where the matrix is not positive definite at that precision.
    """
    lanes = tiles.BYTES // np.dtype(kind).itemsize
    at, sizes = _sizes(tree.starts, tree.ends, tree.parents, tree.parities, lanes)
    panels = np.zeros(at[-1] + 2 * lanes * tiles.COLUMNS, kind)
    stacks = np.empty(sizes[0], kind), np.empty(sizes[1], kind)
    done = _factorise(
        tree.pixels, tree.places, tree.starts, tree.parents, tree.parities, tree.ends, tree.rows, planes, steps,
        diagonal, at, panels, stacks[0], stacks[1], lanes
    )  # fmt: skip
    return Factor(tree, panels, at) if done else None


@njit(cache=True, nogil=True)
def _up(n: Any, to: Any) -> Any:
    return -(-n // to) * to


@njit(cache=True, nogil=True)
def _sizes(starts: Any, ends: Any, parents: Any, parities: Any, lanes: Any) -> Any:
    """Where each panel starts, and how large the two stacks of rests become."""
    count = len(parents)
    at = np.zeros(count + 1, np.int64)
    top, most = np.zeros(2, np.int64), np.zeros(2, np.int64)
    waiting = np.zeros(count, np.int64)
    for i in range(count):
        own, rest = starts[i + 1] - starts[i], ends[i + 1] - ends[i]
        at[i + 1] = at[i] + own * _up(own + rest, lanes)
        size = _up(rest, lanes) * _up(rest, 4)
        p = parities[i]
        top[p] += size
        most[p] = max(most[p], top[p])
        top[1 - p] -= waiting[i]
        if parents[i] >= 0:
            waiting[parents[i]] += size
        else:
            top[p] -= size
    return at, most + 2 * lanes * 4


@njit(cache=True, nogil=True)
def _factorise(
    pixels: Any, places: Any, starts: Any, parents: Any, parities: Any, ends: Any, rows: Any, planes: Any, steps: Any,
    diagonal: Any, at: Any, panels: Any, even: Any, odd: Any, lanes: Any
) -> Any:  # fmt: skip
    count = len(parents)
    last, following = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    rest_at, top = np.zeros(count, np.int64), np.zeros(2, np.int64)
    local, index = np.zeros(len(pixels), np.int32), np.empty(len(pixels), np.int32)
    for i in range(count):
        own, below = starts[i + 1] - starts[i], ends[i + 1] - ends[i]
        stride, rest_stride = _up(own + below, lanes), _up(below, lanes)
        p = parities[i]
        rests, others = (odd, even) if p else (even, odd)
        panel, rest = panels[at[i] :], rests[top[p] :]
        for k in range(rest_stride * _up(below, 4)):
            rest[k] = 0
        for k in range(below):
            local[rows[ends[i] + k]] = own + k
        _gather(pixels, places, starts[i], starts[i + 1], local, planes, steps, diagonal, panel, stride)
        child = last[i]
        while child >= 0:
            n = ends[child + 1] - ends[child]
            for k in range(n):
                q = rows[ends[child] + k]
                index[k] = q - starts[i] if q < starts[i + 1] else local[q]
            _add(others[rest_at[child] :], _up(n, lanes), index[:n], own, panel, stride, rest, rest_stride)
            top[1 - p] = rest_at[child]
            child = following[child]
        if not fronts.eliminate(panel, stride, own, rest, rest_stride, below, lanes):
            return False
        if parents[i] >= 0:
            rest_at[i] = top[p]
            top[p] += rest_stride * _up(below, 4)
            following[i] = last[parents[i]]
            last[parents[i]] = i
    return True


@njit(cache=True, nogil=True)
def _gather(
    pixels: Any, places: Any, first: Any, end: Any, local: Any, planes: Any, steps: Any, diagonal: Any, panel: Any,
    stride: Any
) -> None:  # fmt: skip
    """Write the matrix's own entries of a front's columns."""
    for p in range(first, end):
        g, column = pixels[p], (p - first) * stride
        panel[column + p - first] = planes[0, g] + diagonal[g]
        for k in range(1, len(steps)):
            q = places[g + steps[k]]
            if q > p:
                panel[column + (q - first if q < end else local[q])] = planes[k, g]
            q = places[g - steps[k]]
            if q > p:
                panel[column + (q - first if q < end else local[q])] = planes[k, g - steps[k]]


@njit(cache=True, nogil=True)
def _add(
    rest: Any, rest_stride: Any, index: Any, own: Any, panel: Any, stride: Any, to: Any, to_stride: Any
) -> None:  # fmt: skip
    """Add a child's rest to its parent's columns and rest; `index` says where in the parent a row is, ascending."""
    n = len(index)
    stops = np.empty(n, np.int32)  # where the rows that follow each other in the parent too end
    for k in range(n - 1, -1, -1):
        stops[k] = stops[k + 1] if k + 1 < n and index[k + 1] == index[k] + 1 else k + 1
    for k in range(n):
        column, at = k * rest_stride, index[k]
        if at < own:
            target, shift = panel, at * stride
        else:
            target, shift = to, (at - own) * to_stride - own
        i = k
        while i < n:
            j = stops[i]
            start = shift + index[i]
            source, sums = rest[column + i : column + j], target[start : start + j - i]
            for t in range(j - i):
                sums[t] += source[t]
            i = j
