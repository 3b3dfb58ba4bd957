"""KNN matting with class scores as a prior in place of a trimap: all labels of an image from one system.

Not of the paper, which cuts its maps at two thresholds and leaves what lies between for the matting to decide. A map
that is unsure of most of an object leaves little foreground at 0.75, and what a trimap calls certain is certain even
where it is wrong. Here every pixel has an opinion, as strong as its scores are apart, and the image's KNN graph spreads
it (docs/d2cam.md). These are the random walks with priors of Grady (CVPR 2005, "Multilabel Random Walker Image
Segmentation Using Prior Models", equation 11) on the graph of KNN matting (Chen, Li, Tang, TPAMI 2013):

    (D - W + weight D C) a_l = weight D C p_l     for each label l, the background among them

with W and D of `matlabel_mattings.knn_graph`, p_l = s_l^sharp / sum_j s_j^sharp of the scores s, and C the difference
of a pixel's two largest p. The priors sum to 1, so the alphas do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from matlabel_bench.errors import BenchError, ContractError, UsageError
from matlabel_bench.fields import knob
from matlabel_bench.types import Image, Scores, Tags

LEAST = 0.01
"""Of C: a part of the graph in which no pixel has an opinion has a solution all the same."""


@dataclass(frozen=True)
class PriorKnn:
    """KNN matting of all labels at once, with the scores as prior instead of a trimap."""

    weight: float = knob(0.01, "of the prior, against the neighbours' weights", low=1e-6)
    sharp: float = knob(4.0, "power of the scores that makes them priors", low=0.1)
    neighbours: tuple[int, ...] = knob((20, 10), "neighbours of each search, the pixel itself included", low=1)
    distance_weights: tuple[float, ...] = knob((2.0, 0.1), "weight of the place in each search", low=0.0)
    rtol: float = knob(1e-5, "relative residual at which conjugate gradients stop", low=0.0)
    maxiter: int = knob(2000, "iterations after which the image counts as failed", low=1)

    version: ClassVar[int] = 1
    supervision: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = False
    cost: ClassVar[float] = 1.2
    published_in: ClassVar[str] = "this project, docs/d2cam.md, after Grady (CVPR 2005) and Chen, Li, Tang (TPAMI 2013)"

    def __post_init__(self) -> None:
        if not self.neighbours or len(self.neighbours) != len(self.distance_weights):
            raise UsageError(
                "prior_knn.neighbours and prior_knn.distance_weights of one length, at least 1",
                f"{self.neighbours} and {self.distance_weights}",
                "give one weight a search, e.g. neighbours=20,10 distance_weights=2.0,0.1",
            )

    def open(self, out: Path | None) -> Callable[[Image, Tags, Scores], Scores]:
        """The live refiner: alphas of all labels, float32 k+1 h w, summing to 1.

        An image without tags, and one with fewer pixels than neighbours, keeps its scores.

        Raises:
            ContractError: later, for scores that do not fit image and tags. BenchError: no convergence.
        """
        from matlabel_mattings.through_pymatting import compiling

        with compiling("knn matting"):
            from matlabel_mattings import knn_graph, knn_native

            knn_native.warm()

        def refine(image: Image, tags: Tags, scores: Scores) -> Scores:
            shape = (len(tags) + 1, *image.shape[:2])
            if scores.shape != shape:
                got, remedy = " x ".join(map(str, scores.shape)), "give the scores of this image, background first"
                raise ContractError(f"scores of {shape[0]} planes, {shape[1]} x {shape[2]}", got, remedy)
            if shape[0] == 1 or scores[0].size < max(self.neighbours):
                return scores
            graph = knn_graph.build(image / 255.0, self.neighbours, self.distance_weights)
            priors, confidence = self._priors(scores.reshape(shape[0], -1)[:, graph.order])
            system, held = knn_graph.pulled(graph, self.weight * confidence)
            try:
                solve = knn_native.solver(system, self.maxiter)
                found = [solve(held * p, self.rtol * np.linalg.norm(held * p / graph.degree)) for p in priors[1:]]
            except ValueError as err:
                remedy = "raise prior_knn.weight, prior_knn.rtol or prior_knn.maxiter"
                raise BenchError("prior_knn to solve the image", str(err), remedy) from err
            alphas = np.empty((shape[0], scores[0].size), np.float32)
            alphas[1:, graph.order] = np.clip(found, 0, 1)
            alphas[0] = np.clip(1 - alphas[1:].sum(0), 0, 1)
            alphas /= alphas.sum(0)
            return alphas.reshape(shape)

        return refine

    def _priors(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """p of each label, and C."""
        powers = scores.astype(np.float64) ** self.sharp
        priors = powers / powers.sum(0)
        first, second = np.sort(priors, axis=0)[:-3:-1]
        return priors.astype(np.float32), np.maximum(first - second, LEAST).astype(np.float32)
