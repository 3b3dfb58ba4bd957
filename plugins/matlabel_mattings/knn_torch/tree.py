"""Balanced k-d trees of the pixels of several images at once, in five dimensions.

Every split halves: a tree of 2^d leaves lies in memory without pointers, its points sorted leaf by leaf. On photographs
a search meets half the leaves that it meets in the order of a Hilbert curve, so that a sort a level pays. Each search
has a tree of its own: one for both, built for a place weighted by 0.5, has a third more leaves to meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

LEAF = 32
"""Points of a leaf, which search together: as many as a warp has threads."""
FAR = 1e15
"""Coordinate of places without a pixel. Farther than all that is, and its square still a number."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The points of b images, n places each, in the order of their leaves; places without a pixel come last."""

    points: torch.Tensor
    """float32 b 5 n"""
    order: torch.Tensor
    """int32 b n: the pixel at each place, counted row by row."""
    boxes: torch.Tensor
    """float32 b 2l 10: least and greatest coordinates of node 1 (the root), 2, 3, ... whose children are 2i and 2i + 1;
    leaves from l on. Without points: from inf to -inf."""
    counts: torch.Tensor
    """int32 b: pixels of each image."""


def places(count: int) -> int:
    """Places of a tree that holds `count` points: LEAF times a power of two."""
    return LEAF << (-(-count // LEAF) - 1).bit_length()


def features(images: Sequence[Any], spreads: tuple[float, ...], device: Any) -> tuple[list[torch.Tensor], torch.Tensor]:
    """(r, g, b, spread * x, spread * y) of each pixel, x and y in [0, 1]; rounded as in `knn_graph.features`.

    Args:
        images: arrays h w 3, uint8, or floats in [0, 1].
        spreads: weight of the place, for each search.

    Returns:
        For each search float32 b 5 n, and int32 b, the pixels of each image.
    """
    table = torch.from_numpy((np.arange(256) / 255.0).astype(np.float32)).to(device)
    sizes = [image.shape[0] * image.shape[1] for image in images]
    first = torch.full((len(images), 5, places(max(sizes))), FAR, dtype=torch.float32, device=device)
    for out, image, size in zip(first, images, sizes, strict=True):
        colours = torch.from_numpy(np.array(image)).to(device)  # torch warns of arrays that are read-only
        colours = table[colours.long()] if image.dtype == np.uint8 else colours.float()
        out[:3, :size] = colours.reshape(-1, 3).T
    found = []
    for spread in spreads:
        points = first.clone()
        for out, image, size in zip(points, images, sizes, strict=True):
            height, width = image.shape[:2]
            x, y = (torch.from_numpy((spread * np.linspace(0, 1, s)).astype(np.float32)) for s in (width, height))
            out[3, :size].view(height, width)[:] = x.to(device)
            out[4, :size].view(height, width)[:] = y.to(device)[:, None]
        found.append(points)
    return found, torch.tensor(sizes, dtype=torch.int32).to(device)


def grow(points: torch.Tensor, counts: torch.Tensor) -> Tree:
    """The trees of float32 b 5 n, n from `places`; those at FAR are no points. Halved along the longest side."""
    batch, dims, size = points.shape
    boxes = torch.empty((batch, 2 * (size // LEAF), 2 * dims), device=points.device)
    boxes[:, 0] = 0
    order = torch.arange(size, dtype=torch.int32, device=points.device).repeat(batch, 1)
    nodes = 1
    while True:
        runs = points.view(batch, dims, nodes, size // nodes)
        real = runs < FAR
        low = torch.where(real, runs, torch.inf).amin(3)
        high = torch.where(real, runs, -torch.inf).amax(3)
        boxes[:, nodes : 2 * nodes] = torch.cat([low, high], 1).transpose(1, 2)
        if size // nodes == LEAF:
            return Tree(points, order, boxes, counts)
        turn = _by_longest_side(runs, low, high)
        points = points.gather(2, turn[:, None].expand(points.shape))
        order = order.gather(1, turn)
        nodes *= 2


def _by_longest_side(runs: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Indices b n that sort each run of float32 b 5 m r; one sort for all, by the run and the place along its side."""
    batch, _, nodes, length = runs.shape
    axis = (high - low).argmax(1, keepdim=True)
    along = runs.gather(1, axis[..., None].expand(-1, -1, -1, length))[:, 0]
    start, end = (side.gather(1, axis)[:, 0, :, None] for side in (low, high))
    top = (1 << min(22, 31 - (batch * nodes).bit_length())) - 1  # float32 counts so far without gaps
    part = (along - start) / (end - start).clamp(min=1e-30) * (top - 1)  # may round away what is finer than 1 / top
    part = torch.where(along < FAR, part, top).int()
    run = torch.arange(batch * nodes, dtype=torch.int32, device=runs.device).view(batch, nodes, 1)
    turn = (run * (top + 1) + part).view(-1).sort(stable=True).indices.view(batch, -1)
    return turn - torch.arange(batch, device=runs.device)[:, None] * (nodes * length)
