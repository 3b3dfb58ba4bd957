"""IRN's random walk at inference, without its dense matrix.

With affinities a_ij = (1 - largest boundary on the path between i and j)^beta, zero beyond the radius and one on the
diagonal, IRN multiplies the maps by the 2^t-th power of the matrix whose columns are those of a divided by their sums.
As a is symmetric, that is P^n x with P = D^-1 a, D the sums, n = 2^t; and as P is similar to a symmetric matrix, all
its eigenvalues are real and within [-1, 1]. There t^n is a sum of Chebyshev polynomials,

    t^n = 2^(1 - n) sum_k C(n, (n - k) / 2) T_k(t),  k = n, n - 2, ... (the term of k = 0 halved),

whose weights are those of a coin tossed n times: all but 1e-12 of them belong to k <= 7.2 sqrt(n). The rest is left
out, which changes P^n x by at most 2e-12 of the length of x (in the norm weighted by D), and 256 steps cost 112
products with a sparse matrix of at most 69 entries a row instead of eight cubes of the number of cells.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from matlabel_bench.images import enlarge
from matlabel_bench.types import Label, Tags
from matlabel_refiners.irn_paths import CELL, grid, paths

Grid = Float32[np.ndarray, "gh gw"]
Planes = Float32[np.ndarray, "k gh gw"]
Vector = Float64[np.ndarray, "n"]

LEFT_OUT = 1e-12
"""Share of the weights of the polynomials that is left out."""


def cells(maps: Float32[np.ndarray, "k h w"]) -> Planes:
    """Maps on the grid of the boundaries: the mean over each cell's pixels, fewer at the lower and right edges."""
    height, width = maps.shape[1:]
    rows, columns = np.arange(0, height, CELL), np.arange(0, width, CELL)
    sums = np.add.reduceat(np.add.reduceat(maps, rows, axis=1), columns, axis=2)
    counts = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    means: Planes = (sums / counts).astype(np.float32)
    return means


def transitions(boundary: Grid, radius: int, beta: float) -> Any:
    """P: a scipy.sparse CSR matrix of all cells by all cells, float64, whose rows sum to 1."""
    from scipy import sparse

    height, width = boundary.shape
    index = np.arange(boundary.size, dtype=np.int32).reshape(height, width)
    first, second, values = [], [], []
    for path in paths(radius):
        row, column = path[0]
        rows, columns = height - row, width - abs(column)
        if rows <= 0 or columns <= 0:
            continue
        left = max(0, -column)
        worst = np.maximum.reduce([boundary[y : y + rows, left + x : left + x + columns] for y, x in path])
        first.append(index[:rows, left : left + columns].ravel())
        second.append(index[row:, left + column : left + column + columns].ravel())
        values.append((1 - worst.ravel()).astype(np.float64) ** beta)
    every = index.ravel()
    entries = np.concatenate([*values, *values, np.ones(boundary.size)])
    places = np.concatenate([*first, *second, every]), np.concatenate([*second, *first, every])
    matrix = sparse.coo_array((entries, places), shape=(boundary.size, boundary.size)).tocsr()
    matrix.data /= np.repeat(matrix.sum(axis=1), np.diff(matrix.indptr))
    return matrix


@lru_cache(maxsize=8)
def weights(steps: int) -> Vector:
    """Weight of each Chebyshev polynomial T_0, T_1, ... in t^steps; they sum to 1."""
    whole = math.lgamma(steps + 1) - steps * math.log(2)
    out = np.zeros(steps + 1)
    for k in range(steps, -1, -2):
        share = math.exp(whole - math.lgamma((steps - k) // 2 + 1) - math.lgamma((steps + k) // 2 + 1))
        out[k] = share if k == 0 else 2 * share
    beyond = np.cumsum(out[::-1])[::-1]
    kept: Vector = out[: np.count_nonzero(beyond > LEFT_OUT)]
    return kept / kept.sum()


def power(matrix: Any, start: Any, steps: int) -> Any:
    """The matrix, whose eigenvalues are real and within [-1, 1], `steps` times applied to numpy or torch vectors."""
    before, now = start, matrix @ start
    share = weights(steps).tolist()  # a tensor on a graphics card is no factor for a number of numpy
    total = share[0] * before + (share[1] * now if len(share) > 1 else 0)
    for weight in share[2:]:
        before, now = now, 2 * (matrix @ now) - before
        if weight:
            total += weight * now
    return total


def walk(boundary: Grid, maps: Planes, radius: int, beta: float, steps: int) -> Planes:
    """Maps, weakened on boundaries, after so many steps of the walk."""
    matrix = transitions(boundary, radius, beta)
    start = (maps * (1 - boundary)).reshape(len(maps), -1).astype(np.float64)
    # One map at a time: scipy's product with several columns is slower than as many products with one.
    walked = [power(matrix, plane, steps) for plane in start]
    out: Planes = np.maximum(np.array(walked), 0).astype(np.float32).reshape(maps.shape)
    return out


def label(walked: Planes, size: tuple[int, int], threshold: float, tags: Tags) -> Label:
    """The label of walked maps: enlarged to h x w, relative to the greatest value of all, against the background's."""
    large = enlarge(walked, (grid(size[0]) * CELL, grid(size[1]) * CELL))[:, : size[0], : size[1]]
    peak = large.max(initial=0)
    if peak > 0:
        large /= peak
    planes = np.concatenate([np.full((1, *size), threshold, np.float32), large])
    ids = np.concatenate([np.zeros(1, np.uint8), tags])
    out: Label = ids[planes.argmax(axis=0) if peak > 0 else np.zeros(size, np.intp)]
    return out
