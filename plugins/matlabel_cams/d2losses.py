"""The losses of D2CAM (Treating Pseudo-labels Generation as Image Matting for WSSS, ICCV 2023, equations 5-8).

An image enters with the classes present in it; one pair (image, present class) is one line of the arguments.
Shapes: p pairs, b images, maps p h w in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Weights:
    """The numbers of equations 5-8 and of their sum, by the paper's letters, and the readings of its text."""

    beta: float
    hinge: float
    m: float
    lam: float
    gamma1: float
    gamma2: float
    gamma3: float
    area: str
    level: float
    gradient: str
    judge: str
    start: str
    equal: float
    ramp: int


def decoupling(ce_fg: torch.Tensor, ce_bg: torch.Tensor, beta: float, margin: float) -> torch.Tensor:
    """Equation 5 inside the sum: max(0, margin - beta CE(Y_bg, c) + CE(Y_fg, c)), for each pair: p.

    Args:
        ce_fg, ce_bg: p, softmax cross-entropy of the foreground's and the background's prediction with class c.
    """
    return functional.relu(margin - beta * ce_bg + ce_fg)


def area(maps: torch.Tensor) -> torch.Tensor:
    """Equation 7 for each pair: p, as a share of the map, because the margin it is compared with is one."""
    return maps.mean((1, 2))


def margin_area(areas: torch.Tensor, margin: float | torch.Tensor, share: float) -> torch.Tensor:
    """Equation 6: max(0, L_area - m) + lambda L_area, for each image (or pair, with a margin of its own)."""
    return functional.relu(areas - margin) + share * areas


def extent(cams: torch.Tensor, level: float) -> torch.Tensor:
    """The share of cells in which a class activation map exceeds `level` of its maximum: p h w >= 0 -> p."""
    return (cams > level * cams.amax((1, 2), keepdim=True)).to(cams.dtype).mean((1, 2))


def overlap(maps: torch.Tensor, images: torch.Tensor, count: int) -> torch.Tensor:
    """Equation 8 for each image: the mean over pixels of max(0, sum of its classes' maps - 1): b.

    Args:
        images: p, the image of each pair, 0 .. count - 1.
    """
    total = maps.new_zeros(count, *maps.shape[1:]).index_add(0, images, maps)
    return functional.relu(total - 1).mean((1, 2))


def per_image(values: torch.Tensor, images: torch.Tensor, count: int) -> torch.Tensor:
    """The mean of pairs' values over the classes of each image: b; 0 for an image without a class."""
    number = torch.bincount(images, minlength=count).clamp(min=1)
    return values.new_zeros(count).index_add(0, images, values) / number


def smaller(maps: torch.Tensor, factor: float, size: tuple[int, ...] | torch.Size) -> torch.Tensor:
    """Maps p h w as a network sees them in the image made smaller by `factor`: p, and `size`.

    Cell j of a map looks at pixel s j of its image, so cell j of the smaller image's map lies at cell j / factor here;
    values are linear between cells and repeated beyond the last.
    """
    for axis, count in ((1, size[0]), (2, size[1])):
        last = maps.shape[axis] - 1
        at = (torch.arange(count, device=maps.device, dtype=maps.dtype) / factor).clamp(max=last)
        low = at.floor().long()
        share = (at - low).view((-1, 1) if axis == 1 else (1, -1))
        above = maps.index_select(axis, (low + 1).clamp(max=last))
        maps = maps.index_select(axis, low) * (1 - share) + above * share
    return maps
