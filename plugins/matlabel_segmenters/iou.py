"""Scores by mmseg's own IoUMetric, for a check of ours by a second implementation."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence

import numpy as np

from matlabel_bench.errors import DataError
from matlabel_bench.types import IGNORE, Label


def iou_metric(labels: Iterable[Label], masks: Iterable[Label], classes: Sequence[str]) -> dict[str, float]:
    """What mmseg.evaluation.IoUMetric makes of labels and masks, in per cent and without its rounding to two digits.

    Args:
        labels: predictions, h w uint8; 255 counts as background, as in IRN's evaluation.
        masks: true classes; 255 is ignored.
        classes: names, background first.

    Returns:
        mIoU, aAcc and mAcc, then `IoU.NAME` of each class (nan where neither side has a pixel of it).

    Raises:
        DataError: a label of another size than its mask, another number of labels than of masks, or none at all.
    """
    import torch

    with contextlib.redirect_stdout(io.StringIO()):  # importing them says what optional packages are not installed
        import mmseg.datasets  # noqa: F401 - IoUMetric's module imports it, aloud
        from mmseg.evaluation import IoUMetric
    metric = IoUMetric(ignore_index=IGNORE, prefix="mmseg")  # without one it logs a warning
    metric.dataset_meta = {"classes": tuple(classes)}
    for number, (label, mask) in enumerate(_pairs(labels, masks)):
        if label.shape != mask.shape:
            sizes = [" x ".join(map(str, a.shape)) for a in (mask, label)]
            raise DataError(f"label {number} as large as its mask, {sizes[0]}", sizes[1], "score labels of this split")
        decided = np.where(label == IGNORE, 0, label).astype(np.int64)
        sample = {"pred_sem_seg": {"data": torch.from_numpy(decided)}}
        sample["gt_sem_seg"] = {"data": torch.from_numpy(mask.astype(np.int64))}
        metric.process({}, [sample])
    if not metric.results:
        raise DataError("labels to score", "none", "choose a split that is not empty")
    areas = [torch.stack(one).double().sum(0) for one in zip(*metric.results, strict=True)]
    found = metric.total_area_to_metrics(*areas)
    per_class = {f"IoU.{name}": 100 * float(v) for name, v in zip(classes, found["IoU"], strict=True)}
    means = {f"m{n}": 100 * float(np.nanmean(found[n])) for n in ("IoU", "Acc")}
    return {"mIoU": means["mIoU"], "aAcc": 100 * float(found["aAcc"]), "mAcc": means["mAcc"]} | per_class


def _pairs(labels: Iterable[Label], masks: Iterable[Label]) -> Iterable[tuple[Label, Label]]:
    try:
        yield from zip(labels, masks, strict=True)
    except ValueError as err:
        raise DataError("as many labels as masks", str(err), "score the labels of one split against its masks") from err
