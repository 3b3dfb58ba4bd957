"""Scores against masks: the tallies of a split, and every number that follows from them.

Ground-truth masks enter the program here (through `tally.py`) and nowhere else. Everything others need of scoring can
be imported from this module.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64, UInt8, UInt32

from matlabel_bench.errors import DataError, UsageError
from matlabel_bench.files import write_bytes
from matlabel_bench.stats import Confusion, Counts, Difference, Score, evaluate, miou, paired
from matlabel_bench.tally import BINS, THRESHOLDS, Histogram, Tally, histogram, otsu, tally_label, tally_maps

__all__ = [
    "BINS",
    "THRESHOLDS",
    "Counts",
    "Difference",
    "Histogram",
    "Score",
    "Tallies",
    "Tally",
    "evaluate",
    "histogram",
    "miou",
    "otsu",
    "paired",
    "tally_label",
    "tally_maps",
]


@dataclass(frozen=True, slots=True)
class Tallies:
    """The tallies of a split, one after another; rows offsets[i] to offsets[i + 1] belong to image ids[i]."""

    ids: tuple[str, ...]
    classes: int
    """Background included."""
    offsets: Int64[np.ndarray, " n+1"]
    truth: UInt8[np.ndarray, " r"]
    winner: UInt8[np.ndarray, " r"]
    bin: UInt8[np.ndarray, " r"]
    count: UInt32[np.ndarray, " r"]
    pooled: Histogram | None
    """Sum of the images' histograms; None for labels."""

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def of(cls, ids: Sequence[str], tallies: Iterable[Tally], classes: int) -> Tallies:
        """Join the tallies of images, all of maps or all of labels. `classes` counts the background.

        Raises:
            DataError: no image, a number of tallies other than of ids, maps and labels mixed, or a class out of range.
        """
        parts = list(tallies)
        histograms = [p.histogram for p in parts if p.histogram is not None]
        mixed = len(histograms) not in (0, len(parts))
        if not parts or len(parts) != len(ids) or mixed:
            got = f"{len(parts)} tallies for {len(ids)} ids{', maps and labels mixed' if mixed else ''}"
            raise DataError("one tally an image, at least one, all of one kind", got, "tally every image of the split")
        joined = {n: np.concatenate([getattr(p, n) for p in parts]) for n in ("truth", "winner", "bin", "count")}
        pooled = np.sum(histograms, axis=0) if histograms else None
        offsets = np.cumsum([0, *(len(p.count) for p in parts)], dtype=np.int64)
        return cls(tuple(ids), classes, offsets, pooled=pooled, **joined)

    def at(self, threshold: float | None = None) -> Counts:
        """What IoU needs of each image. `threshold` is one of THRESHOLDS, or None for labels (where it is ignored).

        Raises:
            UsageError: a threshold off the grid of THRESHOLDS, or none for maps.
        """
        predicted, image = self._predicted(threshold), self._image()
        hit = predicted == self.truth
        shape = (len(self.ids), self.classes)
        rows = [
            _add(shape, (image[hit], self.truth[hit]), self.count[hit]),
            _add(shape, (image, self.truth), self.count),
            _add(shape, (image, predicted), self.count),
        ]
        return Counts(self.ids, np.stack(rows, axis=1))

    def confusions(self, threshold: float | None = None) -> Int64[np.ndarray, "n c c"]:
        """Confusion of each image, true class by predicted class. Raises UsageError as `at` does."""
        shape = (len(self.ids), self.classes, self.classes)
        return _add(shape, (self._image(), self.truth, self._predicted(threshold)), self.count)

    def confusion(self, threshold: float | None = None) -> Confusion:
        """Confusion over all images. Raises UsageError as `at` does."""
        return _add((self.classes, self.classes), (self.truth, self._predicted(threshold)), self.count)

    def curve(self) -> Float64[np.ndarray, " 100"]:
        """mIoU in per cent at each of THRESHOLDS. Raises UsageError for labels, DataError without a scored pixel."""
        self._maps_only("a threshold curve")
        cube = _add((self.classes, self.classes, BINS), (self.truth, self.winner, self.bin), self.count)
        front = cube.sum(axis=2, keepdims=True) - np.cumsum(cube, axis=2)[:, :, :-1]  # pixels whose bin exceeds j
        front[:, 0] = cube.sum(axis=(1, 2))[:, None] - front[:, 1:].sum(axis=1)
        return np.array([miou(front[:, :, j])[0] for j in range(len(THRESHOLDS))])

    def oracle(self) -> float:
        """The threshold with the highest mIoU on these masks, the lowest of several. Raises as `curve` does."""
        return int(self.curve().argmax()) / 100

    def mask_free(self) -> float:
        """Otsu's threshold on the winning values of all pixels: no mask is looked at. Raises UsageError for labels."""
        self._maps_only("a mask-free threshold")
        return otsu(np.asarray(self.pooled))

    def save(self, path: Path) -> None:
        """Write one .npz, whole or not at all; the same tallies give the same bytes."""
        buffer = io.BytesIO()
        arrays = {n: getattr(self, n) for n in ("offsets", "truth", "winner", "bin", "count")}
        if self.pooled is not None:
            arrays["pooled"] = self.pooled
        np.savez_compressed(buffer, ids=np.array(self.ids), classes=np.array(self.classes), **arrays)
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Tallies:
        """Read what `save` wrote. Raises DataError for a file that is absent, damaged or of other content."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
                arrays = {n: found[n] for n in found.files}
            ids = tuple(arrays.pop("ids").tolist())
            return cls(ids, int(arrays.pop("classes")), pooled=arrays.pop("pooled", None), **arrays)
        except DataError as err:
            raise DataError(err.expected, f"{path}: {err.got}", err.remedy) from err
        except Exception as err:  # zip, npy and type errors alike mean that the file is not ours
            raise DataError("tallies written by this program", f"{path} ({err})", "delete it and score again") from err

    def _image(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.ids)), np.diff(self.offsets))

    def _predicted(self, threshold: float | None) -> np.ndarray:
        if self.pooled is None:
            return self.winner
        steps = float("nan") if threshold is None else threshold * 100
        step = np.rint(steps)
        if not (abs(steps - step) <= 1e-4 and 0 <= step < len(THRESHOLDS)):
            raise UsageError("a threshold of 0.00, 0.01, ... 0.99", repr(threshold), "round it to two digits")
        return np.where(self.bin > step, self.winner, 0)

    def _maps_only(self, what: str) -> None:
        if self.pooled is None:
            raise UsageError(f"tallies of maps for {what}", "tallies of labels", "labels are decided: score them as is")


def _add(shape: tuple[int, ...], where: tuple[np.ndarray, ...], count: np.ndarray) -> np.ndarray:
    """Sum of `count` in each cell of an int64 array. Doubles on the way hold every whole number below 2**53."""
    flat = np.ravel_multi_index(tuple(np.asarray(w, dtype=np.int64) for w in where), shape)
    size = int(np.prod(shape))
    return np.bincount(flat, weights=count, minlength=size).astype(np.int64).reshape(shape)


def _check(tallies: Tallies) -> None:
    """Raises DataError where arrays, ids and classes do not belong together."""
    rows, ids, offsets = len(tallies.count), tallies.ids, tallies.offsets
    types = {"truth": np.uint8, "winner": np.uint8, "bin": np.uint8, "count": np.uint32, "offsets": np.int64}
    for name, dtype in types.items():
        array = getattr(tallies, name)
        length = len(ids) + 1 if name == "offsets" else rows
        if array.dtype != dtype or array.shape != (length,):
            got = f"{name}: {array.dtype} {array.shape}"
            raise DataError(f"{name} as {np.dtype(dtype).name} of length {length}", got, "delete it and score again")
    if not ids or len(set(ids)) != len(ids) or offsets[0] != 0 or offsets[-1] != rows or (np.diff(offsets) < 0).any():
        raise DataError("different ids and rows for each", f"{len(ids)} ids, {rows} rows", "delete it and score again")
    for name in ("truth", "winner"):
        over = np.flatnonzero(getattr(tallies, name) >= tallies.classes)
        if over.size:
            image = ids[int(np.searchsorted(offsets, over[0], side="right")) - 1]
            got = f"{int(getattr(tallies, name)[over[0]])} in the {name} of image {image}"
            raise DataError(f"class ids below {tallies.classes}", got, "check the masks and the list of classes")
    if (tallies.bin >= BINS).any() or (tallies.pooled is not None and tallies.pooled.shape != (BINS,)):
        raise DataError(f"bins below {BINS}", "others", "delete it and score again")
