"""Linear systems on the pixel grid: what a trimap leaves to be solved, and the solution.

A nested dissection (dissection.py) gives the order of a Cholesky factorisation (multifrontal.py). In float32 that takes
half the time and memory, and a few conjugate gradient steps in float64 bring the solution to what float64 gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from numba import njit
from scipy import ndimage

from matlabel_mattings.dissection import Tree, dissect
from matlabel_mattings.grid_stencils import Stencil, around
from matlabel_mattings.multifrontal import Factor, factorise

STEPS = 12
"""Conjugate gradient steps to which a float32 factor is given; it is as good as useless where they are not enough."""


class Indefinite(ValueError):
    """The matrix is not positive definite."""


@dataclass(frozen=True, slots=True)
class System:
    """(matrix + diag(held)) x = target on the pixels `inside`; all on the stencil's grid."""

    stencil: Stencil
    inside: Bool[np.ndarray, "h w"]
    held: Float64[np.ndarray, "h w"]
    target: Float64[np.ndarray, "h w"]


def band(unknown: Bool[np.ndarray, "h w"], width: int) -> Bool[np.ndarray, "h w"]:
    """The pixels at most `width` rows and columns from an unknown one."""
    width = min(width, max(unknown.shape))
    out: Bool[np.ndarray, "h w"] = ndimage.binary_dilation(unknown, np.ones((3, 3), bool), iterations=width)
    return out


def reduce(stencil: Stencil, f: Any, held: Any, inside: Any) -> System:
    """The system of the pixels `inside` where all others have the value f, and pixels are drawn to f by `held`.

    Args:
        f, held, inside: of the image's size.
    """
    f, held, inside = (around(plane, stencil.reach) for plane in (f, held, inside))
    target = held * f
    _multiply(stencil.flat, stencil.steps, _runs(inside.ravel()), np.where(inside, 0, -f).ravel(), target.ravel())
    return System(stencil, inside, np.where(inside, held, 0), np.where(inside, target, 0))


def solve(system: System, exact: bool, tolerance: float, maxiter: int) -> Any:
    """The solution, float64, 0 outside; of the image's size.

    Args:
        exact: factorise in float64 at once, and take what that gives.
        tolerance: what the next correction, judged by the last two, may be at most, anywhere.
        maxiter: conjugate gradient steps after which that counts as out of reach.

    Raises:
        Indefinite: the matrix is not positive definite, in float64 either.
        ValueError: the steps were not enough.
    """
    reach = system.stencil.reach
    h, w = system.target.shape
    x = np.zeros(h * w)
    if system.target.any():
        tree = dissect(system.inside, reach)
        x[tree.pixels] = _solution(system, tree, exact, tolerance, maxiter)
    return x.reshape(h, w)[reach : h - reach, reach : w - reach]


def _solution(system: System, tree: Tree, exact: bool, tolerance: float, maxiter: int) -> Any:
    """In the tree's order; raises as `solve`."""
    limits = ((np.float64, 0),) if exact else ((np.float32, min(STEPS, maxiter)), (np.float64, maxiter))
    failure: ValueError | None = None
    for kind, limit in limits:
        factor = factorise(tree, system.stencil.flat, system.stencil.steps, system.held.ravel(), kind)
        if factor is None:
            failure = Indefinite("the matrix is not positive definite")
            continue
        if exact:
            return factor.solve(system.target.ravel()[tree.pixels])
        x = _conjugate_gradients(system, factor, tolerance, limit)
        if x is not None:
            return x
        failure = ValueError(f"Conjugate gradient descent did not converge within {maxiter} iterations")
        del factor
    assert failure
    raise failure


def _conjugate_gradients(system: System, factor: Factor, tolerance: float, maxiter: int) -> Any:
    """The solution in the tree's order, or None if the factor, which makes a residual a correction, is too coarse."""
    pixels, runs = factor.tree.pixels, _runs(system.inside.ravel())
    held, r = system.held.ravel()[pixels], system.target.ravel()[pixels]
    x, p, spread = np.zeros(len(pixels)), np.zeros(len(pixels)), np.zeros(system.target.size)
    before, change = 0.0, 0.0
    for _ in range(maxiter):
        size = np.abs(r).max()
        if not 0 < size < np.inf:
            return x if size == 0 else None
        z = factor.solve((r / size).astype(factor.panels.dtype)).astype(np.float64) * size
        now = float(z @ r)
        if not 0 < now < np.inf:
            return None
        p = z + (now / before if before else 0.0) * p
        spread[pixels] = p
        product = np.zeros_like(spread)
        _multiply(system.stencil.flat, system.stencil.steps, runs, spread, product)
        q = product[pixels] + held * p
        length = now / float(p @ q)
        x += length * p
        r -= length * q
        before = now
        last, change = change, length * np.abs(z).max()
        if last and change * min(1.0, change / last) <= tolerance:  # corrections fall at least as fast as they did
            return x
    return None


@njit(cache=True, nogil=True)
def _runs(inside: Any) -> Any:
    """First and last + 1 of each run of pixels in reading order."""
    count = 0
    for g in range(1, len(inside)):
        count += inside[g] and not inside[g - 1]
    runs = np.empty((count, 2), np.int64)
    count = 0
    for g in range(1, len(inside)):
        if inside[g] and not inside[g - 1]:
            runs[count, 0] = g
        if inside[g - 1] and not inside[g]:
            runs[count, 1] = g
            count += 1
    return runs


@njit(cache=True, nogil=True, fastmath={"contract"})
def _multiply(planes: Any, steps: Any, runs: Any, p: Any, out: Any) -> None:
    """out += matrix p, on the runs."""
    for r in range(len(runs)):
        start, stop = runs[r]
        to = out[start:stop]
        for k in range(len(steps)):
            row, values = planes[k, start:stop], p[start + steps[k] : stop + steps[k]]
            for i in range(len(to)):
                to[i] += row[i] * values[i]
            if k:
                row, values = planes[k, start - steps[k] : stop - steps[k]], p[start - steps[k] : stop - steps[k]]
                for i in range(len(to)):
                    to[i] += row[i] * values[i]
