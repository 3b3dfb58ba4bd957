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

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from matlabel_bench.errors import ContractError, MattingFailed
from matlabel_bench.fields import knob
from matlabel_bench.types import Alpha, Cams, Image
from matlabel_mattings.knn import check_searches, load

LEAST = 0.01
"""Of C: a part of the graph in which no pixel has an opinion has a solution all the same."""


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

    version: ClassVar[int] = 1
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

    def open(self, out: Path | None) -> Callable[[Image, Cams], Alpha]:
        """The live matting: an image h w 3 and its maps k h w in [0, 1] -> alphas k h w, whose sum is at most 1.

        Raises:
            ContractError: later, for maps that do not fit the image. MattingFailed: fewer pixels than neighbours, or no
            convergence.
        """
        solve = self._torch() if self.backend == "torch" else self._native()

        def matte(image: Image, maps: Cams) -> Alpha:
            if maps.ndim != 3 or maps.shape[1:] != image.shape[:2]:
                got, remedy = " x ".join(map(str, maps.shape)), "give the maps of this image, enlarged to its size"
                raise ContractError(f"maps of k x {image.shape[0]} x {image.shape[1]}", got, remedy)
            if not len(maps):
                return maps
            if maps[0].size < (most := max(self.neighbours)):
                raise MattingFailed(f"an image of at least {most} pixels", str(maps[0].size), "use fewer neighbours")
            priors, confidence = self._priors(maps.reshape(len(maps), -1))
            try:
                alphas = np.clip(solve(image, self.weight * confidence, priors), 0, 1)
            except ValueError as err:
                remedy = "raise prior_knn.weight, prior_knn.rtol or prior_knn.maxiter"
                raise MattingFailed("prior_knn to solve the image", str(err), remedy) from err
            alphas /= np.maximum(alphas.sum(0), 1)  # what the solver's tolerance may add
            return alphas.reshape(maps.shape)

        return matte

    def _native(self) -> Callable[[Image, np.ndarray, np.ndarray], np.ndarray]:
        """(image, pull n, priors k n) -> solutions k n, pixel by pixel; raises ValueError."""
        knn_native = load()
        from matlabel_mattings import knn_graph

        def solve(image: Image, pull: np.ndarray, priors: np.ndarray) -> np.ndarray:
            graph = knn_graph.build(image / 255.0, self.neighbours, self.distance_weights)
            system, held = knn_graph.pulled(graph, pull[graph.order])
            one, targets = knn_native.solver(system, self.maxiter), held * priors[:, graph.order]
            alphas = np.empty(priors.shape, np.float32)
            alphas[:, graph.order] = [one(t, self.rtol * np.linalg.norm(t / graph.degree)) for t in targets]
            return alphas

        return solve

    def _torch(self) -> Callable[[Image, np.ndarray, np.ndarray], np.ndarray]:
        """As `_native`."""
        from matlabel_mattings.knn_torch import Settings, priors

        settings = Settings(self.neighbours, self.distance_weights, rtol=self.rtol, maxiter=self.maxiter)

        def solve(image: Image, pull: np.ndarray, prior: np.ndarray) -> np.ndarray:
            size = image.shape[:2]
            (found,) = priors.spread([image], [pull.reshape(size)], [prior.reshape(-1, *size)], settings, self.device)
            if isinstance(found, str):
                raise ValueError(found)
            return found.reshape(prior.shape)

        return solve

    def _priors(self, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """p of each class, and C."""
        shares = np.concatenate([np.full((1, maps.shape[1]), self.level), maps]) ** self.sharp
        shares /= shares.sum(0)
        first, second = np.sort(shares, axis=0)[:-3:-1]
        return shares[1:].astype(np.float32), np.maximum(first - second, LEAST).astype(np.float32)
