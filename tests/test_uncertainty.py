"""Uncertain trimaps: views of an image, what generators make of them, and the rule by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from matlabel_bench.errors import ContractError
from matlabel_bench.images import enlarge
from matlabel_bench.types import BACKGROUND, FOREGROUND, UNKNOWN, Cams, Image, Tags
from matlabel_bench.uncertainty import UncertaintyRule, _on_grid, spread, uncertain_trimap

ONE = np.array([1], np.uint8)
CALM = UncertaintyRule(z=1.0, floor=0.1, top=0.05, low=0.05)


def red(height: int, width: int) -> Image:
    """A red rectangle right of the centre, on green."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 1] = 180
    image[height // 4 : height * 3 // 4, width // 2 : width * 3 // 4] = (180, 0, 0)
    return image


def redder(image: Image, tags: Tags) -> Cams:
    """1 where red exceeds green: it moves with the image, and no exponent on grey levels changes it."""
    return (image[..., 0] > image[..., 1]).astype(np.float32)[None]


def one_cell(value: Callable[[Image], bool]) -> Callable[[Image, Tags], Cams]:
    """A generator whose grid is a single cell: 1 where the image is so, else 0."""
    return lambda image, tags: np.full((len(tags), 1, 1), value(image), np.float32)


# Views ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(40, 48), (37, 51)])
def test_maps_that_move_with_the_image_do_not_deviate(height: int, width: int) -> None:
    image = red(height, width)
    mean, deviation = spread(redder, image, ONE)
    truth = redder(image, ONE)
    assert mean.dtype == deviation.dtype == np.float32
    assert mean.shape == deviation.shape == truth.shape
    edge = np.zeros(truth.shape[1:], bool)  # scaling blurs what lies within three pixels of an edge
    for down, right in product(range(-3, 4), repeat=2):
        edge |= np.roll(truth[0], (down, right), (0, 1)) != truth[0]
    assert 0.3 < (~edge).mean() < 1
    np.testing.assert_allclose(deviation[0][~edge], 0, atol=1e-6)
    np.testing.assert_allclose(mean[0][~edge], truth[0][~edge], atol=1e-6)
    assert deviation.max() <= 0.5


@pytest.mark.parametrize(
    ("value", "ones"),
    [
        (lambda image: image[:, :10].mean() > image[:, 10:].mean(), 5),  # all but the mirrored one
        (lambda image: image.shape[0] >= 20, 5),  # all but the smaller one
        (lambda image: image.shape[0] > 20, 1),  # the larger one alone
        (lambda image: image.mean() < 70, 5),  # all but the brighter one
        (lambda image: image.mean() < 56, 1),  # the darker one alone
        (lambda image: True, 6),
    ],
)
def test_each_view_counts_once(value: Callable[[Image], bool], ones: int) -> None:
    """Six views: itself, mirrored, 3/4 and 5/4 of the size, darker, brighter."""
    image = np.zeros((20, 24, 3), np.uint8)
    image[:, :12] = 128
    mean, deviation = spread(one_cell(value), image, ONE)
    share = ones / 6
    np.testing.assert_allclose(mean, share, atol=1e-6)
    np.testing.assert_allclose(deviation, math.sqrt(share * (1 - share)), atol=1e-6)


def test_views_have_the_sizes_and_grey_levels_they_should() -> None:
    seen: list[Image] = []

    def live(image: Image, tags: Tags) -> Cams:
        seen.append(image.copy())
        return np.ones((len(tags), 1, 1), np.float32)

    image = np.full((21, 30, 3), 100, np.uint8)
    image[:, :10] = 200
    spread(live, image, ONE)
    assert [v.shape[:2] for v in seen] == [(21, 30), (21, 30), (16, 22), (26, 38), (21, 30), (21, 30)]  # round to even
    assert (seen[0] == image).all()
    assert (seen[1] == image[:, ::-1]).all()
    for view, gamma in zip(seen[4:], (0.7, 1.4), strict=True):
        for level, column in ((200, 0), (100, 29)):
            assert (view[:, column] == round(255 * (level / 255) ** gamma)).all()
    assert all(v.dtype == np.uint8 for v in seen)


def test_an_image_without_classes_has_no_planes() -> None:
    mean, deviation = spread(lambda image, tags: np.zeros((0, 5, 6), np.float32), red(20, 24), ONE[:0])
    assert mean.shape == deviation.shape == (0, 5, 6)


def test_an_image_of_one_pixel_has_views() -> None:
    mean, deviation = spread(one_cell(lambda image: True), np.zeros((1, 1, 3), np.uint8), ONE)
    assert (mean.tolist(), deviation.tolist()) == ([[[1.0]]], [[[0.0]]])


# Grids ---------------------------------------------------------------------------------------------------------------


def test_a_grid_of_an_odd_size_takes_means_of_its_cells_from_the_top_left_corner() -> None:
    """5 x 7 pixels on 2 x 3 cells of 3 x 3: the last row and the last two columns of cells repeat the border."""
    maps = np.arange(35, dtype=np.float32).reshape(1, 5, 7)
    got = _on_grid(maps, (2, 3))
    rows = np.array([1.0, (3 + 4 + 4) / 3])  # rows 0 1 2, and 3 4 4
    columns = np.array([1.0, 4.0, 6.0])  # columns 0 1 2, 3 4 5, and 6 6 6
    np.testing.assert_allclose(got[0], 7 * rows[:, None] + columns, rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(20, 24), (21, 23), (37, 51)])
