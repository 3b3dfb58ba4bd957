"""IRN's walk in torch, for a refiner whose network runs on a graphics card: `irn_walk.walk`, without leaving it.

All paths are looked up at once, in a margin of boundaries around the grid through which nothing passes.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional

from matlabel_refiners.irn_paths import paths
from matlabel_refiners.irn_walk import power

Grid = Float32[Tensor, "gh gw"]
Planes = Float32[Tensor, "k gh gw"]


@lru_cache(maxsize=8)
def _cells(radius: int, width: int) -> tuple[Int64[Tensor, "p c"], Int64[Tensor, " p"]]:
    """Of each path the cells, as differences of flat indices on a grid of so many columns, and its end."""
    every = paths(radius)
    longest = max(map(len, every), default=1)
    # A path that is shorter looks at its source, the last of its cells, several times.
    filled = [[*path, *[path[-1]] * (longest - len(path))] for path in every]
    flat = torch.tensor([[y * width + x for y, x in path] for path in filled], dtype=torch.int64).reshape(-1, longest)
    return flat, flat[:, 0]


def transitions(boundary: Grid, radius: int, beta: float) -> Tensor:
    """`irn_walk.transitions` as a sparse CSR tensor of float64, on the boundary's device."""
    height, width = boundary.shape
    margin = radius - 1
    wide = width + 2 * margin
    closed = functional.pad(boundary[None], (margin, margin, margin, margin), value=1.0).flatten()
    paths_of, ends = (table.to(boundary.device) for table in _cells(radius, wide))
    numbers = torch.arange(height * width, device=boundary.device)
    at = (numbers // width + margin) * wide + numbers % width + margin
    number_of = torch.full_like(closed, -1, dtype=torch.int64)
    number_of[at] = numbers
    affinity = torch.zeros((len(closed), len(ends)), dtype=torch.float64, device=boundary.device)
    affinity[at] = (1 - closed[at[:, None, None] + paths_of].amax(2)).double() ** beta
    # The later neighbours of a cell are those its paths lead to; the earlier ones' paths lead to it.
    earlier = affinity[at[:, None] - ends, torch.arange(len(ends), device=boundary.device)]
    values = torch.cat([earlier.flip(1), torch.ones_like(earlier[:, :1]), affinity[at]], 1)
    columns = number_of[at[:, None] + torch.cat([-ends.flip(0), ends.new_zeros(1), ends])]
    values /= values.sum(1, keepdim=True)
    inside = columns >= 0
    rows = torch.cat([ends.new_zeros(1), inside.sum(1).cumsum(0)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        size = (len(at), len(at))
        return torch.sparse_csr_tensor(rows, columns[inside], values[inside], size, check_invariants=False)


def walk(boundary: Grid, maps: np.ndarray, radius: int, beta: float, steps: int) -> np.ndarray:
    """`irn_walk.walk`, of a boundary that may lie on a graphics card; maps and result do not."""
    matrix = transitions(boundary, radius, beta)
    start = torch.from_numpy(maps).to(boundary.device) * (1 - boundary)
    walked = power(matrix, start.flatten(1).double().T.contiguous(), steps)
    out: np.ndarray = walked.clamp_min(0).T.float().reshape(maps.shape).cpu().numpy()
    return out
