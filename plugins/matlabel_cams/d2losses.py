"""The losses of D2CAM (Treating Pseudo-labels Generation as Image Matting for WSSS, ICCV 2023, equations 5-8).

An image enters with the classes present in it; one pair (image, present class) is one line of the arguments.
Shapes: p pairs, b images, maps p h w in [0, 1].
"""

from __future__ import annotations

import torch
from torch.nn import functional


def decoupling(ce_fg: torch.Tensor, ce_bg: torch.Tensor, beta: float, margin: float) -> torch.Tensor:
    """Equation 5 inside the sum: max(0, margin - beta CE(Y_bg, c) + CE(Y_fg, c)), for each pair: p.

    Args:
        ce_fg, ce_bg: p, softmax cross-entropy of the foreground's and the background's prediction with class c.
    """
    return functional.relu(margin - beta * ce_bg + ce_fg)


def area(maps: torch.Tensor) -> torch.Tensor:
    """Equation 7 for each pair: p, as a share of the map, because the margin it is compared with is one."""
    return maps.mean((1, 2))


def margin_area(areas: torch.Tensor, margin: float, share: float) -> torch.Tensor:
    """Equation 6 for each image: max(0, L_area - m) + lambda L_area; `areas` b."""
    return functional.relu(areas - margin) + share * areas


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
