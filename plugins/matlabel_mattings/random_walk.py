"""Random walk matting (Grady et al., VIIP 2005), row "RW" of the supplement's Table 1.

Reference: pymatting, alpha/estimate_alpha_rw.py and laplacian/rw_laplacian.py, whose defaults are ours. Its argument
`sigma` changes nothing (the factor 900 = 1 / 0.033^2 stands in the code), so it is no field here.
Deviations: with backend=pymatting none in the unknown region. Rows are normalised and the tolerance is relative to the
constraint of 100, so PyMatting's default is a solve that stops early, far from the system's solution: that is
what the paper's row shows. The default, backend=native, solves the same system directly (grid_native.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matlabel_bench.fields import knob
from matlabel_bench.types import Alpha, Image, Trimap
from matlabel_mattings import exact, grid_matting, through_pymatting
from matlabel_mattings.class_by_class import ClassByClass, pymatting


@dataclass(frozen=True)
class RandomWalk:
    """Random walks for alpha matting (Grady et al. 2005)."""

    radius: int = knob(1, "pixels from a window's centre to its edge", low=1)
    regularization: float = knob(1e-8, "added to the matrix's diagonal", low=0.0)
    constraint: float = knob(100.0, "penalty on known pixels (lambda)", low=0.01)
    rtol: float = knob(1e-7, "relative residual at which PyMatting stops; the native solver is direct", low=0.0)
    maxiter: int = knob(10000, "iterations after which PyMatting counts the class as failed", low=1)
    backend: str = knob(
        "native", "who solves: this package, or PyMatting as in the paper", choices=("native", "pymatting")
    )

    version: ClassVar[int] = 3
    supervision: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = False
    published_in: ClassVar[str] = (
        "Grady, Schiwietz, Aharon, Westermann: Random Walks for Interactive Alpha-Matting. VIIP 2005"
    )

    def __post_init__(self) -> None:
        grid_matting.check_radius("random_walk", self.backend, self.radius)

    @property
    def cost(self) -> float:
        """Seconds for an image of 375 x 500, by who solves, for `bench plan` (reports/perf.md)."""
        return 0.1 if self.backend == "native" else 3.0

    def open(self, out: Path | None) -> Callable[[Image, Trimap], Alpha]:
        """The live solver; see `through_pymatting.live`."""
        prepare = self._native() if self.backend == "native" else self._pymatting()
        return through_pymatting.live(through_pymatting.Method("random_walk", prepare))

    def _native(self) -> Callable[[through_pymatting.Colours], through_pymatting.Solve]:
        prepare: Callable[[through_pymatting.Colours], through_pymatting.Solve] = grid_matting.load("random_walk")(
            self.regularization, self.constraint
        )
        return prepare

    def _pymatting(self) -> Callable[[through_pymatting.Colours], through_pymatting.Solve]:
        pm = through_pymatting.load()

        cg = {"rtol": self.rtol, "maxiter": self.maxiter}
        return through_pymatting.shared_system(self._laplacian, pm.jacobi, self.constraint, cg)

    def _laplacian(self, image: through_pymatting.Colours) -> object:
        return through_pymatting.load().rw_laplacian(image, radius=self.radius, regularization=self.regularization)

    def reference(self) -> ClassByClass | None:
        """PyMatting, called once a class; None where this part calls it itself."""
        return pymatting(self)

    def exact(self, image: Image, trimap: Trimap) -> Alpha:
        """The solution of PyMatting's own system, float32 k h w; seconds a class."""
        return exact.held(image, trimap, self._laplacian, self.constraint)
