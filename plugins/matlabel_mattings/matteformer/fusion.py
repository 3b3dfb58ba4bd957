"""From three alphas to one: where the coarser is uncertain, the finer one speaks.

A pixel is uncertain if its alpha is neither 0 nor 1 to within one grey level. The uncertain area is looked for on a
picture of 640 x 640, whatever the image's size, and widened there by an ellipse's radius (OpenCV's ellipses: row dy has
round(r sqrt(1 - (dy / r)²)) pixels to each side, halves to even).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from matlabel_mattings.matteformer.decoder import Alphas

GRID = 640
RADII = (7, 3)
"""Of the widening before the alpha of quarter size, and before that of full size, enter (kernels of 15 and 7)."""
LEVEL = 1.0 / 255.0


def fuse(alphas: Alphas) -> torch.Tensor:
    """The alpha of 1/8; in its uncertain area that of 1/4; in the uncertain area of the result that of full size."""
    count = len(alphas.os8)
    alpha = torch.where(uncertain(alphas.os8, [RADII[0]] * count), alphas.os4, alphas.os8)
    return torch.where(uncertain(alpha, [RADII[1]] * count), alphas.os1, alpha)


def uncertain(alpha: torch.Tensor, radii: Sequence[int]) -> torch.Tensor:
    """The uncertain area, bool b 1 h w, of an alpha b 1 h w in [0, 1], widened by one radius an image."""
    small = functional.interpolate(alpha.detach(), size=(GRID, GRID), mode="nearest")
    unsure = ((small >= LEVEL) & (small <= 1 - LEVEL)).cpu().numpy()
    wide = np.stack([dilate(plane, radius) for plane, radius in zip(unsure[:, 0], radii, strict=True)])[:, None]
    exact = torch.from_numpy(wide).double()  # float32 would round to another neighbour here and there
    return functional.interpolate(exact, size=alpha.shape[2:], mode="nearest").to(alpha.device) > 0


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """A bool mask h w widened by OpenCV's ellipse of 2 radius + 1 pixels; nothing comes in over the border.

    The ellipse's rows are of few different lengths: the mask is widened sideways pixel by pixel, and each state is
    laid over the result at the rows it belongs to.
    """
    out = np.zeros_like(mask)
    reach = [int(np.rint(radius * np.sqrt(1 - (dy / radius) ** 2))) if radius else 0 for dy in range(radius + 1)]
    row = mask.copy()
    for width in range(radius + 1):
        if width:
            left, right = mask[:, width:], mask[:, :-width]
            row[:, : left.shape[1]] |= left
            row[:, mask.shape[1] - right.shape[1] :] |= right
        for dy in (dy for dy, wide in enumerate(reach) if wide == width):
            if dy >= len(mask):
                continue
            out[: len(mask) - dy] |= row[dy:]
            out[dy:] |= row[: len(mask) - dy]
    return out
