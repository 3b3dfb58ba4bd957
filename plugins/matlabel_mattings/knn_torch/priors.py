"""The system of `prior_knn` for several images at once: every pixel is drawn to a value of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from matlabel_bench.types import UNKNOWN, Image
from matlabel_mattings.knn_torch import Settings, batches, by_pixel, by_place, graph, searched, solve, tree, trouble


def spread(
    images: Sequence[Image], pulls: Sequence[np.ndarray], priors: Sequence[np.ndarray], settings: Settings, device: str
) -> list[np.ndarray | str]:
    """Solve (D - W + D pull) a = D pull p of each image for each plane of its priors p.

    Args:
        images: uint8 h w 3, of any sizes with at least as many pixels as neighbours.
        pulls: float32 n, above 0, of an image's pixels in reading order.
        priors: float32 k n.
        settings: `constraint` is not used, and `rtol` is the residual to reach over that of a = 0.
        device: cpu, cuda or cuda:N.

    Returns:
        Of each image float32 k n, or what went wrong.
    """
    found: dict[int, np.ndarray | str] = {}
    for some in batches({i: tree.places(pull.size) for i, pull in enumerate(pulls)}):
        solved = _batch(*([of[i] for i in some] for of in (images, pulls, priors)), settings, device)
        found.update(zip(some, solved, strict=True))
    return [found[i] for i in range(len(images))]


def _batch(
    images: list[Image], pulls: list[np.ndarray], priors: list[np.ndarray], settings: Settings, device: str
) -> list[np.ndarray | str]:
    trees, found = searched(images, settings, device)
    graphed = graph.build(trees, found, None, UNKNOWN)
    order = trees[0].order.long()
    p = graphed.rows(by_place(order, priors))
    pull = graphed.rows(by_place(order, [plane[None] for plane in pulls]))
    held = graphed.degree * pull
    tolerance = settings.rtol * (pull * p).square().sum(1, dtype=torch.float64).sqrt()
    system = solve.Systems(torch.zeros_like(p), held, held * p, tolerance)
    solution = solve.conjugate_gradients(graphed, system, settings.maxiter)
    outside = torch.zeros((*order.shape, p.shape[2]), device=p.device)
    rows, steps = by_pixel(order, graphed.fill(solution.x, outside)), solution.steps.cpu().numpy()
    return [
        trouble(taken, settings.maxiter) or row[: len(prior), : prior.shape[1]]
        for row, prior, taken in zip(rows, priors, steps, strict=True)
    ]
