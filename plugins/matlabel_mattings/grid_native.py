"""Closed-form, learning based and random walk matting solved here: PyMatting's linear systems, solved exactly.

Each function is what `through_pymatting.Method` asks for. Known pixels are eliminated by closed_form, as in PyMatting.
The others hold them softly, by a penalty: those near unknown pixels, and where foreground and background meet, are
solved for. Those beyond have their value: what is left there of a deviation is nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from matlabel_mattings import grid_stencils
from matlabel_mattings.grid_system import Indefinite, System, band, reduce, solve
from matlabel_mattings.through_pymatting import Colours, Plane, Solve

WIDE, NARROW = 6, 2
"""Pixels that known ones are solved for around unknown ones, with a penalty of 100: learning based, random walk."""
SLACK = 100.0
"""The tolerance of an alpha, as a multiple of PyMatting's `rtol`: 1e-5."""


def closed_form(epsilon: float, rtol: float, maxiter: int) -> Callable[[Colours], Solve]:
    """Args: PyMatting's; `rtol` times SLACK is what the next correction may be, and `maxiter` how many there may be.

    Where PyMatting's arithmetic leaves no positive definite matrix, its formula is evaluated in a stable one.
    """

    def of_image(image: Colours) -> Solve:
        stencil = grid_stencils.closed_form(image, epsilon)

        def of_trimap(trimap: Plane) -> Plane:
            unknown, f, _ = _parts(trimap)

            def solved(stencil: grid_stencils.Stencil) -> Plane:
                return _alpha(reduce(stencil, f, np.zeros_like(f), unknown), f, unknown, False, rtol, maxiter)

            try:
                return solved(stencil)
            except Indefinite:
                return solved(grid_stencils.closed_form(image, epsilon, stable=True))

        return of_trimap

    return of_image


def lbdm(epsilon: float, constraint: float, rtol: float, maxiter: int) -> Callable[[Colours], Solve]:
    """As `closed_form`; `constraint` is the penalty on known pixels."""

    def of_image(image: Colours) -> Solve:
        stencil = grid_stencils.learned(image, epsilon)

        def of_trimap(trimap: Plane) -> Plane:
            unknown, f, held = _parts(trimap)
            inside = band(unknown | _contacts(unknown, f), _reach(WIDE, constraint))
            return _alpha(reduce(stencil, f, constraint * held, inside), f, inside, False, rtol, maxiter)

        return of_trimap

    return of_image


def random_walk(regularization: float, constraint: float) -> Callable[[Colours], Solve]:
    """As `lbdm`; without steps, as it takes a factor in float64."""

    def of_image(image: Colours) -> Solve:
        stencil, sums = grid_stencils.random_walk(image, regularization)
        sums = sums[1:-1, 1:-1]

        def of_trimap(trimap: Plane) -> Plane:
            unknown, f, held = _parts(trimap)
            inside = band(unknown | _contacts(unknown, f), _reach(NARROW, constraint))
            return _alpha(reduce(stencil, f, constraint * sums * held, inside), f, inside, True, 0.0, 0)

        return of_trimap

    return of_image


@lru_cache
def warm(name: str) -> None:
    """Solve a small image by one of these, so that all it may need is compiled, or loaded from where it was kept."""
    image = np.linspace(0, 1, 147).reshape(7, 7, 3)
    trimap = np.full((7, 7), 0.5)
    trimap[0], trimap[6] = 0, 1
    if name == "random_walk":
        random_walk(1e-8, 100.0)(image)(trimap)
        return
    unknown, f, held = _parts(trimap)
    levin = (grid_stencils.closed_form(image, 1e-7, stable) for stable in (False, True))
    for stencil in levin if name == "closed_form" else (grid_stencils.learned(image, 1e-7),):
        for exact in (False, True):
            _alpha(reduce(stencil, f, held, unknown), f, unknown, exact, 1e-7, 9)


def _parts(trimap: Plane) -> tuple[np.ndarray, Plane, Plane]:
    """Where it is unknown; 1 for foreground; 1 for known."""
    known = (trimap == 0) | (trimap == 1)
    return ~known, (trimap == 1).astype(np.float64), known.astype(np.float64)


def _contacts(unknown: np.ndarray, f: Plane) -> np.ndarray:
    """Known pixels that the next row or column contradicts."""
    out = np.zeros_like(unknown)
    out[1:] |= (f[1:] != f[:-1]) & ~(unknown[1:] | unknown[:-1])
    out[:, 1:] |= (f[:, 1:] != f[:, :-1]) & ~(unknown[:, 1:] | unknown[:, :-1])
    return out


def _reach(width: int, constraint: float) -> int:
    """How far that is with another penalty: a deviation falls by 1 + constraint, or faster, from pixel to pixel."""
    return math.ceil(width * math.log(101) / math.log(1 + constraint))


def _alpha(system: System, f: Plane, inside: np.ndarray, exact: bool, rtol: float, maxiter: int) -> Plane:
    alpha: Plane = np.where(inside, np.clip(solve(system, exact, SLACK * rtol, maxiter), 0, 1), f)
    return alpha
