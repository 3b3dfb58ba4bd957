"""KNN matting solved here: PyMatting's linear system, the graph built once an image, known pixels left out.

Conjugate gradients in float32 (sums in float64) with a two-level preconditioner: the diagonal, and a coarse system in
which runs of unknown pixels that lie together in the search tree, so are alike, move as one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from scipy.linalg import lapack

from matlabel_mattings import knn_graph
from matlabel_mattings.lanes import WIDE, weighted
from matlabel_mattings.through_pymatting import Colours, Plane, Solve

CLUSTER = 64
"""Unknown pixels that move as one, at least."""
CLUSTERS = 512
"""Most of them: their matrix is inverted densely."""
SHARPER = 0.1
"""Share of `rtol` at which to stop: PyMatting's own rule leaves alphas off by 1e-3 and more."""


def prepare(
    counts: tuple[int, ...], spreads: tuple[float, ...], constraint: float, rtol: float, maxiter: int
) -> Callable[[Colours], Solve]:
    """What `through_pymatting.Method` asks for.

    Args:
        counts, spreads: neighbours of each search, and the weight of the place in it.
        constraint: penalty on known pixels.
        rtol: PyMatting's: residual of the row-normalised system over that of alpha 0; a tenth of it is reached.
        maxiter: iterations after which the solver raises ValueError, as where the residual is no number.
    """

    def of_image(image: Colours) -> Solve:
        graph = knn_graph.build(image, counts, spreads)

        def solve(trimap: Plane) -> Plane:
            plane = trimap.ravel()[graph.order]
            known = (plane == 0) | (plane == 1)
            f = (plane == 1).astype(np.float32)
            system = knn_graph.reduce(graph, known, f, constraint)
            size = constraint * np.sqrt(np.count_nonzero(f))
            a = f.copy()
            if system.unknown.any():
                a[system.places] = conjugate_gradients(system, rtol * SHARPER * size, maxiter)
            _let_go(graph.ends, graph.links, graph.weights, graph.degree, known, np.float32(constraint), f, a)
            alpha = np.empty(trimap.size)
            alpha[graph.order] = np.clip(a, 0, 1)
            return alpha.reshape(trimap.shape)

        return solve

    return of_image


@lru_cache(maxsize=1)
def warm() -> None:
    """Solve a small image, so that everything is compiled, or loaded from where it was kept."""
    image = np.linspace(0, 1, 48).reshape(4, 4, 3)
    trimap = np.full((4, 4), 0.5)
    trimap[0], trimap[3] = 0, 1
    prepare((9,), (1.0,), 100.0, 1e-7, 100)(image)(trimap)  # fewer neighbours would link none to the foreground


def conjugate_gradients(system: knn_graph.System, tolerance: float, maxiter: int) -> Any:
    """The solution, float32; the residual of each row is divided by its sum of weights before it is measured.

    Raises:
        ValueError: no convergence, or divergence.
    """
    return solver(system, maxiter)(system.target, tolerance)


def solver(system: knn_graph.System, maxiter: int) -> Callable[[Any, float], Any]:
    """What solves a system for one target after another: (target, tolerance) -> solution, as `conjugate_gradients`."""
    s = system
    clusters, runs = _clusters(s.unknown)
    coarse = _coarse_inverse(s, clusters, len(runs) - 1)
    free = s.unknown.astype(np.float32)

    def solve(target: Any, tolerance: float) -> Any:
        x = np.zeros(len(target), np.float32)
        if not target.any():
            return x  # nothing draws any pixel away from 0, and a residual of 0 has no direction
        r, limit = np.array(target), float(tolerance * tolerance)
        steps = _iterate(s.starts, s.links, s.weights, s.diagonal, r, s.degree, runs, free, coarse, limit, maxiter, x)
        if steps > maxiter:
            raise ValueError(f"Conjugate gradient descent did not converge within {maxiter} iterations")
        if steps < 0:
            raise ValueError("conjugate gradients diverged")
        return x

    return solve


