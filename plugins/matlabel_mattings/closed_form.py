"""Closed-form matting (Levin, Lischinski, Weiss, TPAMI 2008), row "Closed Form Matting" of the supplement's Table 1.

Reference: pymatting, alpha/estimate_alpha_cf.py and laplacian/cf_laplacian.py, whose defaults are ours. Known pixels
are eliminated, not penalised, and windows without unknown pixels are left out of the Laplacian: it depends on the
trimap, so classes share nothing here.
Deviations: with backend=pymatting one: where no unknown pixel is near the foreground PyMatting fails (it divides by the
norm of a right-hand side that is zero); the system's solution, alpha 0, is returned. Other alphas equal PyMatting's.
The default, backend=native, solves the same system (grid_native.py) and is closer to its solution than PyMatting's
default (`bench perf`). There `rtol` times 100 is what the next correction of an alpha may be. On some photographs
PyMatting's matrix is indefinite by rounding alone (docs/speed.md): native then evaluates its formula without that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from matlabel_bench.fields import knob
from matlabel_bench.types import Alpha, Image, Trimap
from matlabel_mattings import exact, grid_matting, through_pymatting
from matlabel_mattings.class_by_class import ClassByClass, pymatting
from matlabel_mattings.through_pymatting import Colours, Plane, Solve


@dataclass(frozen=True)
class ClosedForm:
    """Closed-form matting (Levin et al. 2008)."""

    epsilon: float = knob(1e-7, "regularisation of each window's colour covariance", low=0.0)
    radius: int = knob(1, "pixels from a window's centre to its edge", low=1)
    rtol: float = knob(1e-7, "relative residual at which conjugate gradients stop", low=0.0)
    maxiter: int = knob(10000, "iterations after which the class counts as failed", low=1)
    backend: str = knob(
        "native", "who solves: this package, or PyMatting as in the paper", choices=("native", "pymatting")
    )

    version: ClassVar[int] = 4
    supervision: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = False
    published_in: ClassVar[str] = (
        "Levin, Lischinski, Weiss: A Closed-Form Solution to Natural Image Matting. TPAMI 30(2), 2008"
    )

    def __post_init__(self) -> None:
        grid_matting.check_radius("closed_form", self.backend, self.radius)

    @property
    def cost(self) -> float:
        """Seconds for an image of 375 x 500, by who solves, for `bench plan` (reports/perf.md)."""
        return 0.15 if self.backend == "native" else 2.2

    def open(self, out: Path | None) -> Callable[[Image, Trimap], Alpha]:
        """The live solver; see `through_pymatting.live`."""
        prepare = self._native() if self.backend == "native" else self._pymatting()
        return through_pymatting.live(through_pymatting.Method("closed_form", prepare, side=2 * self.radius + 1))

    def _native(self) -> Callable[[Colours], Solve]:
        prepare: Callable[[Colours], Solve] = grid_matting.load("closed_form")(self.epsilon, self.rtol, self.maxiter)
        return prepare

    def _pymatting(self) -> Callable[[Colours], Solve]:
        pm = through_pymatting.load()
        cg = {"rtol": self.rtol, "maxiter": self.maxiter, "callback": _watch}
        windows = {"epsilon": self.epsilon, "radius": self.radius}

        def prepare(image: Colours) -> Solve:
            def solve(trimap: Plane) -> Plane:
                try:
                    alpha: Plane = pm.estimate_alpha_cf(image, trimap, laplacian_kwargs=windows, cg_kwargs=cg)
                except _NoForegroundNear:
                    alpha = np.where(trimap == 1, 1.0, 0.0)
                return alpha

            return solve

        return prepare

    def _laplacian(self, image: Colours) -> object:
        return through_pymatting.load().cf_laplacian(image, self.epsilon, self.radius)

    def _stable(self, image: Colours) -> object:
        return exact.levin(image, self.epsilon, self.radius)

    def reference(self) -> ClassByClass | None:
        """PyMatting, called once a class; None where this part calls it itself."""
        return pymatting(self)

    def exact(self, image: Image, trimap: Trimap) -> Alpha:
        """The solution of PyMatting's own system, float32 k h w; seconds a class.

        Where that is indefinite by rounding, of the same system without it.
        """
        return exact.eliminated(image, trimap, self._laplacian, self._stable)


class _NoForegroundNear(Exception):
    """The right-hand side is zero: every unknown pixel has background alone as known neighbour."""


def _watch(system: Any, x: Any, target: Any, norm_target: float, residual: Any, norm: float) -> None:
    """Callback of PyMatting's conjugate gradients."""
    if norm_target == 0:
        raise _NoForegroundNear
    through_pymatting.stop_if_diverged(system, x, target, norm_target, residual, norm)
