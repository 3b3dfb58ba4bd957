"""The CRF equals pydensecrf called by hand with IRN's parameters."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from matlabel_bench import registry
from matlabel_bench.contracts import check_scores
from matlabel_bench.errors import BenchError, ContractError, UsageError
from matlabel_bench.label import make_label, make_scores
from matlabel_refiners import crf as module
from matlabel_refiners.crf import Crf

TAGS = np.array([2, 9], np.uint8)


def scene(height: int = 40, width: int = 52) -> np.ndarray:
    rng = np.random.default_rng(5)
    image = np.full((height, width, 3), (90, 140, 70), float)
    image[8:28, 6:24] = (200, 60, 50)
    image[15:35, 30:46] = (60, 70, 190)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def scores(height: int = 40, width: int = 52) -> np.ndarray:
    """Blurred guesses, a few pixels off the objects."""
    y, x = np.mgrid[:height, :width]
    maps = [np.exp(-(((y - cy) / 9) ** 2) - ((x - cx) / 8) ** 2) for cy, cx in ((19, 16), (26, 39))]
    return make_scores(np.stack(maps).astype(np.float32), 0.3)


def by_hand(image: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """What IRN does, step by step, with pydensecrf's own utilities."""
    from pydensecrf import densecrf, utils

    field = densecrf.DenseCRF2D(image.shape[1], image.shape[0], count)
    field.setUnaryEnergy(utils.unary_from_labels(labels, count, gt_prob=0.7, zero_unsure=False))
    field.addPairwiseGaussian(sxy=3, compat=3)
    field.addPairwiseBilateral(sxy=50, srgb=5, rgbim=np.ascontiguousarray(np.copy(image)), compat=10)
    return np.array(field.inference(10)).reshape(count, *image.shape[:2])


def test_it_equals_pydensecrf_called_by_hand() -> None:
    image, given = scene(), scores()
    before = given.copy()
    refined = Crf().open(None)(image, TAGS, given)
    check_scores(refined, 3, image.shape[:2], "crf")
    assert np.array_equal(refined, by_hand(image, given.argmax(axis=0), 3))
    assert np.array_equal(given, before)


def test_it_draws_labels_to_the_edges_of_the_image() -> None:
    truth = np.zeros((40, 52), np.uint8)
    truth[8:28, 6:24], truth[15:35, 30:46] = 2, 9
    before, after = (make_label(s, TAGS) for s in (scores(), Crf().open(None)(scene(), TAGS, scores())))
    assert (after == truth).mean() > (before == truth).mean()
    assert (after == truth).mean() > 0.97


def test_a_tag_that_wins_nowhere_still_counts_among_the_labels() -> None:
    labels = np.zeros((40, 52), np.int64)
    labels[10:26, 8:22] = 1
    given = np.stack([labels == 0, labels == 1, labels == 2]).astype(np.float32)
    refined = Crf().open(None)(scene(), TAGS, given)
    assert np.array_equal(refined, by_hand(scene(), labels, 3))
    assert not np.array_equal(refined[:2], by_hand(scene(), labels, 2))


def test_one_tag() -> None:
    given = make_scores(np.linspace(0, 1, 40 * 52, dtype=np.float32).reshape(1, 40, 52), 0.4)
    assert np.array_equal(Crf().open(None)(scene(), TAGS[:1], given), by_hand(scene(), given.argmax(axis=0), 2))


def test_soft_unary_equals_pydensecrfs_own() -> None:
    from pydensecrf import densecrf, utils

    image, given = scene(), scores()
    field = densecrf.DenseCRF2D(52, 40, 3)
    field.setUnaryEnergy(utils.unary_from_softmax(given))
    field.addPairwiseGaussian(sxy=1, compat=3)
    field.addPairwiseBilateral(sxy=67, srgb=3, rgbim=image, compat=4)
    part = Crf(unary="softmax", smooth_xy=1, bilateral_xy=67, bilateral_rgb=3, bilateral_compat=4, iterations=5)
    assert np.array_equal(part.open(None)(image, TAGS, given), np.array(field.inference(5)).reshape(3, 40, 52))


def test_an_image_without_tags_keeps_its_scores() -> None:
    given = np.ones((1, 40, 52), np.float32)
    assert np.array_equal(Crf().open(None)(scene(), TAGS[:0], given), given)


def test_a_view_of_an_image_is_taken() -> None:
    image = scene(80, 104)[::2, ::2]
    assert not image.flags["C_CONTIGUOUS"]
    refined = Crf().open(None)(image, TAGS, scores())
    assert np.array_equal(refined, Crf().open(None)(np.ascontiguousarray(image), TAGS, scores()))


def test_a_read_only_image_is_taken() -> None:
    image = scene()
    image.flags.writeable = False
    assert np.array_equal(Crf().open(None)(image, TAGS, scores()), Crf().open(None)(scene(), TAGS, scores()))


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 40), (3, 3)])
def test_tiny_images(size: tuple[int, int]) -> None:
    check_scores(Crf().open(None)(scene(40, 52)[: size[0], : size[1]], TAGS, scores(*size)), 3, size, "crf")


def test_scores_of_another_image_are_refused() -> None:
    refine = Crf().open(None)
    with pytest.raises(ContractError, match=r"scores of 3 planes, 40 x 52\n.*got 3 x 4 x 4"):
        refine(scene(), TAGS, np.full((3, 4, 4), 1 / 3, np.float32))
    with pytest.raises(ContractError, match=r"scores of 2 planes, 40 x 52\n.*got 3 x 40 x 52"):
        refine(scene(), TAGS[:1], scores())


def test_marginals_that_overflowed_are_refused() -> None:
    with pytest.raises(BenchError, match=r"finite marginals of the dense CRF\n(.|\n)*compat"):
        module._marginals([[float("nan")]], (1, 1, 1))


def test_a_missing_pydensecrf_names_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(UsageError, match=r"pydensecrf to be installed\n(.|\n)*pip install 'pydensecrf2"):
        Crf().open(None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"unary": "labels"}, r"crf\.unary to be one of 'hard', 'softmax'"),
        ({"certainty": "1.0"}, r"crf\.certainty of at most 0\.99"),
        ({"iterations": "0"}, r"crf\.iterations of at least 1"),
    ],
)
def test_fields_out_of_range(fields: dict[str, Any], words: str) -> None:
    parts, _ = registry.start()
    with pytest.raises(UsageError, match=words):
        parts.make("refiner", "crf", **fields)
