"""Dense columns of a multifrontal factorisation: their factorisation, and the two triangular solves with them.

A front's panel holds its own columns, its own rows first, column by column in a flat array. Columns are `stride` apart,
a multiple of the lanes of tiles.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from matlabel_mattings import tiles

BLOCK = 128
"""Columns after which a front's other columns are updated: as many as the processor's caches take."""


@njit(cache=True, nogil=True)
def eliminate(
    panel: Any, stride: Any, own: Any, rest: Any, rest_stride: Any, below: Any, lanes: Any
) -> Any:  # fmt: skip
    """Factorise a front's own columns and take their product off the rest; False where a pivot is not positive."""
    top = np.int64(0)  # as a literal, 0 would be a type of its own, and `_update` compiled for it again
    for start in range(0, own, BLOCK):
        stop = min(start + BLOCK, own)
        for j in range(start, stop, 4):
            end = min(j + 4, stop)
            _update(panel, j, end, stride, stride, panel, top, stride, start, j, lanes)
            if not _columns(panel, stride, j, end, own + below):
                return False
        for j in range(stop, own, 4):
            _update(panel, j, min(j + 4, own), stride, stride, panel, top, stride, start, stop, lanes)
        for j in range(0, below, 4):
            _update(rest, j, j + 4, rest_stride, rest_stride, panel, own, stride, start, stop, lanes)
    return True


@njit(cache=True, nogil=True)
def _update(
    c: Any, j: Any, end: Any, c_stride: Any, height: Any, panel: Any, skip: Any, stride: Any, start: Any, stop: Any,
    lanes: Any
) -> None:  # fmt: skip
    """Take columns start..stop of the panel, times their row j, off column j of c, and so on up to column `end`.

    Rows of c are the panel's without the first `skip`; those above the diagonal are of no meaning.
    """
    if stop == start:
        return
    a, depth = start * stride + skip, stop - start
    i = j // lanes * lanes
    while i < height:
        both = i + lanes < height
        if end - j == 4:
            if both:
                tiles.tall(c, j * c_stride + i, c_stride, panel, a + i, a + j, stride, depth)
            else:
                tiles.short(c, j * c_stride + i, c_stride, panel, a + i, a + j, stride, depth)
        else:
            for k in range(j, end):
                if both:
                    tiles.tall_column(c, k * c_stride + i, c_stride, panel, a + i, a + k, stride, depth)
                else:
                    tiles.short_column(c, k * c_stride + i, c_stride, panel, a + i, a + k, stride, depth)
        i += 2 * lanes if both else lanes


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _columns(panel: Any, stride: Any, start: Any, end: Any, height: Any) -> Any:
    """Factorise the columns start..end among themselves."""
    for j in range(start, end):
        column = panel[j * stride + j : j * stride + height]  # loops from 0 on, without which they are no vectors
        for k in range(start, j):
            before = panel[k * stride + j : k * stride + height]
            factor = before[0]
            for i in range(len(column)):
                column[i] -= before[i] * factor
        pivot = column[0]
        if not (0 < pivot < np.inf):
            return False
        scale = panel.dtype.type(1) / np.sqrt(pivot)
        for i in range(len(column)):
            column[i] *= scale
    return True


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def forward(starts: Any, ends: Any, rows: Any, panels: Any, at: Any, x: Any) -> None:
    """x = L^-1 x."""
    change = np.empty(len(x), x.dtype)
    for f in range(len(starts) - 1):
        first, own, below = starts[f], starts[f + 1] - starts[f], ends[f + 1] - ends[f]
        if not own:
            continue
        stride = (at[f + 1] - at[f]) // own
        for i in range(below):
            change[i] = 0
        for j in range(own):
            column, later = panels[at[f] + j * stride + j : at[f] + j * stride + own], x[first + j : first + own]
            value = later[0] / column[0]
            for i in range(len(later)):
                later[i] -= column[i] * value
            later[0] = value
        for j in range(0, own, 4):  # four at a time, to pass over `change` less often
            start = at[f] + j * stride + own
            if j + 4 <= own:
                a, b = panels[start : start + below], panels[start + stride : start + stride + below]
                c, d = panels[start + 2 * stride :][:below], panels[start + 3 * stride :][:below]
                va, vb, vc, vd = x[first + j], x[first + j + 1], x[first + j + 2], x[first + j + 3]
                for i in range(below):
                    change[i] += a[i] * va + b[i] * vb + c[i] * vc + d[i] * vd
            else:
                for k in range(own - j):
                    a = panels[start + k * stride :][:below]
                    for i in range(below):
                        change[i] += a[i] * x[first + j + k]
        for i in range(below):
            x[rows[ends[f] + i]] -= change[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def backward(starts: Any, ends: Any, rows: Any, panels: Any, at: Any, x: Any) -> None:
    """x = L^-T x."""
    beyond, zero = np.empty(len(x), x.dtype), x.dtype.type(0)
    for f in range(len(starts) - 2, -1, -1):
        first, own, below = starts[f], starts[f + 1] - starts[f], ends[f + 1] - ends[f]
        for i in range(below):
            beyond[i] = x[rows[ends[f] + i]]
        stride = (at[f + 1] - at[f]) // max(own, 1)
        for j in range(0, own, 4):  # four at a time, to pass over `beyond` less often
            start = at[f] + j * stride + own
            if j + 4 <= own:
                a, b = panels[start : start + below], panels[start + stride : start + stride + below]
                c, d = panels[start + 2 * stride :][:below], panels[start + 3 * stride :][:below]
                va, vb, vc, vd = zero, zero, zero, zero
                for i in range(below):
                    va += a[i] * beyond[i]
                    vb += b[i] * beyond[i]
                    vc += c[i] * beyond[i]
                    vd += d[i] * beyond[i]
                x[first + j] -= va
                x[first + j + 1] -= vb
                x[first + j + 2] -= vc
                x[first + j + 3] -= vd
            else:
                for k in range(own - j):
                    a, va = panels[start + k * stride :][:below], zero
                    for i in range(below):
                        va += a[i] * beyond[i]
                    x[first + j + k] -= va
        for j in range(own - 1, -1, -1):
            column, later = panels[at[f] + j * stride + j : at[f] + j * stride + own], x[first + j : first + own]
            value = zero
            for i in range(1, len(later)):
                value += column[i] * later[i]
            later[0] = (later[0] - value) / column[0]
