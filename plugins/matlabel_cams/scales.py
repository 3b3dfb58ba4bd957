"""Maps of one image at several scales, mirrored too, brought onto one grid without any shift.

A network of odd kernels sees, in cell j of a map of stride s, the surroundings of pixel s j of its input: a position
known exactly for every scale and for the mirrored image. Each map is therefore sampled, linearly along each axis, at
the middle of the cells of the grid that is returned. (Upsampling with the corners of the grids aligned, the common
way, moves the maps up and to the left by half a cell, 7.5 pixels at stride 16.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from matlabel_bench.images import resize_image
from matlabel_bench.types import Image
from matlabel_cams.crops import normalised, resize_to

Forward = Callable[[torch.Tensor], torch.Tensor]
"""b 3 h w, normalised -> b k gh gw."""


def grid(pixels: int, cell: int) -> tuple[int, int]:
    """Cells along an axis and pixels a cell, at most `cell`.

    A reader of the maps knows a cell's size only as ceil(pixels / cells): for short sides a smaller cell is the one
    that it will find.
    """
    size = -(-pixels // -(-pixels // cell))
    return -(-pixels // size), size


def sampling(cells: int, step: float, first: float, count: int, size: int) -> torch.Tensor:
    """count x cells: weights that sample a line of cells at the middle of `count` intervals of `size` pixels.

    The cells stand at first + step j; beyond the first and last their values are repeated.
    """
    middle = (torch.arange(count, dtype=torch.float64) + 0.5) * size
    at = ((middle - first) / step).clamp(0, cells - 1)
    low = at.floor().clamp(max=max(cells - 2, 0))
    weights = torch.zeros(count, cells, dtype=torch.float64)
    rows = torch.arange(count)
    weights[rows, low.long()] = 1 - (at - low)
    weights[rows, (low.long() + 1).clamp(max=cells - 1)] += at - low
    return weights.float()


def at_scales(
    image: Image,
    forward: Forward,
    *,
    stride: int,
    cell: int,
    scales: Sequence[float],
    flip: bool,
    mean: torch.Tensor,
    std: torch.Tensor,
    longest: int = 0,
    device: str = "cpu",
) -> torch.Tensor:
    """The mean over scales and mirror images of what `forward` makes of an image.

    Args:
        stride: of the network.
        cell: pixels of the image a cell of the result covers; fewer along short sides (see `grid`).
        mean, std: 3 x 1 x 1, of pixel values 0..255.
        longest: an image with a longer side is made smaller before the scales; 0 never.

    Returns:
        k x ceil(h / cell) x ceil(w / cell) float32, on the CPU.
    """
    height, width = image.shape[:2]
    if longest and max(height, width) > longest:
        image = resize_to(image, longest)
    found: list[torch.Tensor] = []
    rows, columns = grid(height, cell), grid(width, cell)
    for scale in scales:
        size = tuple(max(1, round(side * scale)) for side in image.shape[:2])
        inputs = normalised(resize_image(image, size), mean, std)
        batch = torch.stack([inputs, inputs.flip(-1)] if flip else [inputs]).to(device)
        maps = forward(batch).float().cpu()
        dy, dx = height / size[0], width / size[1]  # pixels of the image a pixel of the input
        vertical = sampling(maps.shape[-2], stride * dy, 0.5 * dy, *rows)
        across = sampling(maps.shape[-1], stride * dx, 0.5 * dx, *columns)
        one = vertical @ maps[0] @ across.T
        if flip:
            end = (maps.shape[-1] - 1) * stride  # the mirror image's last cell is the leftmost here
            back = sampling(maps.shape[-1], stride * dx, (size[1] - 0.5 - end) * dx, *columns)
            one = (one + vertical @ maps[1].flip(-1) @ back.T) / 2
        found.append(one)
    return torch.stack(found).mean(0)
