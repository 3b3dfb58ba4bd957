"""KNN matting of several images at once, on a graphics card or a processor: the system of `knn_graph`, in torch.

Between pictures and alphas nothing leaves the device but the news that all systems are solved. Where a pixel's k-th
neighbour has rivals as far as itself, others than PyMatting's may be taken (search.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from matlabel_bench.contracts import TRIMAP_ALLOWANCE, check_inputs
from matlabel_bench.errors import BenchError, MattingFailed
from matlabel_bench.types import FOREGROUND, UNKNOWN, Alpha, Image, Trimap
from matlabel_mattings import through_pymatting
from matlabel_mattings.knn_torch import graph as graphs
from matlabel_mattings.knn_torch import search, solve, tree

SHARPER = 0.1
"""Share of `rtol` at which to stop, as in `knn_native`."""
PLACES = 1 << 22
"""Most places of a batch, for memory's sake: a place takes some kB while its graph is built."""
Watch = Callable[[str, Any], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """The fields of `Knn` that say what is solved."""

    neighbours: tuple[int, ...] = (20, 10)
    distance_weights: tuple[float, ...] = (2.0, 0.1)
    constraint: float = 100.0
    rtol: float = 1e-7
    maxiter: int = 10000


def unwatched(phase: str, result: Any) -> None:
    """Nobody measures the phases."""


def mattes(
    images: Sequence[Image], trimaps: Sequence[Trimap], settings: Settings, device: str, watch: Watch = unwatched
) -> list[Alpha | MattingFailed]:
    """The alphas of each image, float32 k h w in [0, 1], or why it has none; no image depends on the others.

    Args:
        images: uint8 h w 3, of any sizes; similar ones share a batch with less waste.
        trimaps: uint8 k h w of each image, any k.
        device: cpu, cuda or cuda:N.
        watch: called with name and result, on the device, of every phase of a batch: trees, search, graph, solve.

    Raises:
        ContractError: image and trimap are not of one size. BenchError: the device lacks memory.
    """
    alphas: dict[int, Alpha | MattingFailed] = {}
    todo: dict[int, int] = {}
    for i, (image, trimap) in enumerate(zip(images, trimaps, strict=True)):
        check_inputs(image, trimap)
        unsolved = [plane for plane in trimap if (plane == UNKNOWN).any()]
        try:
            for plane in unsolved:
                through_pymatting.solvable(plane, "knn", max(settings.neighbours))
        except MattingFailed as err:
            alphas[i] = err
        else:
            if unsolved:
                todo[i] = tree.places(plane.size)
            else:
                alphas[i] = (trimap == FOREGROUND).astype(np.float32)
    try:
        for some in batches(todo):
            solved = _batch([images[i] for i in some], [trimaps[i] for i in some], settings, device, watch)
            alphas.update(zip(some, solved, strict=True))
    except torch.OutOfMemoryError as err:
        raise BenchError(f"memory on {device} for knn matting", str(err), "use smaller images or batches") from err
    return [alphas[i] for i in range(len(images))]


def batches(sizes: dict[int, int]) -> Iterator[list[int]]:
    """Keys of `sizes`, similar ones together, none of the lists longer than there is room for."""
    some: list[int] = []
    for i in sorted(sizes, key=lambda i: sizes[i]):
        if some and (len(some) + 1) * sizes[i] > PLACES:
            yield some
            some = []
        some.append(i)
    if some:
        yield some


def _batch(
    images: list[Image], trimaps: list[Trimap], settings: Settings, device: str, watch: Watch
) -> list[Alpha | MattingFailed]:
    graph, order, planes = neighbourhood(images, trimaps, settings, device, watch)
    system = systems(graph, planes, settings)
    solution = solve.conjugate_gradients(graph, system, settings.maxiter)
    watch("solve", solution)
    alphas = finished(graph, planes, system.start + solution.x)
    rows, steps = by_pixel(order, alphas), solution.steps.cpu().numpy()
    results: list[Alpha | MattingFailed] = []
    for row, trimap, taken in zip(rows, trimaps, steps, strict=True):
        reason = trouble(taken, settings.maxiter)
        alpha = row[: len(trimap), : trimap[0].size].reshape(trimap.shape)
        results.append(through_pymatting.unsolved("knn", reason) if reason else alpha)
    return results


def neighbourhood(
    images: Sequence[Image], trimaps: Sequence[Trimap], settings: Settings, device: str, watch: Watch = unwatched
) -> tuple[graphs.Graph, torch.Tensor, torch.Tensor]:
    """The graph of a batch as far as its trimaps need it, int64 b n the pixel at each place, and the trimaps by place,
    uint8 b n c, c the most classes of an image; all on the device."""
    trees, found = searched(images, settings, device, watch)
    order = trees[0].order.long()
    planes = by_place(order, trimaps)
    graph = graphs.build(trees, found, planes, UNKNOWN)
    watch("graph", graph)
    return graph, order, planes


def searched(
    images: Sequence[Image], settings: Settings, device: str, watch: Watch = unwatched
) -> tuple[list[tree.Tree], list[torch.Tensor]]:
    """The tree of each search in a batch, and what it found, on the device."""
    points, counts = tree.features(images, settings.distance_weights, device)
    trees = [tree.grow(p, counts) for p in points]
    watch("trees", trees)
    found = [search.nearest(t, k) for t, k in zip(trees, settings.neighbours, strict=True)]
    watch("search", found)
    return trees, found


def systems(graph: graphs.Graph, planes: torch.Tensor, settings: Settings) -> solve.Systems:
    """What trimaps by place make of a graph: known pixels are drawn to their value f with c times D.

    The solution starts at f. Only pixels at the border of known and unknown then have a residual, so that float32
    reaches farther; and what no known pixel is joined to stays 0, as in the reference.
    """
    f = (planes == FOREGROUND).float()
    size = settings.constraint * f.sum(1, dtype=torch.float64).sqrt()
    tolerance = settings.rtol * SHARPER * size * (planes == UNKNOWN).any(1)
    held = settings.constraint * graph.degree * graph.rows((planes != UNKNOWN).float())
    start = graph.rows(f)
    away, _ = graph.apply(graph.inner.expand(start.shape).contiguous(), start)
    return solve.Systems(start, held, -away, tolerance)


def finished(graph: graphs.Graph, planes: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Alphas by place, float32 b n c, of solutions by row; known pixels as near to the trimap as the contract asks."""
    f = (planes == FOREGROUND).float()
    alphas = graph.fill(found.clamp(0, 1), f)
    return torch.where((planes != UNKNOWN) & ((alphas - f).abs() > TRIMAP_ALLOWANCE), f, alphas)


def by_place(order: torch.Tensor, trimaps: Sequence[np.ndarray]) -> torch.Tensor:
    """Arrays k h w, one an image, at the places of their pixels: b n c, c the largest k; 0 where there is none."""
    batch, size = order.shape
    rows = np.zeros((batch, max(map(len, trimaps)), size), trimaps[0].dtype)
    for row, trimap in zip(rows, trimaps, strict=True):
        row[: len(trimap), : trimap[0].size] = trimap.reshape(len(trimap), -1)
    there = torch.from_numpy(rows).to(order.device)
    return there.gather(2, order[:, None].expand(there.shape)).transpose(1, 2).contiguous()


def by_pixel(order: torch.Tensor, values: torch.Tensor) -> np.ndarray:
    """The reverse of `by_place`, left in one array b c n."""
    rows = values.transpose(1, 2).contiguous()
    back: np.ndarray = torch.empty_like(rows).scatter_(2, order[:, None].expand(rows.shape), rows).cpu().numpy()
    return back


def trouble(steps: np.ndarray, maxiter: int) -> str | None:
    """What went wrong, by an image's `solve.Solution.steps`; None where nothing did."""
    if (steps == solve.BROKEN).any():
        return "conjugate gradients diverged"
    return f"no convergence within {maxiter} iterations" if (steps == solve.SLOW).any() else None
