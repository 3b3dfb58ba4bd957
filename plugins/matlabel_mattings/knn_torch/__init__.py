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

from matlabel_bench.contracts import check_inputs
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
    alphas: list[Alpha | MattingFailed] = []
    for image, trimap in zip(images, trimaps, strict=True):
        check_inputs(image, trimap)
        alphas.append(_unsolved(trimap, settings))
    todo = [i for i, alpha in enumerate(alphas) if not isinstance(alpha, MattingFailed) and _open(trimaps[i]).any()]
    try:
        for some in _batches({i: tree.places(images[i][..., 0].size) for i in todo}):
            solved = _batch([images[i] for i in some], [trimaps[i] for i in some], settings, device, watch)
            for i, alpha in zip(some, solved, strict=True):
                alphas[i] = alpha
    except torch.OutOfMemoryError as err:
        raise BenchError(f"memory on {device} for knn matting", str(err), "use smaller images or batches") from err
    return alphas


def neighbourhood(images: Sequence[Image], settings: Settings, device: str, watch: Watch = unwatched) -> graphs.Graph:
    """The graph of a batch, on the device."""
    points, counts = tree.features(images, settings.distance_weights, device)
    trees = [tree.grow(p, counts) for p in points]
    watch("trees", trees)
    found = [search.nearest(t, k) for t, k in zip(trees, settings.neighbours, strict=True)]
    watch("search", found)
    graph = graphs.build(trees, found)
    watch("graph", graph)
    return graph


def systems(graph: graphs.Graph, trimaps: Sequence[Trimap], settings: Settings) -> solve.Systems:
    """What the trimaps make of a graph: c times D for known pixels, which draws them to their value f.

    The solution starts at f. Only pixels at the border of known and unknown then have a residual, so that float32
    reaches farther; and what no known pixel is joined to stays 0, as in the reference.
    """
    planes = in_order(graph, trimaps, 0)
    known, f = planes != UNKNOWN, (planes == FOREGROUND).float()
    size = settings.constraint * f.sum(1, dtype=torch.float64).sqrt()
    tolerance = settings.rtol * SHARPER * size * (~known).any(1)
    target = -graph.apply(graph.degree.expand(f.shape).contiguous(), f)
    return solve.Systems(f, settings.constraint * graph.degree * known, target, tolerance)


def in_order(graph: graphs.Graph, planes: Sequence[np.ndarray], empty: Any) -> torch.Tensor:
    """Arrays k h w, one an image, at the places of their pixels: b n c, c the largest k; `empty` where none is."""
    batch, size = graph.order.shape
    classes = max(map(len, planes))
    rows = np.full((batch, classes, size), empty, planes[0].dtype)
    for row, p in zip(rows, planes, strict=True):
        row[: len(p), : p[0].size] = p.reshape(len(p), -1)
    there = torch.from_numpy(rows).to(graph.order.device)
    return there.gather(2, graph.order[:, None].expand(there.shape)).transpose(1, 2).contiguous()


def by_pixel(graph: graphs.Graph, values: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """The reverse of `in_order`, for float32: an array of each shape k h w."""
    rows = values.transpose(1, 2)
    rows = torch.empty_like(rows).scatter_(2, graph.order[:, None].expand(rows.shape), rows).cpu().numpy()
    return [row[:k, : h * w].reshape(k, h, w) for row, (k, h, w) in zip(rows, shapes, strict=True)]


def trouble(steps: np.ndarray, maxiter: int) -> str | None:
    """What went wrong, by an image's `solve.Solution.steps`; None where nothing did."""
    if (steps == solve.BROKEN).any():
        return "conjugate gradients diverged"
    return f"no convergence within {maxiter} iterations" if (steps == solve.SLOW).any() else None


def _open(trimap: Trimap) -> np.ndarray:
    """bool k: classes with unknown pixels, the only ones that are solved."""
    found: np.ndarray = (trimap == UNKNOWN).any((1, 2))
    return found


def _unsolved(trimap: Trimap, settings: Settings) -> Alpha | MattingFailed:
    """The trimap as alphas, or why it is refused."""
    try:
        for plane in trimap[_open(trimap)]:
            through_pymatting.solvable(plane, "knn", max(settings.neighbours))
    except MattingFailed as err:
        return err
    return (trimap == FOREGROUND).astype(np.float32)


def _batches(sizes: dict[int, int]) -> Iterator[list[int]]:
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
    graph = neighbourhood(images, settings, device, watch)
    system = systems(graph, trimaps, settings)
    solution = solve.conjugate_gradients(graph, system, settings.maxiter)
    watch("solve", solution)
    alphas = by_pixel(graph, (system.start + solution.x).clamp_(0, 1), [t.shape for t in trimaps])
    results: list[Alpha | MattingFailed] = []
    for alpha, trimap, steps in zip(alphas, trimaps, solution.steps.cpu().numpy(), strict=True):
        if reason := trouble(steps, settings.maxiter):
            results.append(through_pymatting.unsolved("knn", reason))
        else:
            alpha[~_open(trimap)] = (trimap == FOREGROUND)[~_open(trimap)]
            results.append(through_pymatting.hold_known(alpha, trimap))
    return results
