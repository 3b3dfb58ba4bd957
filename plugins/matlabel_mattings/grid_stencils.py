"""The matrices of closed-form, learning based and random walk matting, as stencils on the pixel grid.

Reference: pymatting 1.1.16, laplacian/{cf,lbdm,rw}_laplacian.py. A symmetric matrix that links a pixel with those at most
`reach` rows and columns away is kept as one plane for each step to a later pixel: half of it, and no indices. The grid
is the image with `reach` pixels more on every side, so that no step leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numba import njit

CHUNK = 64
"""Windows of a row that are calculated together."""
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


def steps(reach: int, width: int) -> Int64[np.ndarray, " o"]:
    """0, then all steps to later pixels in reading order, on a grid of that many columns."""
    side = np.arange(-reach, reach + 1)
    return np.concatenate([[*range(reach + 1)], *(row * width + side for row in range(1, reach + 1))]).astype(np.int64)


def around(plane: Any, reach: int) -> Any:
    """`plane` with `reach` rows and columns of zeros on every side."""
    out = np.zeros([n + 2 * reach for n in plane.shape[:2]] + list(plane.shape[2:]), plane.dtype)
    out[reach : out.shape[0] - reach, reach : out.shape[1] - reach] = plane
    return out


def closed_form(image: Any, centres: Bool[np.ndarray, "h w"], epsilon: float) -> Stencil:
    """Levin's Laplacian, summed over the 3 x 3 windows with these centres, of which none may be at the image's edge.

    The order of operations is PyMatting's: on flat regions another one moves alphas by 1e-3.
    """
    return _windows(image, centres, epsilon, True)


def learned(image: Any, centres: Bool[np.ndarray, "h w"], epsilon: float) -> Stencil:
    """Zheng's Laplacian, of the same windows.

    With X the window's colours and a column of ones, PyMatting sums B B, B = I - K (K + eps I)^-1 and K = X X^T, which
    is 9 x 9. With L L^T = X^T X + eps I, which is 4 x 4, and Y^T = L^-1 X^T: B B = I - Y (I + eps (L^T L)^-1) Y^T.
    """
    return _windows(image, centres, epsilon, False)


def _windows(image: Any, centres: Any, epsilon: float, levin: bool) -> Stencil:
    grid = around(image, 2)
    height, width = grid.shape[:2]
    planes = np.zeros((13, height, width))
    _sum_windows(grid, around(centres, 2), epsilon, levin, planes)
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
def _sum_windows(image: Any, centres: Any, epsilon: Any, levin: Any, planes: Any) -> None:
    left, right = np.zeros((36, CHUNK)), np.zeros((36, CHUNK))
    for y in range(1, image.shape[0] - 1):
        x = 0
        while x < image.shape[1]:
            count = 0
            while x + count < image.shape[1] and count < CHUNK and centres[y, x + count]:
                if levin:
                    _levin(image, y, x + count, epsilon, left, right, count)
                else:
                    _zheng(image, y, x + count, epsilon, left, right, count)
                count += 1
            if count:
                _spread(left, right, y, x, count, levin, planes)
            x += max(count, 1)


@njit(cache=True, nogil=True)
def _levin(image: Any, y: Any, x: Any, epsilon: Any, left: Any, right: Any, t: Any) -> None:
    """The window's centred colours c, in right[4 * pixel + channel, t], and c times their inverse covariance in left."""
    for channel in range(3):
        s = 0.0
        for k in range(9):
            s += image[y - 1 + k // 3, x - 1 + k % 3, channel]
        s /= 9
        for k in range(9):
            right[4 * k + channel, t] = image[y - 1 + k // 3, x - 1 + k % 3, channel] - s
    a00, a11, a22, a01, a02, a12 = epsilon, epsilon, epsilon, 0.0, 0.0, 0.0
    for k in range(0, 36, 4):
        r, g, b = right[k, t], right[k + 1, t], right[k + 2, t]
        a00 += r * r
        a01 += r * g
        a02 += r * b
        a11 += g * g
        a12 += g * b
        a22 += b * b
    a00, a01, a02, a11, a12, a22 = a00 / 9, a01 / 9, a02 / 9, a11 / 9, a12 / 9, a22 / 9
    scale = 1.0 / (a00 * a12 * a12 + a01 * a01 * a22 + a02 * a02 * a11 - a00 * a11 * a22 - 2 * a01 * a02 * a12)
    m00, m01, m02 = (a12 * a12 - a11 * a22) * scale, (a01 * a22 - a02 * a12) * scale, (a02 * a11 - a01 * a12) * scale
    m11, m12, m22 = (a02 * a02 - a00 * a22) * scale, (a00 * a12 - a01 * a02) * scale, (a01 * a01 - a00 * a11) * scale
    for k in range(0, 36, 4):
        r, g, b = right[k, t], right[k + 1, t], right[k + 2, t]
        left[k, t] = m00 * r + m01 * g + m02 * b
        left[k + 1, t] = m01 * r + m11 * g + m12 * b
        left[k + 2, t] = m02 * r + m12 * g + m22 * b


@njit(cache=True, nogil=True)
def _zheng(image: Any, y: Any, x: Any, epsilon: Any, left: Any, right: Any, t: Any) -> None:
    """Y in right[4 * pixel + channel, t] and Y (I + eps (L^T L)^-1) in left; see `learned`."""
    lower, inverse = np.zeros((4, 4)), np.zeros((4, 4))
    for k in range(9):
        for c in range(3):
            right[4 * k + c, t] = image[y - 1 + k // 3, x - 1 + k % 3, c]
        right[4 * k + 3, t] = 1.0
    for i in range(4):
        for j in range(i + 1):
            s = epsilon if i == j else 0.0
            for k in range(0, 36, 4):
                s += right[k + i, t] * right[k + j, t]
            for k in range(j):
                s -= lower[i, k] * lower[j, k]
            lower[i, j] = np.sqrt(s) if i == j else s / lower[j, j]
    for j in range(4):
        inverse[j, j] = 1 / lower[j, j]
        for i in range(j + 1, 4):
            s = 0.0
            for k in range(j, i):
                s -= lower[i, k] * inverse[k, j]
            inverse[i, j] = s / lower[i, i]
    for k in range(0, 36, 4):
        for i in range(3, -1, -1):
            s = 0.0
            for j in range(i + 1):
                s += inverse[i, j] * right[k + j, t]
            right[k + i, t] = s
    for i in range(4):
        for j in range(i + 1):
            s = 0.0
            for k in range(j + 1):
                s += inverse[i, k] * inverse[j, k]
            lower[i, j] = lower[j, i] = epsilon * s
        lower[i, i] += 1
    for k in range(0, 36, 4):
        for i in range(4):
            s = 0.0
            for j in range(4):
                s += lower[i, j] * right[k + j, t]
            left[k + i, t] = s


@njit(cache=True, nogil=True)
def _spread(left: Any, right: Any, y: Any, x: Any, count: Any, levin: Any, planes: Any) -> None:
    """Add what the windows with centres (y, x) to (y, x + count - 1) say of each two of their pixels."""
    more, share = (1.0, 9.0) if levin else (0.0, 1.0)
    for i in range(9):
        pi = i // 3 * 3 + 2 - i % 3  # later windows hold a pixel farther to the left: sums are in the windows' order
        l0, l1, l2, l3 = left[4 * pi, :count], left[4 * pi + 1, :count], left[4 * pi + 2, :count], left[4 * pi + 3, :count]
        dy, dx = pi // 3, pi % 3
        for pj in range(pi, 9):
            r0, r1, r2, r3 = right[4 * pj, :count], right[4 * pj + 1, :count], right[4 * pj + 2, :count], right[4 * pj + 3, :count]
            down, across = pj // 3 - dy, pj % 3 - dx
            plane = across if down == 0 else 5 * down + across
            out = planes[plane, y + dy - 1, x + dx - 1 : x + dx - 1 + count]
            same = 1.0 if pi == pj else 0.0
            for t in range(count):
                out[t] += same - (more + (l0[t] * r0[t] + l1[t] * r1[t] + l2[t] * r2[t] + l3[t] * r3[t])) / share


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
