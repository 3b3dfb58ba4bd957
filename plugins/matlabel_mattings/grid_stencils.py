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

CHUNK = 256
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
    _sum_windows(np.ascontiguousarray(grid.transpose(2, 0, 1)), around(centres, 2), epsilon, levin, planes)
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
    """Add all windows to the planes. `image` is channel h w."""
    left, right, work = np.zeros((36, CHUNK)), np.zeros((36, CHUNK)), np.zeros((10, CHUNK))
    for y in range(1, image.shape[1] - 1):
        x = 0
        while x < image.shape[2]:
            count = 0
            while x + count < image.shape[2] and count < CHUNK and centres[y, x + count]:
                count += 1
            if count:
                if levin:
                    _levin(image, y, x, epsilon, left, right, work, count)
                else:
                    _zheng(image, y, x, epsilon, left, right, work, count)
                _spread(left, right, y, x, count, levin, planes)
            x += max(count, 1)


@njit(cache=True, nogil=True)
def _products(right: Any, channels: Any, epsilon: Any, work: Any, count: Any) -> None:
    """Sums over a window's pixels of products of two channels, in the order 00, 10, 11, 20, ...; epsilon on squares."""
    n = 0
    for i in range(channels):
        for j in range(i + 1):
            out = work[n]
            out[:] = epsilon if i == j else 0.0
            for k in range(0, 36, 4):
                a, b = right[k + i], right[k + j]
                for t in range(count):
                    out[t] += a[t] * b[t]
            n += 1


