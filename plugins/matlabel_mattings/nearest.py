"""The k nearest of candidates that are held sixteen at a time, as the distances of all points of a leaf.

Blocks are runs of sixteen floats in a flat array. Lanes beyond the reach stay in them, as does nan where a leaf has
fewer points: what counts is what is within a limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from matlabel_mattings.lanes import WIDE, largest, lowest, ones, within

TIE = np.float32(1 + 2e-6)
"""Squared distances within this factor count as equal: some ten roundings of float32."""
INF = np.float32(np.inf)


@njit(cache=True, nogil=True, inline="always")
def narrow(far: Any, start: int, end: int, least: int, most: int, reach: Any) -> Any:
    """A limit that between `least` and `most` candidates are within, and how many those are.

    They are more than `most` where several are equally far, to the last bit.

    Args:
        start, end: of the blocks, at least `least` candidates of which are within `reach`.
    """
    low, high = np.float32(0), reach if reach < INF else _largest(far, start, end)
    inside = count(far, start, end, high)
    while inside > most:
        middle = (low + high) * np.float32(0.5)
        if middle >= high or middle <= low:
            zeros = count(far, start, end, np.float32(0))
            return (np.float32(0), zeros) if zeros >= least else (high, inside)
        nearer = count(far, start, end, middle)
        if nearer < least:
            low = middle
        else:
            high, inside = middle, nearer
    return high, inside


@njit(cache=True, nogil=True, inline="always")
def count(far: Any, start: int, end: int, limit: Any) -> Any:
    """Candidates within the limit."""
    inside = 0
    for at in range(start, end, WIDE):
        inside += ones(within(far, at, limit))
    return inside


@njit(cache=True, nogil=True, inline="always")
def farthest(far: Any, start: int, end: int, limit: Any) -> Any:
    """The largest distance within the limit."""
    most = np.float32(0)
    for at in range(start, end, WIDE):
        one = largest(far, at, limit)
        most = one if most < one else most
    return most


@njit(cache=True, nogil=True, inline="always")
def _largest(far: Any, start: int, end: int) -> Any:
    return farthest(far, start, end, np.float32(np.finfo(np.float32).max))


@njit(cache=True, nogil=True)
def squeeze(far: Any, first: Any, start: int, end: int, k: int, reach: Any) -> Any:
    """Give up all candidates but the k nearest, and blocks without any; the end of those left, and a distance.

    Of candidates as far as the k-th the first are kept. No candidate that is given up is nearer than the distance,
    and it is at least that of the k-th.

    Args:
        first: of each block the place of its first point; block `at` / 16.
    """
    high, inside = narrow(far, start, end, k, k, reach)
    low = high if inside == k else np.nextafter(high, np.float32(-1))
    spare = k - (k if inside == k else count(far, start, end, low))
    to = start
    for at in range(start, end, WIDE):
        keep = within(far, at, low)
        equal = within(far, at, high) & ~keep
        while equal and spare:
            keep |= equal & -equal
            equal &= equal - 1
            spare -= 1
        if keep:
            for j in range(WIDE):
                far[to + j] = far[at + j] if keep >> j & 1 else INF
            first[to // WIDE] = first[at // WIDE]
            to += WIDE
    return to, high


@njit(cache=True, nogil=True, inline="always")
def names(far: Any, first: Any, start: int, end: int, limit: Any, out: Any) -> None:
    """Write the places of the candidates within the limit."""
    c = 0
    for at in range(start, end, WIDE):
        bits, base = within(far, at, limit), first[at // WIDE]
        while bits:
            out[c] = base + lowest(bits)
            bits &= bits - 1
            c += 1
