"""KNN matting with class maps as a prior in place of a trimap: all classes of an image from one system.

Not of the paper, which cuts its maps at two thresholds and leaves what lies between for the matting to decide. A map
that is unsure of most of an object leaves little foreground at 0.75, and what a trimap calls certain is certain even
where it is wrong. Here every pixel has an opinion, as strong as its map is far from undecided, and the image's KNN
graph spreads it (docs/d2cam.md). These are the random walks with priors of Grady (CVPR 2005, "Multilabel Random Walker
Image Segmentation Using Prior Models", equation 11) on the graph of KNN matting (Chen, Li, Tang, TPAMI 2013):

    (D - W + weight D C) a_c = weight D C p_c     for each class c, and for the background, whose alpha is what is left

with W and D of `knn_graph`, p the shares of (level, maps) to the power `sharp`, and C the difference of a pixel's two
largest shares. As the shares of a pixel sum to 1, its alphas do. Where background ends is left to a threshold on the
alphas, as it is for maps: `level` only says which map speaks for neither side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from matlabel_bench.errors import ContractError, MattingFailed
from matlabel_bench.fields import knob
from matlabel_bench.types import Alpha, Cams, Image
from matlabel_mattings.knn import check_searches, load
from matlabel_mattings.together import AT_ONCE, Together

LEAST = 0.01
"""Of C: a part of the graph in which no pixel has an opinion has a solution all the same."""


Solve = Callable[[list[Image], list[np.ndarray], list[np.ndarray]], list[np.ndarray | str]]
"""Images, pulls n and priors k n of each, pixel by pixel -> solutions k n, or why there is none."""


@dataclass(frozen=True)
class PriorKnn:
    """KNN matting of all classes at once, with the maps as prior instead of a trimap."""

    level: float = knob(0.4, "value of a map that speaks neither for its class nor for background", low=0.01, high=1)
    sharp: float = knob(2.0, "power of maps and level that makes them priors", low=0.1)
    weight: float = knob(0.01, "of the prior, against the neighbours' weights", low=1e-6)
    neighbours: tuple[int, ...] = knob((20, 10), "neighbours of each search, the pixel itself included", low=1)
    distance_weights: tuple[float, ...] = knob((2.0, 0.1), "weight of the place in each search", low=0.0)
    rtol: float = knob(1e-4, "relative residual at which conjugate gradients stop", low=0.0)
    maxiter: int = knob(2000, "iterations after which the image counts as failed", low=1)
    backend: str = knob("native", "who solves: this package in numba, or in torch", choices=("native", "torch"))
    device: str = knob("cpu", "where backend=torch runs: cpu, cuda or cuda:N", key="none")

    version: ClassVar[int] = 3
    supervision: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = False
    takes: ClassVar[str] = "maps"
    cost: ClassVar[float] = 1.2
    published_in: ClassVar[str] = "this project, docs/d2cam.md, after Grady (CVPR 2005) and Chen, Li, Tang (TPAMI 2013)"

    def __post_init__(self) -> None:
        check_searches("prior_knn", self.neighbours, self.distance_weights)

    @property
    def runs_on(self) -> str:
        """The device, where the backend uses one."""
        return self.device if self.backend == "torch" else "cpu"

    @property
    def together(self) -> int:
        """Images at once, where they are less work so."""
        return AT_ONCE if self.backend == "torch" else 1

    def open(self, out: Path | None) -> Callable[[Image, Cams], Alpha]:
        """The live matting: an image h w 3 and its maps k h w in [0, 1] -> alphas k h w, whose sum is at most 1.

        Raises:
            ContractError: later, for maps that do not fit the image. MattingFailed: fewer pixels than neighbours, or no
            convergence.
        """
        live = Together(partial(self._many, self._torch() if self.backend == "torch" else self._native()))
        return live if self.backend == "torch" else live.__call__

    def _many(self, solve: Solve, images: Sequence[Image], maps: Sequence[Cams]) -> list[Alpha | MattingFailed]:
        """Alphas of several images, or why there are none; raises ContractError."""
        alphas: dict[int, Alpha | MattingFailed] = {}
        posed = {}
        for i, (image, planes) in enumerate(zip(images, maps, strict=True)):
            if planes.ndim != 3 or planes.shape[1:] != image.shape[:2]:
                got, remedy = " x ".join(map(str, planes.shape)), "give the maps of this image, enlarged to its size"
                raise ContractError(f"maps of k x {image.shape[0]} x {image.shape[1]}", got, remedy)
            if not len(planes):
                alphas[i] = planes
            elif planes[0].size < (most := max(self.neighbours)):
                wanted = f"an image of at least {most} pixels"
                alphas[i] = MattingFailed(wanted, str(planes[0].size), "use fewer neighbours")
            else:
                posed[i] = self._priors(planes.reshape(len(planes), -1))
        pulls = [self.weight * confidence for _, confidence in posed.values()]
        found = solve([images[i] for i in posed], pulls, [priors for priors, _ in posed.values()]) if posed else []
        for i, solution in zip(posed, found, strict=True):
            if isinstance(solution, str):
                remedy = "raise prior_knn.weight, prior_knn.rtol or prior_knn.maxiter"
                alphas[i] = MattingFailed("prior_knn to solve the image", solution, remedy)
            else:
                alpha = np.clip(solution, 0, 1)
                alpha /= np.maximum(alpha.sum(0), 1)  # what the solver's tolerance may add
                alphas[i] = alpha.reshape(maps[i].shape)
        return [alphas[i] for i in range(len(images))]

    def _native(self) -> Solve:
        knn_native = load()
        from matlabel_mattings import knn_graph

        def one(image: Image, pull: np.ndarray, priors: np.ndarray) -> np.ndarray | str:
            graph = knn_graph.build(image / 255.0, self.neighbours, self.distance_weights)
            system, held = knn_graph.pulled(graph, pull[graph.order])
            pixels = graph.order[system.places]
            targets, alphas = held * priors[:, pixels], np.empty(priors.shape, np.float32)
            try:
                solve = knn_native.solver(system, self.maxiter)
                alphas[:, pixels] = [solve(t, self.rtol * np.linalg.norm(t / system.degree)) for t in targets]
            except ValueError as err:
                return str(err)
            return alphas

        return lambda *given: [one(*each) for each in zip(*given, strict=True)]

    def _torch(self) -> Solve:
        from matlabel_mattings.knn_torch import Settings, priors

        settings = Settings(self.neighbours, self.distance_weights, rtol=self.rtol, maxiter=self.maxiter)
        return partial(priors.spread, settings=settings, device=self.device)

    def _priors(self, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """p of each class, and C."""
        shares = np.concatenate([np.full((1, maps.shape[1]), self.level), maps]) ** self.sharp
        shares /= shares.sum(0)
        first, second = np.sort(shares, axis=0)[:-3:-1]
        return shares[1:].astype(np.float32), np.maximum(first - second, LEAST).astype(np.float32)
