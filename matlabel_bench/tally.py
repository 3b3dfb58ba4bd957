"""One pass over an image gives its confusion at every background threshold, exactly.

A pixel's decision at threshold t depends on two things only: which class wins there, and whether the winner's value
exceeds t. So an image is tallied as counts of (true class, winning class, thresholds the value exceeds); confusions,
threshold curves and the oracle threshold follow without looking at a pixel again (`score.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt32

from matlabel_bench.errors import ContractError, DataError
from matlabel_bench.types import IGNORE, Label, Tags

THRESHOLDS: Float32[np.ndarray, " 100"] = (np.arange(100) / 100).astype(np.float32)
"""0.00 to 0.99; float32, so that `value > THRESHOLDS[j]` is the very comparison that makes a label."""
BINS = len(THRESHOLDS) + 1
"""A value's bin is the number of thresholds it exceeds: 0 (background at every threshold) to 100."""

Histogram = Int64[np.ndarray, "101"]


@dataclass(frozen=True, slots=True)
class Tally:
    """One image. Four arrays of one length: pixels with this true class, winning class and bin."""

    truth: UInt8[np.ndarray, " r"]
    winner: UInt8[np.ndarray, " r"]
    bin: UInt8[np.ndarray, " r"]
    count: UInt32[np.ndarray, " r"]
    histogram: Histogram | None
    """Bins of all pixels, ignored ones too: made without a mask. None for a label, whose decisions are made."""


def tally_maps(
    maps: Float32[np.ndarray, "k h w"], tags: Tags, mask: Label, tie: Float32[np.ndarray, "k h w"] | None = None
) -> Tally:
    """Tally of class maps (one channel a tag, in the order of the tags) against a mask.

    The class with the highest value wins; equal values are decided by `tie`, then by the lower class id.
    An image without tags is background everywhere.

    Raises:
        DataError: the mask has another size than the maps.
        ContractError: maps, tags and tie do not fit together, or a value is nan.
    """
    winner, bins = _decide(maps, tags, tie)
    _same_size(mask, bins, "maps")
    pooled = np.bincount(bins.ravel(), minlength=BINS) if len(tags) else np.zeros(BINS, dtype=np.int64)
    planes = max(len(tags), 1)
    code = (mask.astype(np.int32) * planes + winner) * BINS + bins
    cells = np.bincount(code.ravel(), minlength=256 * planes * BINS).reshape(256, planes, BINS)
    truth, plane, level = np.nonzero(cells[:IGNORE])
    names = np.asarray(tags if len(tags) else [0], dtype=np.uint8)
    return _tally(truth, names[plane], level, cells[truth, plane, level], pooled)


def tally_label(label: Label, mask: Label) -> Tally:
    """Tally of a finished label against a mask. A predicted 255 counts as background, as IRN's evaluation does.

    Raises:
        DataError: the mask has another size than the label.
    """
    _same_size(mask, label, "label")
    cells = np.bincount((mask.astype(np.int32) * 256 + label).ravel(), minlength=256 * 256).reshape(256, 256)
    cells[:, 0] += cells[:, IGNORE]
    truth, winner = np.nonzero(cells[:IGNORE, :IGNORE])
    level = np.where(winner > 0, BINS - 1, 0)  # foreground at every threshold, or at none
    return _tally(truth, winner, level, cells[truth, winner], None)


def histogram(maps: Float32[np.ndarray, "k h w"]) -> Histogram:
    """Bins of the winning value of every pixel, without a mask; all zero where there is no map, as nothing is decided.

    Raises:
        ContractError: a value is nan.
    """
    if not len(maps):
        return np.zeros(BINS, dtype=np.int64)
    return np.bincount(_bins(maps.max(axis=0)).ravel(), minlength=BINS)


def otsu(pooled: Histogram) -> float:
    """The threshold that separates two populations of winning values best, found without any mask.

    Otsu (1979): the largest variance between the two sides. Where neighbouring thresholds part the pixels alike
    (empty bins between two modes) the middle one is taken, the lower of two middles. Where all pixels share a bin
    there is nothing to separate: 0.5, which is argmax over the map and its complement.
    """
    levels = np.maximum(np.arange(BINS) - 0.5, 0) / 100  # bin 0 holds zeros, bin b holds ((b - 1) / 100, b / 100]
    below, moment = np.cumsum(pooled)[:-1].astype(np.float64), np.cumsum(pooled * levels)[:-1]
    total, mean = float(pooled.sum()), float((pooled * levels).sum())
    parts = (below > 0) & (below < total)
    if not parts.any():
        return 0.5
    spread = np.where(parts, (mean * below - moment * total) ** 2, 0) / np.where(parts, below * (total - below), 1)
    same = np.flatnonzero(below == below[int(spread.argmax())])
    return float(same[(len(same) - 1) // 2]) / 100


def _decide(maps: np.ndarray, tags: Tags, tie: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Index of the winning plane and bin of its value, both h w."""
    fits = maps.ndim == 3 and len(tags) == len(maps) and (tie is None or tie.shape == maps.shape)
    if not fits or maps.dtype != np.float32:
        shapes = [m.shape for m in (maps, tie) if m is not None]
        raise ContractError(
            "maps (and tie) as float32, one plane a tag", f"{maps.dtype} {shapes} for tags {list(tags)}", "stack them"
        )
    winner = np.zeros(maps.shape[1:], dtype=np.uint8)
    if not len(maps):
        return winner, np.zeros(maps.shape[1:], dtype=np.uint8)
    best = maps[0]
    lead = None if tie is None else tie[0]
    for plane in range(1, len(maps)):
        ahead = maps[plane] > best
        if tie is not None and lead is not None:
            ahead |= (maps[plane] == best) & (tie[plane] > lead)
            lead = np.where(ahead, tie[plane], lead)
        winner[ahead] = plane
        best = np.maximum(best, maps[plane])
    return winner, _bins(best)


def _bins(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """Number of thresholds each value exceeds, by guess and correction: several times faster than a binary search."""
    if np.isnan(values.min(initial=0)):
        raise ContractError("maps without nan", "nan", "a part diverged: see the notes of its stage")
    guess = np.clip(np.ceil(values * np.float32(100)), 0, BINS - 1).astype(np.uint8)
    edges = np.concatenate([[-np.inf], THRESHOLDS, [np.inf]]).astype(np.float32)  # edges[b] < value <= edges[b + 1]
    guess -= values <= edges[guess]
    guess += values > edges[guess + 1]
    return guess


def _same_size(mask: Label, ours: np.ndarray, what: str) -> None:
    if mask.shape != ours.shape:
        raise DataError(
            f"a mask as large as the image's {what}, {' x '.join(map(str, ours.shape))}",
            " x ".join(map(str, mask.shape)),
            "take the mask of this image, at its own size",
        )


def _tally(
    truth: np.ndarray, winner: np.ndarray, level: np.ndarray, count: np.ndarray, pooled: Histogram | None
) -> Tally:
    first, second, third = (np.asarray(a, dtype=np.uint8) for a in (truth, winner, level))
    return Tally(first, second, third, np.asarray(count, dtype=np.uint32), pooled)