def test_a_symmetric_map_on_a_grid_comes_back_from_the_mirror(height: int, width: int) -> None:
    """A generator that answers every view of whatever size with one plane: a level a row of cells."""
    levels = np.array([0.0, 0.5, 1.0, 0.5], np.float32)

    def live(image: Image, tags: Tags) -> Cams:
        rows = np.minimum((np.arange(image.shape[0]) * 4) // image.shape[0], 3)
        return np.repeat(levels[rows][None, :, None], image.shape[1], axis=2)

    image = np.zeros((height, width, 3), np.uint8)
    mean, deviation = spread(live, image, ONE)
    np.testing.assert_array_equal(mean, mean[:, :, ::-1])
    middle = [r for r in range(2, height - 2) if (live(image, ONE)[0, r - 2 : r + 3] == live(image, ONE)[0, r]).all()]
    assert len(middle) > 3
    np.testing.assert_allclose(deviation[0][middle], 0, atol=1e-6)


def test_a_coarse_grid_of_its_own_is_the_grid_of_the_result() -> None:
    """Constant planes: enlarging, mirroring and averaging change nothing, on any grid."""
    for size, grid in (((20, 24), (5, 6)), ((21, 25), (6, 7)), ((37, 51), (3, 2))):
        live = lambda image, tags, grid=grid: np.ones((1, *grid), np.float32)  # noqa: E731
        mean, deviation = spread(live, np.zeros((*size, 3), np.uint8), ONE)
        np.testing.assert_allclose(mean, np.ones((1, *grid)), atol=1e-6)
        np.testing.assert_allclose(deviation, 0, atol=1e-6)
        assert enlarge(mean, size).shape == (1, *size)


# The rule ------------------------------------------------------------------------------------------------------------

ROW = np.array([[[0.9, 0.9, 0.9, 0.6, 0.1, 0.1, 0.1, 0.1]]], np.float32)
"""Otsu parts 0.1 from the rest; the middle of the empty bins between is 0.34."""


@pytest.mark.parametrize(
    ("deviation", "rule", "want"),
    [
        ([0, 0, 0, 0, 0, 0, 0, 0], CALM, "FFFFBBBB"),  # 0.6 - 0.1 > 0.34 > 0.1 + 0.1
        ([0, 0, 0, 0.3, 0, 0, 0, 0], CALM, "FFF?BBBB"),  # 0.6 - 0.3
        ([0.5, 0, 0, 0.3, 0.2, 0.3, 0, 0], CALM, "FFF?B?BB"),  # 0.9 - 0.5 = 0.4 > 0.34; 0.1 + 0.3 = 0.4
        ([0.6, 0, 0, 0, 0, 0, 0, 0], CALM, "?FFFBBBB"),  # 0.9 - 0.6 = 0.3
        ([0.5, 0.5, 0, 0.3, 0.5, 0, 0, 0.5], UncertaintyRule(z=0), "FFFFBBBB"),  # whatever the views say
        ([0, 0, 0, 0, 0, 0, 0, 0], UncertaintyRule(z=2, floor=0.15), "FFF?????"),  # 0.3 from every pixel; and repair
        ([0, 0, 0, 0, 0, 0, 0, 0], UncertaintyRule(z=2, floor=0.1), "FFFFBBBB"),  # 0.6 - 0.2 > 0.34 > 0.1 + 0.2
    ],
)
def test_what_is_sure_is_known(deviation: list[float], rule: UncertaintyRule, want: str) -> None:
    trimap, (status,) = uncertain_trimap(ROW, np.array([[deviation]], np.float32), rule)
    letters = {FOREGROUND: "F", BACKGROUND: "B", UNKNOWN: "?"}
    got = "".join(letters[int(v)] for v in trimap.ravel())
    if "B" in want:
        assert (got, status) == (want, "ok")
    else:  # 0.1 + 0.3 > 0.34: one pixel of the lowest, the farthest from the centre, becomes background
        assert (got, status) == ("FFF????B", "no-background")


def test_a_flat_map_is_repaired_by_the_shares() -> None:
    mean = np.full((1, 4, 10), 0.5, np.float32)
    trimap, statuses = uncertain_trimap(mean, np.zeros_like(mean), UncertaintyRule(top=0.1, low=0.05))
    assert statuses == ("neither",)
    assert [int((trimap == v).sum()) for v in (FOREGROUND, BACKGROUND, UNKNOWN)] == [4, 2, 34]


def test_every_class_has_its_own_level() -> None:
    """The second map is the first at a tenth of its height: the same parts of it are sure."""
    mean = np.concatenate([ROW, ROW / 10])
    none = np.zeros_like(mean)
    trimap, statuses = uncertain_trimap(mean, none, UncertaintyRule(z=1, floor=0))
    assert statuses == ("ok", "ok")
    assert trimap[0].tolist() == trimap[1].tolist() == [[255, 255, 255, 255, 0, 0, 0, 0]]


def test_no_class_gives_no_plane() -> None:
    none = np.zeros((0, 4, 5), np.float32)
    trimap, statuses = uncertain_trimap(none, none, CALM)
    assert (trimap.shape, trimap.dtype, statuses) == ((0, 4, 5), np.uint8, ())


@pytest.mark.parametrize(
    ("mean", "deviation", "said"),
    [
        (ROW, ROW[..., 1:], "float32 (1, 1, 8) and float32 (1, 1, 7)"),
        (ROW.astype(np.float64), ROW, "float64 (1, 1, 8) and float32 (1, 1, 8)"),
        (ROW, ROW * np.nan, "float32 (1, 1, 8) and float32 (1, 1, 8)"),
    ],
)
def test_arrays_that_do_not_fit_are_named(mean: np.ndarray, deviation: np.ndarray, said: str) -> None:
    with pytest.raises(ContractError) as err:
        uncertain_trimap(mean, deviation, CALM)
    assert "mean and deviation as finite float32, k h w" in str(err.value)
    assert said in str(err.value)
    assert "enlarge both to the image" in str(err.value)
