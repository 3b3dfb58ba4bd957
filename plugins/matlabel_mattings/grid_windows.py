"""Sums over 3 x 3 windows of an image: the kernels of closed-form and learning based matting.

Windows beside each other are calculated together: each loop runs over them, so that it is compiled to vectors. No loop
is written as a slice that is assigned to, which numba takes several times as long to compile. No number is given as a
literal: it would be a type of its own. A function a method, so that none is compiled that nobody asks for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

CHUNK = 256
"""Most windows that are calculated together."""


@njit(cache=True, nogil=True)
def levin(image: Any, epsilon: Any, planes: Any) -> None:
    """Add closed-form matting's windows, in the order of PyMatting's operations, to a `grid_stencils.Stencil`'s planes.

    Args:
        image: channel h w, with two more pixels on every side; so for the other two.
    """
    left, right, work = np.zeros((36, CHUNK)), np.zeros((36, CHUNK)), np.zeros((10, CHUNK))
    for y in range(3, image.shape[1] - 3):
        for x in range(3, image.shape[2] - 3, CHUNK):
            count = min(CHUNK, image.shape[2] - 3 - x)
            _levin(image, y, x, epsilon, left, right, work, count)
            _spread(left, right, y, x, count, True, planes)


@njit(cache=True, nogil=True)
def levin_stable(image: Any, epsilon: Any, planes: Any) -> None:
    """The same in an order without cancellation."""
    right, work = np.zeros((36, CHUNK)), np.zeros((10, CHUNK))
    for y in range(3, image.shape[1] - 3):
        for x in range(3, image.shape[2] - 3, CHUNK):
            count = min(CHUNK, image.shape[2] - 3 - x)
            _levin_stable(image, y, x, epsilon, right, work, count)
            _spread(right, right, y, x, count, False, planes)


@njit(cache=True, nogil=True)
def zheng(image: Any, epsilon: Any, planes: Any) -> None:
    """Learning based matting's windows."""
    left, right, work = np.zeros((36, CHUNK)), np.zeros((36, CHUNK)), np.zeros((10, CHUNK))
    for y in range(3, image.shape[1] - 3):
        for x in range(3, image.shape[2] - 3, CHUNK):
            count = min(CHUNK, image.shape[2] - 3 - x)
            _zheng(image, y, x, epsilon, left, right, work, count)
            _spread(left, right, y, x, count, False, planes)


@njit(cache=True, nogil=True)
def _products(right: Any, channels: Any, epsilon: Any, work: Any, count: Any) -> None:
    """Sums over a window's pixels of products of two channels, in the order 00, 10, 11, 20, ...; epsilon on squares."""
    n = 0
    for i in range(channels):
        for j in range(i + 1):
            out, start = work[n], epsilon if i == j else 0.0
            for t in range(count):
                out[t] = start
            for k in range(0, 36, 4):
                a, b = right[k + i], right[k + j]
                for t in range(count):
                    out[t] += a[t] * b[t]
            n += 1


@njit(cache=True, nogil=True)
def _centre(image: Any, y: Any, x: Any, right: Any, mean: Any, count: Any) -> None:
    """The windows' colours less their mean, in right[4 * pixel + channel]."""
    for channel in range(3):
        for t in range(count):
            mean[t] = 0.0
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


@njit(cache=True, nogil=True, error_model="numpy")
def _levin(image: Any, y: Any, x: Any, epsilon: Any, left: Any, right: Any, work: Any, count: Any) -> None:
    """The windows' centred colours c, in right[4 * pixel + channel], and c times their inverse covariance, in left."""
    _centre(image, y, x, right, work[0], count)
    _products(right, np.int64(3), epsilon, work, count)
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
    """Y in right[4 * pixel + channel], and Y (I + eps (L^T L)^-1) in left; see `grid_stencils.learned`."""
    for k in range(9):
        for c in range(3):
            row, out = image[c, y - 1 + k // 3, x - 1 + k % 3 :], right[4 * k + c]
            for t in range(count):
                out[t] = row[t]
        for t in range(count):
            right[4 * k + 3, t] = 1.0
    _products(right, np.int64(4), epsilon, work, count)
    _whiten(right, work, count)
    for t in range(count):
        _square(work, t, epsilon)
    for k in range(0, 36, 4):
        r0, r1, r2, r3 = right[k], right[k + 1], right[k + 2], right[k + 3]
        for i in range(4):
            out, m0, m1, m2, m3 = left[k + i], work[_at(i, 0)], work[_at(i, 1)], work[_at(i, 2)], work[_at(i, 3)]
            for t in range(count):
                out[t] = m0[t] * r0[t] + m1[t] * r1[t] + m2[t] * r2[t] + m3[t] * r3[t]


@njit(cache=True, nogil=True)
def _levin_stable(image: Any, y: Any, x: Any, epsilon: Any, right: Any, work: Any, count: Any) -> None:
    """Y, for which a window's matrix is I - Y Y^T: L^-1 c, L L^T = c^T c + eps I, and a column of 1/3."""
    _centre(image, y, x, right, work[0], count)
    _products(right, np.int64(3), epsilon, work, count)
    for t in range(count):
        work[6, t], work[7, t], work[8, t], work[9, t] = 0.0, 0.0, 0.0, 1.0
        for k in range(9):
            right[4 * k + 3, t] = 1 / 3
    _whiten(right, work, count)


@njit(cache=True, nogil=True)
def _whiten(right: Any, work: Any, count: Any) -> None:
    """Multiply each pixel's four channels by L^-1, where work holds L L^T, and then L^-1."""
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