def _clusters(unknown: Any) -> tuple[Any, Any]:
    """The cluster of each pixel of the system, and where the runs of pixels start that hold one each, and the end.

    Known ones, which hardly move, lie in runs too, but belong to a cluster after the last, which is not solved.
    """
    places = np.flatnonzero(unknown)
    size = max(CLUSTER, -(-len(places) // CLUSTERS))
    clusters = np.full(len(unknown), -(-len(places) // size), np.uint32)
    clusters[places] = np.arange(len(places)) // size
    runs = np.append(places[::size], len(unknown))
    runs[0] = 0
    return clusters, runs


def _coarse_inverse(system: knn_graph.System, clusters: Any, count: int) -> Any:
    """Inverse of the system for `count` clusters that move as one, float32."""
    matrix = np.zeros((count + 1, count + 1))
    _gather(system.starts, system.links, system.weights, system.diagonal, clusters, matrix)
    factor, failed = lapack.dpotrf(matrix[:count, :count], lower=True, clean=True)
    if failed:
        raise ValueError("the coarse system is not positive")
    inverse, _ = lapack.dpotri(factor, lower=True)
    below = inverse.astype(np.float32)  # above the diagonal it has left the zeros of `clean`
    return np.ascontiguousarray(below + np.tril(below, -1).T)


@njit(cache=True, nogil=True)
def _let_go(
    ends: Any, links: Any, weights: Any, degree: Any, known: Any, constraint: Any, f: Any, a: Any
) -> None:  # fmt: skip
    """Move known pixels to where their neighbours draw them: at most 1 / (1 + constraint) from their value."""
    for i in range(len(known)):
        if known[i]:
            row, total = constraint * degree[i] * f[i], constraint * degree[i]
            for e in range(ends[i], ends[i + 1]):
                row += weights[e] * a[links[e]]
                total += weights[e]
            a[i] = row / total


@njit(cache=True, nogil=True)
def _gather(starts: Any, links: Any, weights: Any, diagonal: Any, clusters: Any, matrix: Any) -> None:
    for i in range(len(diagonal)):
        c = clusters[i]
        matrix[c, c] += diagonal[i] * (1 + 1e-7)  # more than what rounding may take from it
        for e in range(starts[i // WIDE] + i % WIDE, starts[i // WIDE + 1], WIDE):
            matrix[c, clusters[links[e]]] -= weights[e]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _multiply(starts: Any, links: Any, weights: Any, diagonal: Any, p: Any, out: Any) -> Any:
    """out = (diagonal - weights) p; returns p . out."""
    sums, total = np.empty(WIDE, np.float32), 0.0
    for s in range(len(starts) - 1):
        weighted(links, weights, starts[s], (starts[s + 1] - starts[s]) // WIDE, p, sums, 0)
        here, to, own = p[s * WIDE : (s + 1) * WIDE], out[s * WIDE : (s + 1) * WIDE], diagonal[s * WIDE :]
        for t in range(len(here)):
            to[t] = own[t] * here[t] - sums[t]
            total += np.float64(here[t]) * to[t]
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _correct(coarse: Any, sums: Any, out: Any) -> None:
    """out = coarse sums."""
    for c in range(len(sums)):
        row = np.float32(0)
        for b in range(len(sums)):
            row += coarse[c, b] * sums[b]
        out[c] = row


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _advance(
    x: Any, r: Any, p: Any, q: Any, step: Any, measure: Any, inverse: Any, runs: Any, free: Any, sums: Any
) -> Any:  # fmt: skip
    """x += step p, r -= step q, sums = r over each cluster; returns the squares of r / degree and of r over diagonal.

    Summed in float32 within a cluster, so that a vector of them is summed at once, and in float64 over clusters.
    """
    norm, rz = 0.0, 0.0
    for c in range(len(runs) - 1):
        apart, across, total = np.float32(0), np.float32(0), np.float32(0)
        for i in range(runs[c], runs[c + 1]):
            x[i] += step * p[i]
            r[i] -= step * q[i]
            share = r[i] * measure[i]
            apart += share * share
            across += r[i] * r[i] * inverse[i]
            total += r[i] * free[i]
        norm += apart
        rz += across
        sums[c] = total
    return norm, rz


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _turn(p: Any, r: Any, beta: Any, inverse: Any, runs: Any, free: Any, shift: Any) -> None:
    """p = r / diagonal + the shift of its cluster + beta p."""
    for c in range(len(runs) - 1):
        whole = shift[c]
        for i in range(runs[c], runs[c + 1]):
            p[i] = r[i] * inverse[i] + whole * free[i] + beta * p[i]


@njit(cache=True, nogil=True)
def _iterate(
    starts: Any, links: Any, weights: Any, diagonal: Any, r: Any, degree: Any, runs: Any, free: Any, coarse: Any,
    limit: float, maxiter: int, x: Any
) -> Any:  # fmt: skip
    """Solve for x from 0, where r is the target and becomes the residual, until the square of that is below the limit.

    Returns:
        Steps taken, maxiter + 1 if they were not enough, -1 if the residual is no number.
    """
    p, q = np.zeros_like(x), np.zeros_like(x)
    inverse, measure = np.float32(1) / diagonal, np.float32(1) / degree
    sums, shift = np.empty(len(coarse), np.float32), np.empty(len(coarse), np.float32)
    rz = 1.0
    step = np.float64(0)
    for count in range(maxiter + 1):
        before = rz
        norm, rz = _advance(x, r, p, q, np.float32(step), measure, inverse, runs, free, sums)
        if not np.isfinite(norm):
            return -1
        if norm < limit:
            return count
        _correct(coarse, sums, shift)
        for c in range(len(sums)):
            rz += np.float64(sums[c]) * shift[c]
        _turn(p, r, np.float32(rz / before), inverse, runs, free, shift)
        step = rz / _multiply(starts, links, weights, diagonal, p, q)
    return maxiter + 1
