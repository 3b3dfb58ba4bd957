"""IRN's losses on pairs of neighbouring cells.

Compared with jiwoon-ahn/irn at a2ece00 (MIT), net/resnet50_irn.py and step/train_irn.py. Affinity a of a pair: one
minus the greatest boundary probability on the path between them. Of pairs whose labels are both known, those of equal
labels are to have a high affinity, those of different ones a low one; displacements of two cells of one object are to
differ by the offset between them, those of two background cells not at all.
"""

from __future__ import annotations

import torch

from matlabel_bench.types import IGNORE
from matlabel_refiners.irn_paths import paths, shifted, sources

EPSILON = 1e-5


def affinities(boundary: torch.Tensor, radius: int) -> torch.Tensor:
    """Affinity of each cell with a full neighbourhood to its neighbours: b p s for p paths and s sources.

    The place of the greatest value is looked up without a gradient first, so that memory grows with the number of
    pairs, not of the cells on all their paths.

    Args:
        boundary: b gh gw in [0, 1].
    """
    height, width = boundary.shape[1:]
    window = sources(height, width, radius)
    places = torch.arange(height * width, device=boundary.device).view(height, width)[window].flatten()
    with torch.no_grad():
        greatest = []
        for path in paths(radius):
            at = _first_greatest([boundary[(slice(None), *shifted(window, *cell))] for cell in path])
            steps = torch.tensor([y * width + x for y, x in path], device=boundary.device)
            greatest.append(places + steps[at.flatten(1).long()])
        index = torch.stack(greatest, dim=1)
    return 1 - boundary.flatten(1).gather(1, index.flatten(1)).view(index.shape)


def _first_greatest(values: list[torch.Tensor]) -> torch.Tensor:
    """Which of the tensors has the greatest value, the first one of equals; integers."""
    if values[0].device.type != "cpu":
        return torch.stack(values, dim=1).argmax(dim=1)
    at, most = torch.zeros_like(values[0], dtype=torch.int32), values[0]
    for i, value in enumerate(values[1:], 1):  # quicker than an argmax on a CPU; on a GPU launches would cost more
        at.masked_fill_(value > most, i)
        most = torch.maximum(most, value)
    return at


def neighbours(values: torch.Tensor, radius: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of the sources, ... 1 s, and of their destinations, ... p s, in the order of `affinities`."""
    window = sources(values.shape[-2], values.shape[-1], radius)
    far = [values[(..., *shifted(window, *path[0]))].flatten(-2) for path in paths(radius)]
    return values[(..., *window)].flatten(-2).unsqueeze(-2), torch.stack(far, dim=-2)


def pair_losses(
    boundary: torch.Tensor, field: torch.Tensor, labels: torch.Tensor, radius: int
) -> dict[str, torch.Tensor]:
    """Four losses whose sum is IRN's.

    Args:
        boundary: b gh gw, probabilities.
        field: b 2 gh gw, displacements (row, column) in cells.
        labels: b gh gw of 0, classes and 255.
    """
    near, far = neighbours(labels, radius)
    known = (near != IGNORE) & (far != IGNORE)
    same = known & (near == far)
    ground, object_, different = same & (near == 0), same & (near != 0), known & (near != far)

    affinity = affinities(boundary, radius)
    alike = -torch.log(affinity + EPSILON)
    attract = (_mean(alike, ground) + _mean(alike, object_)) / 2
    repel = _mean(-torch.log(1 + EPSILON - affinity), different)

    here, there = neighbours(field, radius)
    offset = torch.tensor([path[0] for path in paths(radius)], device=field.device, dtype=field.dtype).T[
        None, :, :, None
    ]
    apart = here - there
    return {
        "loss_attract": attract / 2,
        "loss_repel": repel / 2,
        "loss_displacement": _mean((apart - offset).abs(), object_.unsqueeze(1)) / 2,
        "loss_still": _mean(apart.abs(), ground.unsqueeze(1)) / 2,
    }


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean where the mask, broadcast to the values, is set; zero where it is set nowhere."""
    times = values.numel() // mask.numel()
    return (values * mask).sum() / (times * mask.sum() + EPSILON)
