"""Keeping the k nearest of many candidates, of which only distances and names are held."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from matlabel_mattings.lanes import WIDE, lowest, ones, within

TIE = np.float32(1 + 2e-6)
"""Squared distances within this factor count as equal: some ten roundings of float32."""
INF = np.float32(np.inf)


@njit(cache=True, nogil=True)
def cut(far: Any, who: Any, start: int, end: int, k: int, reach: Any) -> Any:
    """Keep the k nearest candidates, and one rival if the k-th has any; where they end, and the new reach.

    All are within `reach`. The k-th is found by halving the range of distances; spoils what follows `end`.
    """
    high = reach if reach < INF else _largest(far, start, end, INF)
    far[end : end + WIDE] = INF
    low = np.float32(0)
    count = end - start
    while count > k:
        middle = (low + high) * np.float32(0.5)
        if middle >= high or middle <= low:
            return _rivals(far, who, start, end, k, high)
        inside = 0
        for i in range(start, end, WIDE):
            inside += ones(within(far, i, middle))
        if inside < k:
            low = middle
        else:
            high, count = middle, inside
    kth = _largest(far, start, end, high)
    inside = 0
    for i in range(start, end, WIDE):
        inside += ones(within(far, i, kth * TIE))
    if inside > k:
        return _rivals(far, who, start, end, k, kth)
    c = start
    for i in range(start, end, WIDE):
        bits = within(far, i, high)
        while bits:
            j = i + lowest(bits)
            bits &= bits - 1
            far[c], who[c] = far[j], who[j]
            c += 1
    return c, kth * TIE


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})
def _largest(far: Any, start: int, end: int, limit: Any) -> Any:
    """The largest of far[start:end] that is at most `limit`."""
    most = np.float32(0)
    for i in range(start, end):
        x = far[i] if far[i] <= limit else np.float32(0)
        most = x if x > most else most
    return most


@njit(cache=True, nogil=True)
def _rivals(far: Any, who: Any, start: int, end: int, k: int, kth: Any) -> Any:
    """`cut` where others are as far as the k-th."""
    reach = kth * TIE
    c, last = start, start + k
    for rival in range(2):  # first what is nearer than the k-th, none of which may be lost; then its equals
        for i in range(c, end):
            x, name = far[i], who[i]
            if (x < kth or (rival and x <= reach)) and c <= last:
                far[i], who[i] = far[c], who[c]
                far[c], who[c] = x, name
                c += 1
    return c, reach
