"""mmseg's IoUMetric and our tallies find the same numbers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from matlabel_bench.errors import DataError
from matlabel_bench.score import Tallies, evaluate, tally_label
from matlabel_segmenters.iou import iou_metric

NAMES = ("background", "cat", "dog", "bus", "boat")


def pictures(seed: int, classes: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Labels that agree with their masks in two pixels of three; 255 on both sides."""
    rng = np.random.default_rng(seed)
    masks = [rng.choice([*range(classes), 255], rng.integers(5, 90, 2)).astype(np.uint8) for _ in range(20)]
    labels = [np.where(rng.random(m.shape) < 0.67, m, rng.choice([*range(classes), 255], m.shape)) for m in masks]
    return [label.astype(np.uint8) for label in labels], masks


@pytest.mark.parametrize(("seed", "classes"), [(0, 5), (1, 5), (2, 3)])
def test_both_find_the_same(seed: int, classes: int) -> None:
    """With three classes in the pictures, two of the five are absent on both sides."""
    labels, masks = pictures(seed, classes)
    ids = [str(i) for i in range(len(masks))]
    tallies = Tallies.of(ids, [tally_label(a, b) for a, b in zip(labels, masks, strict=True)], len(NAMES))
    ours, theirs = evaluate([tallies.at()]), iou_metric(labels, masks, NAMES)
    assert theirs["mIoU"] == pytest.approx(ours.value, abs=1e-6)
    each = [theirs[f"IoU.{name}"] for name in NAMES]
    np.testing.assert_allclose(each, ours.per_class, atol=1e-6, equal_nan=True)
    assert np.isnan(each).sum() == 5 - classes
    confusion = tallies.confusion()
    assert theirs["aAcc"] == pytest.approx(100 * confusion.trace() / confusion.sum(), abs=1e-6)


def test_one_picture_by_hand() -> None:
    mask, label = np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8)
    found = iou_metric([label], [mask], ("background", "cat"))
    assert found == {
        "mIoU": pytest.approx(50),
        "aAcc": pytest.approx(200 / 3),
        "mAcc": pytest.approx(75),
        "IoU.background": pytest.approx(50),
        "IoU.cat": pytest.approx(50),
    }


def test_nothing_is_printed() -> None:
    code = (
        "import numpy as np; from matlabel_segmenters.iou import iou_metric; a = [np.zeros((2, 2), np.uint8)];"
        "iou_metric(a, a, ('background', 'cat'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_what_cannot_be_scored() -> None:
    one = np.zeros((2, 2), np.uint8)
    with pytest.raises(DataError, match=r"label 0 as large as its mask, 2 x 3\n.*2 x 2"):
        iou_metric([one], [np.zeros((2, 3), np.uint8)], NAMES)
    with pytest.raises(DataError, match=r"as many labels as masks"):
        iou_metric([one, one], [one], NAMES)
    with pytest.raises(DataError, match=r"labels to score\n.*none"):
        iou_metric([], [], NAMES)