@njit(cache=True, nogil=True)
def _levin(image: Any, y: Any, x: Any, epsilon: Any, left: Any, right: Any, work: Any, count: Any) -> None:
    """The windows' centred colours c, in right[4 * pixel + channel], and c times their inverse covariance, in left."""
    for channel in range(3):
        mean = work[0]
        mean[:] = 0
        for k in range(9):
            row = image[channel, y - 1 + k // 3, x - 1 + k % 3 :]
            for t in range(count):
                mean[t] += row[t]
        for t in range(count):
            mean[t] /= 9
        for k in range(9):
            row, out = image[channel, y - 1 + k // 3, x - 1 + k % 3 :], right[4 * k + channel]
            for t in range(count):
                out[t] = row[t] - mean[t]
    _products(right, 3, epsilon, work, count)
    for t in range(count):
        a00, a01, a11 = work[0, t] / 9, work[1, t] / 9, work[2, t] / 9
        a02, a12, a22 = work[3, t] / 9, work[4, t] / 9, work[5, t] / 9
        scale = 1.0 / (a00 * a12 * a12 + a01 * a01 * a22 + a02 * a02 * a11 - a00 * a11 * a22 - 2 * a01 * a02 * a12)
        work[0, t] = (a12 * a12 - a11 * a22) * scale
        work[1, t] = (a01 * a22 - a02 * a12) * scale
        work[2, t] = (a02 * a02 - a00 * a22) * scale
        work[3, t] = (a02 * a11 - a01 * a12) * scale
        work[4, t] = (a00 * a12 - a01 * a02) * scale
        work[5, t] = (a01 * a01 - a00 * a11) * scale
    for k in range(0, 36, 4):
        for i in range(3):
            out, m0, m1, m2 = left[k + i], work[_at(i, 0)], work[_at(i, 1)], work[_at(i, 2)]
            r, g, b = right[k], right[k + 1], right[k + 2]
            for t in range(count):
                out[t] = m0[t] * r[t] + m1[t] * g[t] + m2[t] * b[t]


@njit(cache=True, nogil=True)
def _at(i: Any, j: Any) -> Any:
    """Where `_products` puts the product of channels i and j."""
    return i * (i + 1) // 2 + j if i >= j else j * (j + 1) // 2 + i


@njit(cache=True, nogil=True)
def _zheng(image: Any, y: Any, x: Any, epsilon: Any, left: Any, right: Any, work: Any, count: Any) -> None:
    """Y in right[4 * pixel + channel], and Y (I + eps (L^T L)^-1) in left; see `learned`."""
    for k in range(9):
        for c in range(3):
            row, out = image[c, y - 1 + k // 3, x - 1 + k % 3 :], right[4 * k + c]
            for t in range(count):
                out[t] = row[t]
        right[4 * k + 3] = 1.0
    _products(right, 4, epsilon, work, count)
    for t in range(count):
        _invert(work, t)
    for k in range(0, 36, 4):
        for i in range(3, -1, -1):
            out, m = right[k + i], work[_at(i, i)]
            for t in range(count):
                out[t] *= m[t]
            for j in range(i):
                m, r = work[_at(i, j)], right[k + j]
                for t in range(count):
                    out[t] += m[t] * r[t]
    for t in range(count):
        _square(work, t, epsilon)
    for k in range(0, 36, 4):
        r0, r1, r2, r3 = right[k], right[k + 1], right[k + 2], right[k + 3]
        for i in range(4):
            out, m0, m1, m2, m3 = left[k + i], work[_at(i, 0)], work[_at(i, 1)], work[_at(i, 2)], work[_at(i, 3)]
            for t in range(count):
                out[t] = m0[t] * r0[t] + m1[t] * r1[t] + m2[t] * r2[t] + m3[t] * r3[t]


@njit(cache=True, nogil=True)
def _invert(work: Any, t: Any) -> None:
    """L^-1 of the 4 x 4 matrix L L^T, in its place."""
    g = work[:, t]
    l00 = np.sqrt(g[0])
    l10, l20, l30 = g[1] / l00, g[3] / l00, g[6] / l00
    l11 = np.sqrt(g[2] - l10 * l10)
    l21, l31 = (g[4] - l20 * l10) / l11, (g[7] - l30 * l10) / l11
    l22 = np.sqrt(g[5] - l20 * l20 - l21 * l21)
    l32 = (g[8] - l30 * l20 - l31 * l21) / l22
    l33 = np.sqrt(g[9] - l30 * l30 - l31 * l31 - l32 * l32)
    g[0], g[2], g[5], g[9] = 1 / l00, 1 / l11, 1 / l22, 1 / l33
    g[1], g[4], g[8] = -l10 * g[0] * g[2], -l21 * g[2] * g[5], -l32 * g[5] * g[9]
    g[3] = -(l20 * g[0] + l21 * g[1]) * g[5]
    g[7] = -(l31 * g[2] + l32 * g[4]) * g[9]
    g[6] = -(l30 * g[0] + l31 * g[1] + l32 * g[3]) * g[9]


@njit(cache=True, nogil=True)
def _square(work: Any, t: Any, epsilon: Any) -> None:
    """I + epsilon W W^T of the lower triangular W, in its place."""
    for i in range(3, -1, -1):
        for j in range(i, -1, -1):
            s = 0.0
            for k in range(j + 1):
                s += work[_at(i, k), t] * work[_at(j, k), t]
            work[_at(i, j), t] = epsilon * s + (1.0 if i == j else 0.0)


@njit(cache=True, nogil=True)
def _spread(left: Any, right: Any, y: Any, x: Any, count: Any, levin: Any, planes: Any) -> None:
    """Add what the windows whose centres start at (y, x) say of each two of their pixels."""
    for i in range(9):
        p = i // 3 * 3 + 2 - i % 3  # later windows hold a pixel farther to the left: sums are in the windows' order
        l0, l1, l2, l3 = left[4 * p], left[4 * p + 1], left[4 * p + 2], left[4 * p + 3]
        for q in range(p, 9):
            r0, r1, r2, r3 = right[4 * q], right[4 * q + 1], right[4 * q + 2], right[4 * q + 3]
            plane = 5 * (q // 3 - p // 3) + q % 3 - p % 3
            out = planes[plane, y + p // 3 - 1, x + p % 3 - 1 :]
            same = 1.0 if p == q else 0.0
            if levin:
                for t in range(count):
                    out[t] += same - (1.0 + (l0[t] * r0[t] + l1[t] * r1[t] + l2[t] * r2[t])) / 9.0
            else:
                for t in range(count):
                    out[t] += same - (l0[t] * r0[t] + l1[t] * r1[t] + l2[t] * r2[t] + l3[t] * r3[t])


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
