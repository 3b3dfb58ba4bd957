"""From pixel counts to a number a reader may trust: IoU, mIoU, and bootstrap intervals over images.

All scores are per cent. IoU of a class = TP / (TP + FP + FN), with counts summed over the images of a split first
(PASCAL VOC's definition: a mean over images would weigh small objects differently). The mean runs over classes whose
union is not empty; how many those are is always returned beside it.

Intervals are percentile bootstrap (Efron & Tibshirani 1993) over images, which are the independent draws; pixels of
one image are not. Rows of a table see the same images, so a difference is resampled in pairs, which removes the part
of the spread that both rows share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from matlabel_bench.errors import DataError

RESAMPLES = 1000
"""Enough for the ends of a 95 % interval to stand within a few hundredths of a point; the field's habit."""
_SEED = 20231
_LEVELS = (2.5, 97.5)
_BLOCK = 100

Confusion = Int64[np.ndarray, "c c"]
"""Pixels by true class (first axis) and predicted class (second axis), background first."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What an IoU needs of each image, at one decision threshold."""

    ids: tuple[str, ...]
    values: Int64[np.ndarray, "n 3 c"]
    """True positives, pixels of the class in the mask, pixels of the class in the prediction; none of ignored ones."""

    def per_class(self) -> Float64[np.ndarray, " c"]:
        """IoU of each class over all images, per cent, nan where the union is empty."""
        return _iou(self.values.sum(axis=0))


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over seeds of dataset-level mIoU, with its 95 % interval over images."""

    value: float
    low: float
    high: float
    per_class: tuple[float, ...]
    """IoU of each class, mean over seeds, background first; nan where some seed's union is empty."""
    classes: int
    """Classes in the mean; the smallest number among the seeds."""


@dataclass(frozen=True, slots=True)
class Difference:
    """mIoU of one row minus another's over the same images and classes, with its paired 95 % interval."""

    value: float
    low: float
    high: float
    classes: int
    """Classes that count in both rows; only those enter."""


def miou(confusion: Confusion) -> tuple[float, Float64[np.ndarray, " c"], int]:
    """Mean IoU in per cent, IoU of each class (nan where its union is empty), number of classes in the mean.

    Raises:
        DataError: no class has a pixel, so there is no mean.
    """
    counts = np.stack([np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)])
    iou = _iou(counts)
    counted = int(np.isfinite(iou).sum())
    if not counted:
        raise DataError("at least one scored pixel", "masks that are ignored (255) everywhere", "check the masks")
    return float(np.nanmean(iou)), iou, counted


def evaluate(seeds: Sequence[Counts]) -> Score:
    """The score of a cell: mean over seeds, interval from the same resampled images for every seed.

    A resample in which a class has no pixel at all leaves it out of that resample's mean.

    Raises:
        DataError: no seed, no image, seeds of different images, or no scored pixel.
    """
    ious = np.stack([c.per_class() for c in _same_images(seeds)])
    counted = np.isfinite(ious).sum(axis=1)
    if not counted.all():
        raise DataError("at least one scored pixel", "masks that are ignored (255) everywhere", "check the masks")
    everywhere = np.ones(ious.shape[1], dtype=bool)
    low, high = _interval(np.concatenate([_means(seeds, w, everywhere) for w in _weights(len(seeds[0].ids))]))
    value = float(np.nanmean(ious, axis=1).mean())
    return Score(value, low, high, tuple(ious.mean(axis=0).tolist()), int(counted.min()))


def paired(row: Sequence[Counts], other: Sequence[Counts]) -> Difference:
    """`row` minus `other`, each a mean over its own seeds, both resampled together.

    Classes without a union in one of them are left out of both: no difference of means over unequal sets.

    Raises:
        DataError: the two do not hold the same images in the same order or the same list of classes, or share no class.
    """
    _same_images([*row, *other])
    both = np.isfinite(np.stack([c.per_class() for c in (*row, *other)])).all(axis=0)
    if not both.any():
        raise DataError("a class with pixels in both rows", "none", "score rows that share classes")

    def difference(weights: np.ndarray) -> np.ndarray:
        return np.asarray(_means(row, weights, both) - _means(other, weights, both))

    images = len(row[0].ids)
    low, high = _interval(np.concatenate([difference(w) for w in _weights(images)]))
    return Difference(float(difference(np.ones((1, images)))[0]), low, high, int(both.sum()))


def _iou(counts: np.ndarray) -> np.ndarray:
    """Per cent from (..., 3, c) counts; nan where the union is empty."""
    hits, truth, predicted = np.moveaxis(np.asarray(counts, dtype=np.float64), -2, 0)
    union = truth + predicted - hits
    return np.asarray(np.divide(100 * hits, union, out=np.full(union.shape, np.nan), where=union > 0))


def _means(
    seeds: Sequence[Counts], weights: Float64[np.ndarray, "b n"], classes: np.ndarray
) -> Float64[np.ndarray, " b"]:
    """Mean over seeds of the mIoU of each resample. Sums of whole numbers below 2**53: exact in any order."""
    total = np.zeros(len(weights))
    for counts in seeds:
        chosen = counts.values[:, :, classes].astype(np.float64)
        ious = _iou((weights @ chosen.reshape(len(chosen), -1)).reshape(len(weights), 3, -1))
        there = np.isfinite(ious)
        total += np.where(there, ious, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return total / len(seeds)


def _weights(images: int) -> Iterator[Float64[np.ndarray, "b n"]]:
    """How often each image is drawn in each resample: the same draws for the same number of images, in blocks."""
    rng = np.random.default_rng(_SEED)
    for _ in range(RESAMPLES // _BLOCK):
        drawn = rng.integers(0, images, size=(_BLOCK, images)) + images * np.arange(_BLOCK)[:, None]
        yield np.bincount(drawn.ravel(), minlength=_BLOCK * images).reshape(_BLOCK, images).astype(np.float64)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, _LEVELS)
    return float(low), float(high)


def _same_images(all_counts: Sequence[Counts]) -> Sequence[Counts]:
    if not all_counts or not all_counts[0].ids:
        raise DataError("at least one seed and one image", "none", "score a split that has masks")
    first = all_counts[0]
    for other in all_counts[1:]:
        if other.ids != first.ids:
            odd = sorted(set(first.ids) ^ set(other.ids))[:3]
            what = f"{len(other.ids)} images, other: {', '.join(odd)}" if odd else "the same images in another order"
            raise DataError(f"the same {len(first.ids)} images in all rows", what, "score all rows on one split")
        if other.values.shape != first.values.shape:
            raise DataError(
                f"{first.values.shape[2]} classes in all rows",
                f"{other.values.shape[2]}",
                "score all rows on one list of classes",
            )
    return all_counts
