"""Scores: hand-computed confusions and means, and tallies against labels made the slow way at every threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from matlabel_bench.errors import ContractError, DataError, UsageError
from matlabel_bench.label import make_label, make_scores
from matlabel_bench.score import (
    BINS,
    THRESHOLDS,
    Counts,
    Tallies,
    evaluate,
    histogram,
    miou,
    otsu,
    paired,
    tally_label,
    tally_maps,
)

F, U = np.float32, np.uint8


def brute(maps: np.ndarray, tags: np.ndarray, tie: np.ndarray | None, threshold: np.float32) -> np.ndarray:
    """The label by the plain rule, pixel by pixel."""
    label = np.zeros(maps.shape[1:], dtype=U)
    for y, x in np.ndindex(*label.shape):
        values = [float(m[y, x]) for m in maps]
        if not values or not max(values) > float(threshold):
            continue
        first = [i for i, v in enumerate(values) if v == max(values)]
        if tie is not None:
            first.sort(key=lambda i: (-float(tie[i, y, x]), i))
        label[y, x] = tags[first[0]]
    return label


def confuse(label: np.ndarray, mask: np.ndarray, classes: int) -> np.ndarray:
    out = np.zeros((classes, classes), dtype=np.int64)
    for p, t in zip(label.ravel(), mask.ravel(), strict=True):
        if t != 255:
            out[t, p] += 1
    return out


# Values on the grid, one step beside it, and anywhere: where > and >= part ways.
edge = st.sampled_from(
    [*THRESHOLDS.tolist(), 0.15, 0.1500001, 0.2999999, 1.0, 128 / 255, *np.nextafter(THRESHOLDS, F(2)).tolist()]
)
value = st.one_of(edge, st.floats(0, 1, width=32)).map(F)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    k, h, w = draw(st.integers(0, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    maps = draw(hnp.arrays(F, (k, h, w), elements=value))
    tie = draw(st.none() | hnp.arrays(F, (k, h, w), elements=st.sampled_from([0.0, 0.5, 1.0]).map(F)))
    tags = np.array(sorted(draw(st.sets(st.integers(1, 4), min_size=k, max_size=k))), dtype=U)
    mask = draw(hnp.arrays(U, (h, w), elements=st.sampled_from([0, 1, 2, 3, 4, 255])))
    return maps, tags, mask, tie


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_a_tally_holds_the_confusion_of_the_label_at_every_threshold(scene):
    maps, tags, mask, tie = scene
    tallies = Tallies.of(["a"], [tally_maps(maps, tags, mask, tie)], 5)
    curve = []
    for j, threshold in enumerate(THRESHOLDS):
        label = brute(maps, tags, tie, threshold)
        assert np.array_equal(make_label(make_scores(maps, j / 100, tie), tags), label)
        want = confuse(label, mask, 5)
        assert np.array_equal(tallies.confusions(j / 100)[0], want)
        assert np.array_equal(tallies.confusion(j / 100), want)
        by_label = Tallies.of(["a"], [tally_label(label, mask)], 5)
        assert np.array_equal(by_label.confusion(), want)
        counts = tallies.at(j / 100).values[0]
        assert np.array_equal(counts, [np.diag(want), want.sum(1), want.sum(0)])
        curve.append(miou(want)[0] if want.any() else None)
    if None in curve:
        with pytest.raises(DataError, match="at least one scored pixel"):
            tallies.curve()
    else:
        assert tallies.curve() == pytest.approx(curve, abs=1e-12)
        assert tallies.oracle() == int(np.argmax(curve)) / 100
    assert np.array_equal(tally_maps(maps, tags, mask, tie).histogram, histogram(maps))


@given(hnp.arrays(F, (40,), elements=value))
def test_bins_are_the_number_of_thresholds_below_the_value(values):
    counted = np.bincount([(v > THRESHOLDS).sum() for v in values], minlength=BINS)
    assert np.array_equal(histogram(values.reshape(1, 1, -1)), counted)


def test_values_beyond_the_range_do_not_wrap_round():
    assert histogram(np.array([[[-1e9, -0.5, 3.0, np.inf]]], dtype=F)).nonzero()[0].tolist() == [0, 100]


def test_a_tie_goes_to_the_map_named_for_ties_then_to_the_lower_id():
    maps, mask = np.full((2, 1, 2), 1.0, dtype=F), np.zeros((1, 2), dtype=U)
    tie = np.array([[[0.2, 0.5]], [[0.4, 0.5]]], dtype=F)
    tally = tally_maps(maps, np.array([3, 9], dtype=U), mask, tie)
    assert tally.winner.tolist() == [3, 9] and tally.count.tolist() == [1, 1]
    assert tally_maps(maps, np.array([3, 9], dtype=U), mask).winner.tolist() == [3]


def test_an_image_without_tags_is_background_and_says_nothing_about_thresholds():
    mask = np.array([[0, 1, 255]], dtype=U)
    tally = tally_maps(np.zeros((0, 1, 3), dtype=F), np.zeros(0, dtype=U), mask)
    tallies = Tallies.of(["a"], [tally], 2)
    assert tallies.confusion(0.0).tolist() == [[1, 0], [1, 0]]
    assert tally.histogram is not None and tally.histogram.sum() == 0


def test_ignored_pixels_are_in_the_histogram_but_in_no_confusion():
    maps = np.array([[[0.0, 0.505, 1.0]]], dtype=F)
    tally = tally_maps(maps, np.array([1], dtype=U), np.array([[255, 255, 1]], dtype=U))
    assert tally.count.tolist() == [1] and tally.truth.tolist() == [1]
    assert tally.histogram is not None and tally.histogram[[0, 51, 100]].tolist() == [1, 1, 1]
    assert tally.histogram.sum() == 3


def test_a_predicted_255_counts_as_background():
    tally = tally_label(np.array([[255, 1, 0]], dtype=U), np.array([[1, 1, 0]], dtype=U))
    assert Tallies.of(["a"], [tally], 2).confusion().tolist() == [[1, 0], [1, 1]]


def test_miou_by_hand_leaves_an_empty_class_out_and_says_so():
    # class 0: 6 / (6 + 2 + 1), class 1: 3 / (3 + 1 + 2), class 2: nowhere
    mean, per_class, counted = miou(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))
    assert per_class[:2] == pytest.approx([100 * 6 / 9, 100 * 3 / 6])
    assert np.isnan(per_class[2]) and counted == 2
    assert mean == pytest.approx((100 * 6 / 9 + 50) / 2)


def test_miou_of_nothing_is_an_error():
    with pytest.raises(DataError, match=r"expected at least one scored pixel\n.*ignored \(255\) everywhere"):
        miou(np.zeros((3, 3), dtype=np.int64))


def label_counts(predictions: list[list[int]], masks: list[list[int]], classes: int) -> Counts:
    pairs = [
        tally_label(np.array([p], dtype=U), np.array([m], dtype=U)) for p, m in zip(predictions, masks, strict=True)
    ]
    return Tallies.of([f"i{n}" for n in range(len(pairs))], pairs, classes).at()


def test_evaluate_sums_counts_over_images_before_it_divides():
    score = evaluate([label_counts([[0, 0, 1, 1], [1, 1]], [[0, 0, 0, 1], [1, 1]], 2)])
    assert score.per_class == pytest.approx((100 * 2 / 3, 100 * 3 / 4))  # not the mean of 1/2 and 1 for class 1
    assert score.value == pytest.approx((100 * 2 / 3 + 75) / 2) and score.classes == 2
    assert score.low <= score.value <= score.high


def test_seeds_are_averaged_and_may_have_thresholds_of_their_own():
    masks = [[0, 1], [1, 1]]
    perfect, poor = label_counts(masks, masks, 2), label_counts([[0, 0], [0, 0]], masks, 2)
    score = evaluate([perfect, poor])
    assert poor.per_class() == pytest.approx([25, 0])
    assert score.value == pytest.approx((100 + 12.5) / 2)
    assert score.per_class == pytest.approx((62.5, 50.0))


def test_the_interval_is_the_spread_over_images_and_the_same_every_time():
    rng = np.random.default_rng(3)
    masks = rng.integers(0, 2, (60, 30))
    # Image i is right in a share of its pixels that differs from image to image.
    wrong = rng.random((60, 30)) < rng.random((60, 1))
    counts = label_counts(np.where(wrong, 1 - masks, masks).tolist(), masks.tolist(), 2)
    score = evaluate([counts])
    assert evaluate([counts]) == score
    shares = [miou_of(counts.values[rng.integers(0, 60, 60)].sum(axis=0)) for _ in range(3000)]
    assert score.low == pytest.approx(np.percentile(shares, 2.5), abs=0.8)
    assert score.high == pytest.approx(np.percentile(shares, 97.5), abs=0.8)
    assert evaluate([counts, counts]).low == score.low


def miou_of(counts: np.ndarray) -> float:
    hits, truth, predicted = counts.astype(float)
    return float(np.mean(100 * hits / (truth + predicted - hits)))


def test_identical_images_leave_no_spread():
    counts = label_counts([[0, 1, 1]] * 7, [[0, 0, 1]] * 7, 2)
    score = evaluate([counts])
    assert (score.low, score.high) == (score.value, score.value) and score.value == pytest.approx(50)


def test_a_paired_difference_is_the_difference_of_the_values_with_less_spread_than_they_have():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (50, 40))
    wrong = rng.random((50, 40)) < rng.random((50, 1)) * 0.5
    worse = wrong | (rng.random((50, 40)) < 0.05)
    good = label_counts(np.where(wrong, 1 - masks, masks).tolist(), masks.tolist(), 2)
    bad = label_counts(np.where(worse, 1 - masks, masks).tolist(), masks.tolist(), 2)
    found, a, b = paired([good], [bad]), evaluate([good]), evaluate([bad])
    assert found.value == pytest.approx(a.value - b.value) and found.classes == 2
    assert 0 < found.low < found.value < found.high
    assert found.high - found.low < 0.5 * (a.high - a.low)
    assert paired([bad], [good]).value == pytest.approx(-found.value)
    assert paired([good], [good]).high == 0


def test_a_difference_runs_over_the_classes_both_rows_count():
    masks = [[0, 0, 1, 1]]
    with_false_class = label_counts([[0, 2, 1, 1]], masks, 3)  # class 2: predicted, nowhere true: IoU 0
    without = label_counts([[0, 0, 1, 1]], masks, 3)
    found = paired([without], [with_false_class])
    assert found.classes == 2 and found.value == pytest.approx(100 - (50 + 100) / 2)


def test_rows_of_other_images_cannot_be_compared():
    one, two = label_counts([[0], [1]], [[0], [1]], 2), label_counts([[0]], [[0]], 2)
    with pytest.raises(DataError, match=r"expected the same 2 images in all rows\n +got 1 images, other: i1"):
        paired([one], [two])
    swapped = Counts(one.ids[::-1], one.values)
    with pytest.raises(DataError, match="the same images in another order"):
        paired([one], [swapped])
    with pytest.raises(DataError, match="expected 2 classes in all rows"):
        paired([one], [label_counts([[0], [1]], [[0], [1]], 3)])
    with pytest.raises(DataError, match="at least one seed and one image"):
        evaluate([])


def test_otsu_parts_two_modes_in_the_middle_of_the_gap():
    pooled = np.zeros(BINS, dtype=np.int64)
    pooled[10], pooled[60] = 300, 100
    assert otsu(pooled) == 0.34  # any of 0.10 .. 0.59 parts them; the lower of the two middles


def test_otsu_by_brute_force():
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(0.2, 0.05, 4000), rng.normal(0.7, 0.1, 1000)]).clip(0, 1).astype(F)
    pooled = histogram(values.reshape(1, 50, 100))
    spreads = []
    for t in THRESHOLDS:
        low, high = values[values <= t], values[values > t]
        spreads.append(len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0)
    assert otsu(pooled) == pytest.approx(np.argmax(spreads) / 100, abs=0.011)  # bins know values to 0.01 only


@pytest.mark.parametrize("bin_", [0, 40, 100])
def test_otsu_of_one_value_falls_back_to_one_half(bin_):
    pooled = np.zeros(BINS, dtype=np.int64)
    pooled[bin_] = 9
    assert otsu(pooled) == 0.5
    assert otsu(np.zeros(BINS, dtype=np.int64)) == 0.5


@pytest.fixture
def tallies() -> Tallies:
    rng = np.random.default_rng(1)
    parts = []
    for k in (2, 0, 1):
        maps, mask = rng.random((k, 6, 5), dtype=F), rng.integers(0, 3, (6, 5)).astype(U)
        parts.append(tally_maps(maps, np.arange(1, k + 1, dtype=U), mask))
    return Tallies.of(["2007_000032", "b", "c"], parts, 3)


def test_tallies_come_back_as_they_were_in_the_same_bytes(tallies: Tallies, tmp_path: Path):
    tallies.save(tmp_path / "a.npz")
    tallies.save(tmp_path / "b.npz")
    back = Tallies.load(tmp_path / "a.npz")
    assert back.ids == tallies.ids and back.classes == 3
    assert np.array_equal(back.confusions(0.3), tallies.confusions(0.3))
    assert back.mask_free() == tallies.mask_free()
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_tallies_of_labels_have_one_decision(tmp_path: Path):
    labels = Tallies.of(["a"], [tally_label(np.array([[1, 0]], dtype=U), np.array([[1, 1]], dtype=U))], 2)
    labels.save(tmp_path / "a.npz")
    labels = Tallies.load(tmp_path / "a.npz")
    assert np.array_equal(labels.confusion(), labels.confusion(0.77)) and labels.confusion().tolist() == [
        [0, 0],
        [1, 1],
    ]
    with pytest.raises(UsageError, match="expected tallies of maps for a threshold curve"):
        labels.oracle()
    with pytest.raises(UsageError, match="expected tallies of maps for a mask-free threshold"):
        labels.mask_free()


@pytest.mark.parametrize("threshold", [None, 0.155, -0.01, 1.0, float("nan")])
def test_thresholds_off_the_grid_are_refused(tallies: Tallies, threshold):
    with pytest.raises(UsageError, match=r"expected a threshold of 0.00, 0.01, ... 0.99"):
        tallies.at(threshold)


def test_a_mask_of_another_size_is_named():
    with pytest.raises(DataError, match=r"as large as the image's maps, 2 x 3\n +got 3 x 2"):
        tally_maps(np.zeros((1, 2, 3), dtype=F), np.array([1], dtype=U), np.zeros((3, 2), dtype=U))
    with pytest.raises(DataError, match="as large as the image's label, 1 x 1"):
        tally_label(np.zeros((1, 1), dtype=U), np.zeros((2, 1), dtype=U))


def test_maps_that_are_no_maps_are_named():
    mask = np.zeros((1, 1), dtype=U)
    with pytest.raises(ContractError, match="one plane a tag"):
        tally_maps(np.zeros((2, 1, 1), dtype=F), np.array([1], dtype=U), mask)
    with pytest.raises(ContractError, match="got nan"):
        tally_maps(np.full((1, 1, 1), np.nan, dtype=F), np.array([1], dtype=U), mask)


def test_classes_out_of_range_name_the_image():
    good = tally_label(np.array([[1]], dtype=U), np.array([[1]], dtype=U))
    bad = tally_label(np.array([[1]], dtype=U), np.array([[7]], dtype=U))
    with pytest.raises(DataError, match=r"expected class ids below 3\n +got 7 in the truth of image b"):
        Tallies.of(["a", "b"], [good, bad], 3)
    maps = tally_maps(np.zeros((1, 1, 1), dtype=F), np.array([1], dtype=U), np.zeros((1, 1), dtype=U))
    with pytest.raises(DataError, match="2 tallies for 2 ids, maps and labels mixed"):
        Tallies.of(["a", "b"], [good, maps], 3)
    with pytest.raises(DataError, match="different ids"):
        Tallies.of(["a", "a"], [good, good], 3)
    with pytest.raises(DataError, match="0 tallies for 0 ids"):
        Tallies.of([], [], 3)


def test_a_damaged_file_says_what_to_do(tallies: Tallies, tmp_path: Path):
    path = tmp_path / "a.npz"
    tallies.save(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="remedy delete it and score again"):
        Tallies.load(path)
    with pytest.raises(DataError, match=r"gone\.npz"):
        Tallies.load(tmp_path / "gone.npz")
    np.savez(path, ids=np.array(["a"]), classes=np.array(2), offsets=np.array([0, 5]), truth=np.zeros(1, dtype=U))
    with pytest.raises(DataError, match="tallies written by this program"):
        Tallies.load(path)
    arrays = {n: np.zeros(1, dtype=U) for n in ("truth", "winner", "bin")}
    np.savez(
        path, ids=np.array(["a"]), classes=np.array(2), offsets=np.array([0, 5]), count=np.ones(1, np.uint32), **arrays
    )
    with pytest.raises(DataError, match=r"a\.npz: 1 ids, 1 rows"):
        Tallies.load(path)
