"""KNN matting (Chen, Li, Tang, TPAMI 2013): the matting of the Mat-Label paper.

Reference: pymatting, alpha/estimate_alpha_knn.py and laplacian/knn_laplacian.py, whose defaults are ours. A pixel's
neighbours are sought twice in (r, g, b, x, y), with strong and with weak weight of the place; weights are binary and
rows normalised, so the matrix is not symmetric and conjugate gradients stop at a tolerance relative to the constraint.
Deviations: with backend=pymatting none; alphas equal PyMatting's. The default, backend=native, solves the same system
(knn_native.py) more exactly: on photographs within 2e-4 of its solution, where PyMatting's default is 1e-3 away
(`bench perf`). backend=torch (knn_torch) solves it for all classes and several images at once, on graphics
cards too, and as exactly; but it settles ties among neighbours by the pixels' order and not by that of PyMatting's
tree, which moves alphas by up to 0.02 (search.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from matlabel_bench.errors import UsageError
from matlabel_bench.fields import knob
from matlabel_bench.types import Alpha, Image, Trimap
from matlabel_mattings import exact, through_pymatting
from matlabel_mattings.class_by_class import ClassByClass, pymatting
from matlabel_mattings.together import AT_ONCE, Together


def check_searches(part: str, neighbours: tuple[int, ...], distance_weights: tuple[float, ...]) -> None:
    """Raises UsageError where a search lacks its number of neighbours or its weight of the place."""
    if not neighbours or len(neighbours) != len(distance_weights):
        raise UsageError(
            f"{part}.neighbours and {part}.distance_weights of one length, at least 1",
            f"{neighbours} and {distance_weights}",
            "give one weight a search, e.g. neighbours=20,10 distance_weights=2.0,0.1",
        )


def load() -> ModuleType:
    """knn_native, ready to be called. The first use on a machine compiles, which is said on stderr once it shows.

    Raises:
        UsageError: there is no folder to keep what was compiled.
    """
    with through_pymatting.compiling("knn matting"):
        from matlabel_mattings import knn_native

        knn_native.warm()
    return knn_native


@dataclass(frozen=True)
class Knn:
    """KNN matting (Chen et al. 2013), the paper's choice."""

    neighbours: tuple[int, ...] = knob((20, 10), "neighbours of each search, the pixel itself included", low=1)
    distance_weights: tuple[float, ...] = knob((2.0, 0.1), "weight of the place in each search", low=0.0)
    kernel: str = knob("binary", "weight of a neighbour: 1, or less the farther it is", choices=("binary", "soft"))
    constraint: float = knob(100.0, "penalty on known pixels (lambda)", low=0.01)
    rtol: float = knob(1e-7, "relative residual at which conjugate gradients stop", low=0.0)
    maxiter: int = knob(10000, "iterations after which the class counts as failed", low=1)
    backend: str = knob(
        "native",
        "who solves: this package, in numba or in torch, or PyMatting as in the paper",
        choices=("native", "torch", "pymatting"),
    )
    device: str = knob("cpu", "where backend=torch runs: cpu, cuda or cuda:N; the others use the processor", key="none")

    version: ClassVar[int] = 4
    supervision: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = False
    published_in: ClassVar[str] = "Chen, Li, Tang: KNN Matting. TPAMI 35(9), 2013"

    def __post_init__(self) -> None:
        check_searches("knn", self.neighbours, self.distance_weights)
        if self.kernel == "soft" and self.backend != "pymatting":
            raise UsageError(f"knn.kernel=binary with knn.backend={self.backend}", "soft", "set backend=pymatting")

    @property
    def cost(self) -> float:
        """Seconds for an image of 375 x 500, by who solves, for `bench plan` (reports/perf.md)."""
        return 0.6 if self.backend == "native" else 4.0

    @property
    def runs_on(self) -> str:
        """The device, where the backend uses one."""
        return self.device if self.backend == "torch" else "cpu"

    @property
    def together(self) -> int:
        """Images at once, where they are less work so."""
        return AT_ONCE if self.backend == "torch" else 1

    def open(self, out: Path | None) -> Callable[[Image, Trimap], Alpha]:
        """The live solver; see `through_pymatting.live`. That of backend=torch has `many`."""
        if self.backend == "torch":
            return self._torch()
        prepare = self._native() if self.backend == "native" else self._pymatting()
        return through_pymatting.live(through_pymatting.Method("knn", prepare, pixels=max(self.neighbours)))

    def _native(self) -> Callable[[through_pymatting.Colours], through_pymatting.Solve]:
        fields = self.neighbours, self.distance_weights, self.constraint, self.rtol, self.maxiter
        prepare: Callable[[through_pymatting.Colours], through_pymatting.Solve] = load().prepare(*fields)
        return prepare

    def _torch(self) -> Callable[[Image, Trimap], Alpha]:
        from matlabel_mattings import knn_torch

        fields = self.neighbours, self.distance_weights, self.constraint, self.rtol, self.maxiter
        return Together(partial(knn_torch.mattes, settings=knn_torch.Settings(*fields), device=self.device))

    def _pymatting(self) -> Callable[[through_pymatting.Colours], through_pymatting.Solve]:
        pm = through_pymatting.load()

        cg = {"rtol": self.rtol, "maxiter": self.maxiter}
        return through_pymatting.shared_system(self._laplacian, pm.jacobi, self.constraint, cg)

    def _laplacian(self, image: through_pymatting.Colours) -> object:
        return through_pymatting.load().knn_laplacian(
            image, list(self.neighbours), list(self.distance_weights), self.kernel
        )

    def reference(self) -> ClassByClass | None:
        """PyMatting, called once a class; None where this part calls it itself."""
        return pymatting(self)

    def exact(self, image: Image, trimap: Trimap) -> Alpha:
        """The solution of PyMatting's own system, float32 k h w; seconds a class."""
        return exact.linked(image, trimap, self._laplacian, self.constraint)
