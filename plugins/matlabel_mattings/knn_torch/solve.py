"""Conjugate gradients for the systems of all classes of all images at once, on the graph they share.

float32 with sums in float64, and the diagonal as preconditioner. The classes of an image share one graph, of whose
bytes an iteration mostly consists: a row is there if any class needs it. The coarse system of `knn_native` saved too
few iterations in a trial to pay for its making (docs/speed.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from matlabel_mattings.knn_torch.graph import Graph
from matlabel_mattings.knn_torch.steps import dot

CHECK = 4
"""Iterations between two looks at the residuals, each of which waits for the graphics card."""
SLOW, BROKEN = -1, -2
"""In place of a number of iterations: they were not enough, or the residual was no number."""


@dataclass(frozen=True, slots=True)
class Systems:
    """(D - W + held) (start + x) = target + (D - W + held) start, for c right-hand sides of each of b images.

    All by row, as in `Graph`.
    """

    start: torch.Tensor
    """float32 b m c"""
    held: torch.Tensor
    """float32 b m c or b m 1, at least 0; above 0 somewhere in every part of the graph in which `target` is not 0."""
    target: torch.Tensor
    """float32 b m c"""
    tolerance: torch.Tensor
    """float64 b c: for the length of the residual, each row divided by D. 0: there is nothing to solve, x is 0."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Of `Systems`."""

    x: torch.Tensor
    """float32 b m c"""
    steps: torch.Tensor
    """int32 b c: iterations, or SLOW or BROKEN."""


def conjugate_gradients(graph: Graph, systems: Systems, maxiter: int) -> Solution:
    """Solve for x, from 0. A system that is solved stays as it is, so that none depends on the others."""
    tolerance, r = systems.tolerance, systems.target.clone()
    diagonal = (graph.degree + systems.held).expand(r.shape).contiguous()
    inverse = 1 / (diagonal - graph.own).clamp_(min=1)  # a place without links has a target of 0
    x, p = torch.zeros_like(r), torch.zeros_like(r)
    now, before = dot(r, r * inverse), torch.zeros_like(tolerance)
    running = tolerance > 0
    steps = torch.where(running, SLOW, 0).int()
    for count in range(maxiter + 1):
        if count % CHECK == 0 or count == maxiter:
            norm = (r / graph.degree).square_().sum(1, dtype=torch.float64)
            ended, broken = running & (norm < tolerance.square()), running & ~norm.isfinite()
            steps = torch.where(ended, count, torch.where(broken, BROKEN, steps)).int()
            running = running & ~ended & ~broken
            if not running.any():
                break
        graph.turn(p, r, inverse, now, before)
        q, along = graph.apply(diagonal, p)
        step = torch.where(running & (along > 0), now / along, 0).float()
        before, now = now, graph.advance(x, r, p, q, inverse, step)
    return Solution(x, steps)
