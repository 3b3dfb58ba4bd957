"""Conjugate gradients for the systems of all classes of all images at once, on the graph they share.

As in `knn_native`: float32 with sums in float64, and a preconditioner of two levels, the diagonal and a coarse system
in which runs of free pixels that lie together in the tree move as one. Full systems are solved, not what a trimap
leaves of them: classes then share one matrix, of whose bytes an iteration mostly consists.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from matlabel_mattings.knn_torch.graph import Graph

CHECK = 4
"""Iterations between two looks at the residuals, each of which waits for the graphics card."""
SLOW, BROKEN = -1, -2
"""In place of a number of iterations: they were not enough, or the residual was no number."""
RUN, RUNS = 64, 512
"""Places that move as one, at least, and most runs of an image: their matrices are inverted densely."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Of c systems of each of b images with n places."""

    x: torch.Tensor
    """float32 b n c"""
    steps: torch.Tensor
    """int32 b c: iterations, or SLOW or BROKEN."""


def conjugate_gradients(
    graph: Graph, held: torch.Tensor, target: torch.Tensor, free: torch.Tensor, tolerance: torch.Tensor, maxiter: int
) -> Solution:
    """Solve (D - W + held) x = target.

    Args:
        held: float32 b n c, at least 0; in every part of the graph that `target` reaches above 0 somewhere.
        target: float32 b n c.
        free: bool b n c, the places for the coarse system; none in a part where `held` is 0 everywhere.
        tolerance: float64 b c, for the length of the residual whose rows are divided by D; 0: not solved, x is 0.
        maxiter: most iterations.
    """
    diagonal = graph.degree + held
    inverse = 1 / (diagonal - graph.own).clamp(min=1)  # a place without links has a target of 0
    coarse = Coarse(graph, held, free)
    x, r, p = torch.zeros_like(target), target.clone(), torch.zeros_like(target)
    running = tolerance > 0
    steps = torch.where(running, SLOW, 0).int()
    before = torch.zeros_like(tolerance)
    for count in range(maxiter + 1):
        if count % CHECK == 0 or count == maxiter:
            norm = (r / graph.degree).square_().sum(1, dtype=torch.float64)
            ended = running & (norm < tolerance.square())
            broken = running & ~norm.isfinite()
            steps = torch.where(ended, count, torch.where(broken, BROKEN, steps)).int()
            running = running & ~ended & ~broken
            if not running.any():
                break
        z = coarse.correct(r, r * inverse)
        now = (r * z).sum(1, dtype=torch.float64)
        p = z.addcmul_(p, _column(torch.where(before > 0, now / before, 0)))
        q = torch.addcmul(graph.spread(p).neg_(), diagonal, p)
        along = (p * q).sum(1, dtype=torch.float64)
        step = _column(torch.where(running & (along > 0), now / along, 0))
        x.addcmul_(p, step)
        r.addcmul_(q, step, value=-1)
        before = now
    return Solution(x, steps)


def _column(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.float()[:, None]


class Coarse:
    """The coarse systems of all systems, inverted."""

    def __init__(self, graph: Graph, held: torch.Tensor, free: torch.Tensor) -> None:
        batch, size, classes = free.shape
        self.run = min(size, max(RUN, size // RUNS))
        runs = size // self.run
        self.free = free.to(held.dtype)
        matrix = torch.zeros((classes, batch * runs * runs), dtype=held.dtype, device=held.device)
        links = graph.links.view(-1)
        run = torch.arange(batch * size, device=held.device) // self.run
        cells = (run[:, None] * runs + (graph.links % size) // self.run).view(-1)
        for row, some in zip(matrix, self.free.view(-1, classes).T, strict=True):
            both = some[:, None] * some.index_select(0, links).view(len(some), -1)
            row.scatter_add_(0, cells, both.view(-1))  # whole numbers: their order does not matter
        found = matrix.view(classes, batch, runs, runs).transpose(0, 1).double()
        diagonal = self._sum(self.free * (graph.degree + held)).double()
        diagonal = torch.where(diagonal > 0, diagonal * (1 + 1e-7), 1)  # more than what rounding may take from it
        factor, failed = torch.linalg.cholesky_ex(diagonal.transpose(1, 2).diag_embed() - found - found.mT)
        eye = torch.eye(runs, dtype=factor.dtype, device=factor.device).expand(factor.shape)
        half = torch.linalg.solve_triangular(factor, eye, upper=False)
        inverse = torch.where(failed[..., None, None] == 0, half.mT @ half, 0)  # then the diagonal has to do
        self.inverse = inverse.float()

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        """b runs c"""
        return values.unflatten(1, (-1, self.run)).sum(2)

    def correct(self, r: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Add to z what the coarse systems make of r."""
        shift = (self.inverse @ self._sum(r * self.free).transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
        z.unflatten(1, (-1, self.run)).addcmul_(self.free.unflatten(1, (-1, self.run)), shift[:, :, None])
        return z
