"""Random walk matting (Grady et al., VIIP 2005), row "RW" of the supplement's Table 1.

Reference: pymatting, alpha/estimate_alpha_rw.py and laplacian/rw_laplacian.py, whose defaults are ours. Its argument
`sigma` changes nothing (the factor 900 = 1 / 0.033^2 stands in the code), so it is no field here.
Deviations: none in the unknown region. Rows are normalised and the tolerance is relative to the constraint of 100, so
the default is a solve that stops early.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matlabel_bench.fields import knob
from matlabel_bench.types import Alpha, Image, Trimap
from matlabel_mattings import through_pymatting


@dataclass(frozen=True)
class RandomWalk:
    """Random walks for alpha matting (Grady et al. 2005)."""

    radius: int = knob(1, "pixels from a window's centre to its edge", low=1)
    regularization: float = knob(1e-8, "added to the matrix's diagonal", low=0.0)
    constraint: float = knob(100.0, "penalty on known pixels (lambda)", low=0.01)
    rtol: float = knob(1e-7, "relative residual at which conjugate gradients stop", low=0.0)
    maxiter: int = knob(10000, "iterations after which the class counts as failed", low=1)
    backend: str = knob("pymatting", "who solves", choices=("pymatting",))

    version: ClassVar[int] = 1
    supervision: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = False
    cost: ClassVar[float] = 3.0
    published_in: ClassVar[str] = (
        "Grady, Schiwietz, Aharon, Westermann: Random Walks for Interactive Alpha-Matting. VIIP 2005"
    )

    def open(self, out: Path | None) -> Callable[[Image, Trimap], Alpha]:
        """The live solver; see `through_pymatting.live`."""
        pm = through_pymatting.load()

        def laplacian(image: through_pymatting.Colours) -> object:
            return pm.rw_laplacian(image, radius=self.radius, regularization=self.regularization)

        cg = {"rtol": self.rtol, "maxiter": self.maxiter}
        prepare = through_pymatting.shared_system(laplacian, pm.jacobi, self.constraint, cg)
        return through_pymatting.live(through_pymatting.Method("random_walk", prepare))
