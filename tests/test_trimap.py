"""Equation 9, and the rule that repairs trimaps a solver could not use."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from matlabel_bench.contracts import check_trimap
from matlabel_bench.errors import ContractError, UsageError
from matlabel_bench.fields import build
from matlabel_bench.trimap import STATUSES, TrimapRule, make_trimap

RULE = TrimapRule()


def one(values: list[list[float]], rule: TrimapRule = RULE) -> tuple[list[list[int]], str]:
    trimap, statuses = make_trimap(np.array([values], np.float32), rule)
    return trimap[0].tolist(), statuses[0]


def test_equation_9_includes_both_thresholds() -> None:
    assert one([[0.0, 0.2, 0.2001, 0.7499, 0.75, 1.0]]) == ([[0, 0, 128, 128, 255, 255]], "ok")


def test_thresholds_are_fields() -> None:
    assert one([[0.0, 0.3, 0.31, 0.5]], TrimapRule(fg=0.5, bg=0.3)) == ([[0, 0, 128, 255]], "ok")


def test_equation_9_holds_everywhere_where_nothing_is_repaired() -> None:
    maps = np.random.default_rng(0).random((3, 40, 50)).astype(np.float32)
    trimap, statuses = make_trimap(maps, RULE)
    assert statuses == ("ok", "ok", "ok")
    assert np.array_equal(trimap, np.where(maps >= 0.75, 255, np.where(maps <= 0.2, 0, 128)))


def test_without_foreground_the_highest_pixels_become_foreground() -> None:
    rule = TrimapRule(top=0.2)
    assert one([[0.0, 0.6, 0.5, 0.7, 0.1]], rule) == ([[0, 128, 128, 255, 0]], "no-foreground")


def test_without_background_the_lowest_pixels_become_background() -> None:
    rule = TrimapRule(low=0.4)
    assert one([[0.9, 0.3, 0.4, 0.5, 0.6]], rule) == ([[255, 0, 0, 128, 128]], "no-background")


def test_without_either_both_are_repaired() -> None:
    assert one([[0.3, 0.4, 0.5, 0.6]]) == ([[0, 128, 128, 255]], "neither")


def test_a_repair_takes_unknown_pixels_only_while_there_are_any() -> None:
    rule = TrimapRule(top=0.5, low=0.5)
    assert one([[0.0, 0.0, 0.0, 0.5]], rule) == ([[0, 0, 0, 255]], "no-foreground")
    assert one([[0.9, 0.9, 0.9, 0.5]], rule) == ([[255, 255, 255, 0]], "no-background")
    assert one([[0.3, 0.6]], rule) == ([[0, 255]], "neither")


def test_an_all_zero_map_gets_its_central_pixel_as_foreground() -> None:
    trimap, status = one([[0.0] * 5] * 5)
    assert status == "no-foreground"
    assert np.argwhere(np.array(trimap) == 255).tolist() == [[2, 2]]
    assert (np.array(trimap) == 0).sum() == 24


def test_a_saturated_map_gets_a_corner_as_background() -> None:
    trimap, status = one([[1.0] * 5] * 5)
    assert status == "no-background"
    assert np.argwhere(np.array(trimap) == 0).tolist() == [[0, 0]]
    assert (np.array(trimap) == 255).sum() == 24


def test_a_constant_map_between_the_thresholds_gets_both() -> None:
    trimap, status = one([[0.5] * 5] * 5)
    assert status == "neither"
    assert trimap[2][2] == 255
    assert trimap[0][0] == 0
    assert sum(row.count(128) for row in trimap) == 23


def test_shares_count_pixels_of_the_whole_image() -> None:
    trimap, _ = make_trimap(np.full((1, 20, 20), 0.5, np.float32), TrimapRule(top=0.05, low=0.1))
    assert ((trimap == 255).sum(), (trimap == 0).sum()) == (20, 40)


def test_a_share_of_zero_still_means_one_pixel() -> None:
    trimap, _ = make_trimap(np.full((1, 20, 20), 0.5, np.float32), TrimapRule(top=0.0, low=0.0))
    assert ((trimap == 255).sum(), (trimap == 0).sum()) == (1, 1)


@pytest.mark.parametrize(("value", "kind"), [(0.0, 0), (0.5, 128), (1.0, 255)])
def test_one_pixel_cannot_be_repaired_and_says_so(value: float, kind: int) -> None:
    assert one([[value]]) == ([[kind]], "unsolvable")


def test_statuses_are_a_class_each() -> None:
    maps = np.array([[[0.0, 1.0]], [[0.0, 0.5]], [[0.5, 1.0]], [[0.4, 0.5]]], np.float32)
    assert make_trimap(maps, RULE)[1] == ("ok", "no-foreground", "no-background", "neither")


def test_no_class_gives_an_empty_trimap() -> None:
    trimap, statuses = make_trimap(np.zeros((0, 4, 5), np.float32), RULE)
    assert (trimap.shape, trimap.dtype, statuses) == ((0, 4, 5), np.dtype(np.uint8), ())


@given(
    maps=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
        elements=st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.75, 0.9, 1.0]),
    ),
    top=st.sampled_from([0.0, 0.01, 0.3, 0.5]),
    low=st.sampled_from([0.0, 0.01, 0.3, 0.5]),
)
def test_every_plane_of_two_pixels_or_more_has_both_kinds(maps: np.ndarray, top: float, low: float) -> None:
    trimap, statuses = make_trimap(maps, TrimapRule(top=top, low=low))
    check_trimap(trimap, maps.shape, "the rule")
    again, _ = make_trimap(maps, TrimapRule(top=top, low=low))
    assert np.array_equal(trimap, again)
    plain = np.where(maps >= np.float32(0.75), 255, np.where(maps <= np.float32(0.2), 0, 128))
    for got, before, status in zip(trimap, plain, statuses, strict=True):
        assert status in STATUSES
        assert (status == "unsolvable") == (got.size == 1)
        assert (status in ("ok", "unsolvable")) <= np.array_equal(got, before)
        if got.size > 1:
            assert (got == 255).any()
            assert (got == 0).any()


def test_thresholds_without_room_are_refused() -> None:
    for make in (lambda: TrimapRule(fg=0.2, bg=0.2), lambda: build(TrimapRule, {"fg": "0.1"}, "trimap")):
        with pytest.raises(UsageError, match=r"trimap\.fg above trimap\.bg\n.*fg=0\.\d and bg=0\.2\n.*fg=0\.75"):
            make()


def test_bounds_of_the_fields() -> None:
    with pytest.raises(UsageError, match=r"trimap\.top of at most 0\.5"):
        build(TrimapRule, {"top": "0.9"}, "trimap")


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        (np.zeros((1, 4, 5)), r"maps as float32, k h w\n.*float64, \(1, 4, 5\)"),
        (np.zeros((4, 5), np.float32), r"maps as float32, k h w\n.*\(4, 5\)"),
        (np.zeros((1, 0, 5), np.float32), r"float32, \(1, 0, 5\)"),
        (np.full((1, 4, 5), np.nan, np.float32), "maps of finite values"),
    ],
)
def test_maps_that_are_none_are_refused(maps: np.ndarray, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        make_trimap(maps, RULE)
