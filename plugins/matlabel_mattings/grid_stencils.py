"""The matrices of closed-form, learning based and random walk matting, as stencils on the pixel grid.

Reference: pymatting 1.1.16, laplacian/{cf,lbdm,rw}_laplacian.py. A symmetric matrix that links a pixel with those at
most `reach` rows and columns away is kept as one plane for each step to a later pixel: half of it, and no indices. The
grid is the image with `reach` pixels more on every side, so that no step leaves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numba import njit

from matlabel_mattings import grid_windows

FALLOFF = 900.0
"""PyMatting's random walk: a weight is exp(-FALLOFF * squared colour distance)."""


@dataclass(frozen=True, slots=True)
class Stencil:
    """A symmetric matrix on a grid."""

    reach: int
    steps: Int64[np.ndarray, " o"]
    """From a pixel to those it is linked to, as differences of flat indices; the first is 0."""
    planes: Float64[np.ndarray, "o h w"]
    """planes[k].flat[g] is the entry of pixels g and g + steps[k]."""

    @property
    def flat(self) -> Float64[np.ndarray, "o grid"]:
        """The planes, flat."""
        return self.planes.reshape(len(self.planes), -1)


def steps(reach: int, width: int) -> Int64[np.ndarray, " o"]:
    """0, then all steps to later pixels in reading order, on a grid of that many columns."""
    side = np.arange(-reach, reach + 1)
    return np.concatenate([[*range(reach + 1)], *(row * width + side for row in range(1, reach + 1))]).astype(np.int64)


def around(plane: Any, reach: int) -> Any:
    """`plane` with `reach` rows and columns of zeros on every side."""
    out = np.zeros([n + 2 * reach for n in plane.shape[:2]] + list(plane.shape[2:]), plane.dtype)
    out[reach : out.shape[0] - reach, reach : out.shape[1] - reach] = plane
    return out


def closed_form(image: Any, epsilon: float, stable: bool = False) -> Stencil:
    """Levin's Laplacian, a sum over all 3 x 3 windows.

    The order of operations is PyMatting's: on flat regions another one moves alphas by 1e-3. PyMatting leaves out
    windows without unknown pixels, which nothing that is solved depends on.

    Args:
        stable: in an order that loses no digits. PyMatting's loses all of them in a window whose colours vary much, and
            on a line: its determinant is far smaller than the products it is the sum of.
    """
    return _windows(image, epsilon, grid_windows.levin_stable if stable else grid_windows.levin)


def learned(image: Any, epsilon: float) -> Stencil:
    """Zheng's Laplacian, of the same windows.

    With X the window's colours and a column of ones, PyMatting sums B B, B = I - K (K + eps I)^-1 and K = X X^T, which
    is 9 x 9. With L L^T = X^T X + eps I, which is 4 x 4, and Y^T = L^-1 X^T: B B = I - Y (I + eps (L^T L)^-1) Y^T.
    """
    return _windows(image, epsilon, grid_windows.zheng)


def _windows(image: Any, epsilon: float, add: Callable[[Any, float, Any], None]) -> Stencil:
    grid = around(image, 2)
    height, width = grid.shape[:2]
    planes = np.zeros((13, height, width))
    add(np.ascontiguousarray(grid.transpose(2, 0, 1)), epsilon, planes)
    return Stencil(2, steps(2, width), planes)


def random_walk(image: Any, regularization: float) -> tuple[Stencil, Float64[np.ndarray, "h w"]]:
    """PyMatting's random walk Laplacian times its row sums D, which makes it symmetric, and D.

    Steps over the image's edge lead back to the nearest pixel inside, so links along the edge count several times.
    """
    grid = around(image, 1)
    planes, sums = np.zeros((5, *grid.shape[:2])), np.zeros(grid.shape[:2])
    _walk(grid, regularization, planes, sums)
    return Stencil(1, steps(1, grid.shape[1]), planes), sums


@njit(cache=True, nogil=True)
def _walk(image: Any, regularization: Any, planes: Any, sums: Any) -> None:
    height, width = image.shape[0] - 2, image.shape[1] - 2
    for y in range(1, height + 1):
        rows = 1 + (y == 1) + (y == height)
        for x in range(1, width + 1):
            columns = 1 + (x == 1) + (x == width)
            sums[y, x] += rows * columns
            for k in range(1, 5):
                dy, dx = (0, 1) if k == 1 else (1, k - 3)
                if not (y + dy <= height and 1 <= x + dx <= width):
                    continue
                far = 0.0
                for c in range(3):
                    apart = image[y, x, c] - image[y + dy, x + dx, c]
                    far += apart * apart
                weight = np.exp(-FALLOFF * far) * (rows if dy == 0 else columns if dx == 0 else 1)
                planes[k, y, x] = -weight
                planes[0, y, x] += weight
                planes[0, y + dy, x + dx] += weight
                sums[y, x] += weight
                sums[y + dy, x + dx] += weight
    for y in range(1, height + 1):
        for x in range(1, width + 1):
            planes[0, y, x] += regularization * sums[y, x]
