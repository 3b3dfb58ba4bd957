"""Learning based digital matting (Zheng, Kambhamettu, ICCV 2009), row "LBDM" of the supplement's Table 1.

Reference: pymatting, alpha/estimate_alpha_lbdm.py and laplacian/lbdm_laplacian.py, whose defaults are ours.
Deviations: with backend=pymatting none in the unknown region. Its tolerance is relative to the constraint of 100, so
PyMatting's default is a solve that stops early, far from the system's solution: that is what the paper's row
shows. The default, backend=native, solves the same system (grid_native.py; `bench perf` says how exactly).
There `rtol` times 100 is what the next correction of an alpha may be.
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
class Lbdm:
    """Learning based digital matting (Zheng and Kambhamettu 2009)."""

    epsilon: float = knob(1e-7, "regularisation of each window's regression", low=0.0)
    radius: int = knob(1, "pixels from a window's centre to its edge", low=1)
    constraint: float = knob(100.0, "penalty on known pixels (lambda)", low=0.01)
    rtol: float = knob(1e-7, "relative residual at which conjugate gradients stop", low=0.0)
    maxiter: int = knob(10000, "iterations after which the class counts as failed", low=1)
    backend: str = knob(
        "native", "who solves: this package, or PyMatting as in the paper", choices=("native", "pymatting")
    )

    version: ClassVar[int] = 3
    supervision: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = False
    published_in: ClassVar[str] = "Zheng, Kambhamettu: Learning Based Digital Matting. ICCV 2009"

    def __post_init__(self) -> None:
        grid_matting.check_radius("lbdm", self.backend, self.radius)

    @property
    def cost(self) -> float:
        """Seconds for an image of 375 x 500, by who solves, for `bench plan` (reports/perf.md)."""
        return 0.2 if self.backend == "native" else 3.0

    def open(self, out: Path | None) -> Callable[[Image, Trimap], Alpha]:
        """The live solver; see `through_pymatting.live`."""
        prepare = self._native() if self.backend == "native" else self._pymatting()
        return through_pymatting.live(through_pymatting.Method("lbdm", prepare, side=2 * self.radius + 1))

    def _native(self) -> Callable[[through_pymatting.Colours], through_pymatting.Solve]:
        prepare: Callable[[through_pymatting.Colours], through_pymatting.Solve] = grid_matting.load("lbdm")(
            self.epsilon, self.constraint, self.rtol, self.maxiter
        )
        return prepare

    def _pymatting(self) -> Callable[[through_pymatting.Colours], through_pymatting.Solve]:
        pm = through_pymatting.load()

        cg = {"rtol": self.rtol, "maxiter": self.maxiter}
        return through_pymatting.shared_system(self._laplacian, pm.ichol, self.constraint, cg)

    def _laplacian(self, image: through_pymatting.Colours) -> object:
        return through_pymatting.load().lbdm_laplacian(image, self.epsilon, self.radius)

    def reference(self) -> ClassByClass | None:
        """PyMatting, called once a class; None where this part calls it itself."""
        return pymatting(self)

    def exact(self, image: Image, trimap: Trimap) -> Alpha:
        """The solution of PyMatting's own system, float32 k h w; seconds a class."""
        return exact.held(image, trimap, self._laplacian, self.constraint)
