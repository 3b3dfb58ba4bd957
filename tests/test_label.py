"""One threshold turns maps into scores and scores into labels, without losing a decision on the way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from matlabel_bench.contracts import check_label, check_scores
from matlabel_bench.errors import ContractError
from matlabel_bench.label import LabelRule, make_label, make_scores
from matlabel_bench.tally import THRESHOLDS, tally_maps

TAGS = np.array([3, 7, 12], np.uint8)
SHAPE = st.shared(hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), key="size")
COARSE = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])  # many ties, and values equal to thresholds
FINE = st.floats(0, 1, width=32)


def planes(elements: st.SearchStrategy[float], count: int = 3) -> st.SearchStrategy[np.ndarray]:
    return SHAPE.flatmap(lambda size: hnp.arrays(np.float32, (count, *size), elements=elements))


def by_hand(maps: np.ndarray, threshold: float, tie: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """The rule, pixel by pixel."""
    label = np.zeros(maps.shape[1:], np.uint8)
    for y, x in np.ndindex(*label.shape):
        plane = max(range(len(tags)), key=lambda p: (maps[p, y, x], tie[p, y, x], -p))
        if maps[plane, y, x] > np.float32(threshold):
            label[y, x] = tags[plane]
    return label


@settings(max_examples=200)
@given(maps=planes(st.one_of(COARSE, FINE)), tie=planes(COARSE), threshold=st.one_of(COARSE, st.floats(0, 1)))
def test_the_label_of_the_scores_is_the_decision_itself(maps: np.ndarray, tie: np.ndarray, threshold: float) -> None:
    scores = make_scores(maps, threshold, tie)
    check_scores(scores, 4, maps.shape[1:], "make_scores")
    label = make_label(scores, TAGS)
    check_label(label, maps.shape[1:], set(TAGS.tolist()), "make_label")
    assert 255 not in label
    assert np.array_equal(label, by_hand(maps, threshold, tie, TAGS))


@given(maps=planes(st.one_of(COARSE, FINE)), threshold=st.one_of(COARSE, FINE))
def test_without_a_tie_it_is_argmax_with_the_threshold_in_front(maps: np.ndarray, threshold: float) -> None:
    front = np.concatenate([np.full((1, *maps.shape[1:]), threshold, np.float32), maps])
    expected = np.array([0, *TAGS], np.uint8)[front.argmax(axis=0)]
    assert np.array_equal(make_label(make_scores(maps, threshold), TAGS), expected)


@given(maps=planes(st.one_of(COARSE, FINE)), tie=planes(FINE), threshold=st.floats(0, 1))
def test_a_tie_break_never_moves_the_border_of_the_foreground(
    maps: np.ndarray, tie: np.ndarray, threshold: float
) -> None:
    plain, broken = (make_label(make_scores(maps, threshold, t), TAGS) for t in (None, tie))
    assert np.array_equal(plain > 0, broken > 0)
    assert np.array_equal(plain > 0, maps.max(axis=0) > np.float32(threshold))


@settings(max_examples=30)
@given(maps=planes(st.integers(0, 255).map(lambda byte: byte / 255)), tie=planes(COARSE), step=st.integers(0, 99))
def test_labels_and_tallies_decide_alike(maps: np.ndarray, tie: np.ndarray, step: int) -> None:
    label = make_label(make_scores(maps, step / 100, tie), TAGS)
    for own in np.unique(label):
        tally = tally_maps(maps, TAGS, np.where(label == own, np.uint8(own), np.uint8(255)), tie)
        predicted = np.where(tally.bin > step, tally.winner, 0)
        assert (predicted == own).all()
    assert np.float32(step / 100) == THRESHOLDS[step]


def test_scores_are_proportional_to_threshold_and_maps() -> None:
    maps = np.array([[[0.25, 0.0]], [[0.5, 0.0]]], np.float32)
    assert make_scores(maps, 0.25)[:, 0].T.tolist() == [[0.25, 0.25, 0.5], [1.0, 0.0, 0.0]]


def test_saturated_alphas_are_decided_by_their_maps() -> None:
    alpha, maps = np.ones((2, 1, 2), np.float32), np.array([[[0.9, 0.4]], [[0.8, 0.7]]], np.float32)
    assert make_label(make_scores(alpha, 0.5, maps), TAGS[:2]).tolist() == [[3, 7]]
    assert make_label(make_scores(alpha, 0.5), TAGS[:2]).tolist() == [[3, 3]]


def test_a_value_equal_to_the_threshold_is_background() -> None:
    maps = np.array([[[0.5, np.nextafter(np.float32(0.5), np.float32(1))]]], np.float32)
    assert make_label(make_scores(maps, 0.5), TAGS[:1]).tolist() == [[0, 3]]


def test_nothing_exceeds_zero_where_there_is_nothing() -> None:
    scores = make_scores(np.zeros((2, 1, 1), np.float32), 0.0)
    assert scores.ravel().tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_an_image_without_tags_is_background(threshold: float) -> None:
    nothing = np.zeros((0, 4, 5), np.float32)
    scores = make_scores(nothing, threshold, nothing)
    assert np.array_equal(scores, np.ones((1, 4, 5), np.float32))
    label = make_label(scores, np.zeros(0, np.uint8))
    assert (label.dtype, label.shape, label.any()) == (np.dtype(np.uint8), (4, 5), False)


def test_maps_are_not_changed() -> None:
    maps = np.random.default_rng(0).random((2, 4, 5)).astype(np.float32)
    before = maps.copy()
    make_scores(maps, 0.3, maps)
    assert np.array_equal(maps, before)


def test_fixed_thresholds() -> None:
    assert LabelRule() == LabelRule(alpha_threshold=0.5, map_threshold=0.15)


@pytest.mark.parametrize(
    ("maps", "threshold", "tie", "words"),
    [
        (np.zeros((1, 2, 2)), 0.5, None, "maps as float32"),
        (np.zeros((2, 2), np.float32), 0.5, None, "maps as float32, k h w"),
        (np.full((1, 2, 2), 1.5, np.float32), 0.5, None, r"maps in \[0, 1\]\n.*1\.5"),
        (np.full((1, 2, 2), np.nan, np.float32), 0.5, None, r"maps in \[0, 1\]\n.*nan"),
        (np.zeros((1, 2, 2), np.float32), 0.5, np.zeros((2, 2, 2), np.float32), "tie as float32"),
        (np.zeros((1, 2, 2), np.float32), 0.5, np.full((1, 2, 2), -1, np.float32), r"tie in \[0, 1\]"),
        (np.zeros((1, 2, 2), np.float32), 1.01, None, r"threshold in \[0, 1\]\n.*1\.01"),
        (np.zeros((1, 2, 2), np.float32), float("nan"), None, r"threshold in \[0, 1\]"),
    ],
)
def test_input_that_fits_not(maps: np.ndarray, threshold: float, tie: np.ndarray | None, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        make_scores(maps, threshold, tie)


def test_scores_for_other_tags_are_refused() -> None:
    with pytest.raises(ContractError, match=r"scores with 3 planes, background and 2 tags\n.*shape \(4, 2, 2\)"):
        make_label(np.zeros((4, 2, 2), np.float32), TAGS[:2])
