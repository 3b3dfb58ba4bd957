"""What stages hand on: values, scores and labels of an image, and what a training is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matlabel_bench import fit, handover
from matlabel_bench.errors import DataError
from matlabel_bench.handover import (
    Given,
    Inputs,
    load_label,
    load_maps,
    load_scores,
    load_seed,
    load_values,
    load_views,
)
from matlabel_bench.images import write_label
from matlabel_bench.planes import write_planes
from matlabel_bench.types import Sample, Split

SIZE = (2, 4)
SAMPLE = Sample("b b", Path("nowhere.png"), (2, 5))
MAPS = np.array([[[0.0, 0.25, 0.5, 1.0]] * 2, [[1.0, 0.25, 0.0, 0.0]] * 2], np.float32)
ALPHA = np.array([[[0, 51, 255, 255]] * 2, [[255, 51, 255, 0]] * 2], np.uint8)
LABEL = np.array([[0, 2, 5, 255], [5, 5, 2, 0]], np.uint8)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """Folders of each stage with the files of one image."""
    folders = {n: tmp_path / n for n in ("maps", "views", "alpha", "labels")}
    for folder in folders.values():
        folder.mkdir()
    handover.write_maps(folders["maps"] / "b b.npz", SIZE, cams=MAPS)
    handover.write_maps(folders["views"] / "b b.npz", SIZE, cams=MAPS, spread=MAPS / 4)
    write_planes(folders["alpha"] / "b b.png", ALPHA, SIZE, {})
    write_label(folders["labels"] / "b b.png", LABEL)
    return folders


def test_values_are_the_maps_or_the_alphas_or_the_label_before(inputs: dict[str, Path]) -> None:
    only_maps, both = Inputs(maps=inputs["maps"]), Inputs(maps=inputs["maps"], alpha=inputs["alpha"])
    np.testing.assert_array_equal(load_maps(only_maps, SAMPLE), MAPS)
    np.testing.assert_array_equal(load_values(only_maps, SAMPLE), MAPS)
    np.testing.assert_array_equal(load_values(both, SAMPLE), ALPHA.astype(np.float32) / 255)
    maps, tie = load_seed(only_maps, SAMPLE)
    assert tie is None
    alpha, tie = load_seed(both, SAMPLE)
    np.testing.assert_array_equal(tie, maps)
    np.testing.assert_array_equal(alpha, load_values(both, SAMPLE))
    planes = load_values(Inputs(labels=inputs["labels"]), SAMPLE)
    assert planes.dtype == np.float32
    assert planes.tolist() == [[[0, 1, 0, 0], [0, 0, 1, 0]], [[0, 0, 1, 0], [1, 1, 0, 0]]], "255 is no class"


def test_values_of_an_image_without_classes_have_no_planes(inputs: dict[str, Path]) -> None:
    bare = Sample("b b", Path("nowhere.png"), ())
    assert load_values(Inputs(labels=inputs["labels"]), bare).shape == (0, *SIZE)


def test_views_come_back_as_mean_and_deviation(inputs: dict[str, Path]) -> None:
    mean, deviation = load_views(Inputs(views=inputs["views"]), SAMPLE)
    np.testing.assert_array_equal(mean, MAPS)
    np.testing.assert_array_equal(deviation, MAPS / 4)
    with pytest.raises(DataError, match="a file of maps of this program"):
        load_views(Inputs(views=inputs["maps"]), SAMPLE)  # maps alone have no deviation


def test_scores_of_maps_stand_against_the_threshold(inputs: dict[str, Path]) -> None:
    scores = load_scores(Inputs(maps=inputs["maps"], threshold=0.25), SAMPLE)
    want = np.array([[0.25, 0.0, 1.0], [0.25, 0.25, 0.25], [0.25, 0.5, 0.0], [0.25, 1.0, 0.0]], np.float32)
    want /= want.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scores[:, 0].T, want, rtol=1e-6)
    assert scores.argmax(axis=0)[0].tolist() == [2, 0, 1, 1], "a map must exceed the threshold"


def test_scores_of_alphas_break_ties_by_the_maps(inputs: dict[str, Path]) -> None:
    scores = load_scores(Inputs(maps=inputs["maps"], alpha=inputs["alpha"], threshold=0.5), SAMPLE)
    assert scores.argmax(axis=0)[0].tolist() == [2, 0, 1, 1], "both alphas are 1 in the third; the first map is higher"
    with pytest.raises(ValueError, match="the threshold of its seed"):
        load_scores(Inputs(maps=inputs["maps"]), SAMPLE)


def test_scores_of_a_label_are_zeros_and_ones_and_255_is_background(inputs: dict[str, Path]) -> None:
    scores = load_scores(Inputs(labels=inputs["labels"]), SAMPLE)
    assert scores.dtype == np.float32
    assert scores.argmax(axis=0).tolist() == [[0, 1, 2, 0], [2, 2, 1, 0]]
    assert (scores.sum(axis=0) == 1).all()
    np.testing.assert_array_equal(load_label(Inputs(labels=inputs["labels"]), SAMPLE), LABEL)


def test_an_input_that_the_plan_did_not_give_is_said(inputs: dict[str, Path]) -> None:
    for load in (load_maps, load_views, load_label, load_values):
        with pytest.raises(ValueError, match="the plan gave this stage no such input"):
            load(Inputs(), SAMPLE)


# Trainings -----------------------------------------------------------------------------------------------------------


def test_what_is_given_is_read_when_it_is_asked_for(inputs: dict[str, Path]) -> None:
    asked: list[str] = []

    def load(known: Inputs, sample: Sample) -> np.ndarray:
        asked.append(sample.id)
        return load_label(known, sample)

    split = Split("d", "train", ("x",) * 5, (SAMPLE, Sample("absent", Path("no.png"), (1,))))
    given = Given(split, Inputs(labels=inputs["labels"]), load)
    assert (len(given), list(given), "b b" in given, asked) == (2, ["b b", "absent"], True, ["b b"])
    asked.clear()
    np.testing.assert_array_equal(given["b b"], LABEL)
    np.testing.assert_array_equal(given["b b"], LABEL)
    assert asked == ["b b", "b b"], "nothing is kept in memory"
    write_label(inputs["labels"] / "b b.png", LABEL * 0)
    assert not given["b b"].any(), "read again"
    with pytest.raises(DataError, match=r"absent\.png"):
        given["absent"]
    with pytest.raises(KeyError):
        given["unknown"]


class TakesMaps:
    takes = "maps"


@pytest.mark.parametrize(
    ("part", "labels", "stages", "threshold", "want"),
    [
        (TakesMaps(), False, ("maps",), None, MAPS),
        (TakesMaps(), False, ("maps", "alpha"), None, ALPHA.astype(np.float32) / 255),
        (object(), False, ("labels",), None, np.stack([(LABEL == 0) | (LABEL == 255), LABEL == 2, LABEL == 5])),
        (object(), True, ("labels",), None, LABEL),
        (TakesMaps(), False, ("labels",), None, np.stack([LABEL == 2, LABEL == 5])),
    ],
)
def test_a_training_is_given_what_its_part_takes(
    inputs: dict[str, Path], part: object, labels: bool, stages: tuple[str, ...], threshold: float | None, want: object
) -> None:
    """From the words of a job file, as `python -m matlabel_bench.fit` reads them."""
    told = {name: str(inputs[name]) if name in stages else None for name in ("maps", "alpha", "labels")}
    split = Split("d", "train", ("x",) * 5, (SAMPLE,))
    given = fit._given(part, split, told | {"threshold": threshold, "fit": None}, labels=labels)
    np.testing.assert_array_equal(given["b b"], want)
    assert given["b b"].dtype == (np.uint8 if labels else np.float32)


def test_a_training_on_scores_is_given_them_at_the_jobs_threshold(inputs: dict[str, Path]) -> None:
    told = {"maps": str(inputs["maps"]), "threshold": 0.25}
    given = fit._given(object(), Split("d", "train", ("x",) * 5, (SAMPLE,)), told, labels=False)
    np.testing.assert_array_equal(given["b b"], load_scores(Inputs(maps=inputs["maps"], threshold=0.25), SAMPLE))


def test_a_label_keeps_the_colours_of_its_classes(inputs: dict[str, Path]) -> None:
    with Image.open(inputs["labels"] / "b b.png") as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[3:9] == [128, 0, 0, 0, 128, 0]
