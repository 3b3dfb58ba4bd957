"""Galleries: images chosen by rule alone, their own scores, and panels of the class that changed most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matlabel_bench.errors import ContractError, DataError, UsageError
from matlabel_bench.report import Extras, Gallery, TableInfo, gallery, pictures, write
from matlabel_bench.report.gallery import Scene, choose, make
from matlabel_bench.score import Counts, Tallies, tally_label

NAMES = ("background", "disc", "square")
ROWS = ("D2CAM only", "Mat-Label")


def counts(hits: list[list[int]], truth: list[list[int]], ids: str = "abcdef") -> Counts:
    """Predictions as large as the truth: every miss is a false alarm elsewhere."""
    values = np.stack([np.array(hits), np.array(truth), np.array(truth)], axis=1).astype(np.int64)
    return Counts(tuple(ids[: len(hits)]), values)


TRUTH = [[100, 100, 0]] * 5
BEFORE = counts([[50, 50, 0]] * 5, TRUTH)  # IoU 50 / 150 in both classes of each image
AFTER = counts([[50, 50, 0], [50, 0, 0], [100, 100, 0], [50, 0, 0], [50, 60, 0]], TRUTH)


def test_the_worst_come_first_and_equal_ones_by_id() -> None:
    found = choose(BEFORE, AFTER, "worst", 3)
    assert [c.id for c in found] == ["b", "d", "a"]
    assert [c.before for c in found] == pytest.approx([100 / 3] * 3)
    assert [c.after for c in found] == pytest.approx([50 / 3, 50 / 3, 100 / 3])  # over both classes of the mask


@pytest.mark.parametrize(
    ("count", "ids"), [(1, "a"), (2, "bc"), (3, "bac"), (4, "bdec"), (5, "bdaec"), (9, "bdaec")]
)  # fmt: skip
def test_even_ones_run_from_the_greatest_loss_to_the_greatest_gain(count: int, ids: str) -> None:
    assert "".join(c.id for c in choose(BEFORE, AFTER, "even", count)) == ids


def test_classes_beside_the_mask_do_not_count_and_ignored_images_are_left_out() -> None:
    before = counts([[0, 0, 0], [80, 0, 20]], [[0, 0, 0], [80, 0, 20]])
    values = before.values.copy()
    values[1, 2] = [60, 20, 20]  # 20 pixels of the background now called disc
    values[1, 0, 0] = 60
    (only,) = choose(before, Counts(before.ids, values), "worst", 8)
    assert (only.id, only.before, only.after) == ("b", 100.0, pytest.approx((75 + 100) / 2))


@pytest.mark.parametrize(
    ("hits", "truth", "shown"),
    [
        ([90, 50, 10], [100, 100, 100], 2),  # the greater change
        ([90, 50, 25], [100, 100, 50], 1),  # the same change: the larger class
        ([90, 50, 50], [100, 100, 100], 1),  # the same size: the lower class
        ([10, 0, 0], [100, 0, 0], 0),  # nothing but background
    ],
)
def test_the_class_that_changed_most_is_shown(hits: list[int], truth: list[int], shown: int) -> None:
    perfect, worse = counts([truth], [truth]), counts([hits], [truth])
    assert choose(perfect, worse, "worst", 1)[0].shown == shown


def test_choices_agree_with_tallies_of_labels() -> None:
    mask = np.zeros((4, 4), dtype=np.uint8)
    mask[:2], mask[3, 3] = 1, 255
    half = mask.copy()
    half[0], half[3, 3] = 0, 0
    both = [Tallies.of(["x"], [tally_label(label, mask)], 3).at() for label in (mask, half)]
    (found,) = choose(both[0], both[1], "worst", 1)
    assert found.before == 100
    assert found.after == pytest.approx(100 * (7 / 11 + 4 / 8) / 2)


def test_what_cannot_be_chosen_from_is_named() -> None:
    with pytest.raises(UsageError, match=r"a rule for pictures\n.*'wrost'\n.*did you mean 'worst'"):
        choose(BEFORE, AFTER, "wrost", 3)
    with pytest.raises(UsageError, match="at least one picture"):
        choose(BEFORE, AFTER, "worst", 0)
    with pytest.raises(DataError, match="two rows scored on the same images and masks"):
        choose(BEFORE, counts([[1, 1, 0]] * 5, TRUTH, "abcdx"), "worst", 3)
    with pytest.raises(DataError, match="two rows scored on the same images and masks"):
        choose(BEFORE, counts([[1, 1, 0]] * 5, [[100, 99, 0]] * 5), "worst", 3)
    with pytest.raises(DataError, match="an image with a scored pixel"):
        choose(counts([[0, 0, 0]], [[0, 0, 0]]), counts([[0, 0, 0]], [[0, 0, 0]]), "worst", 1)


def scene(image: str) -> Scene:
    """Tags disc and square; the disc's planes are bright, the square's are dark."""
    bright, dark = np.ones((20, 30), np.float32), np.zeros((20, 30), np.float32)
    planes = np.stack([bright, dark])
    label = np.full((20, 30), 1, dtype=np.uint8)
    return Scene(
        image=np.full((20, 30, 3), 100, dtype=np.uint8),
        tags=np.array([1, 2], dtype=np.uint8),
        truth=label,
        maps={"CAM": planes, "D2CAM": 1 - planes},
        trimap=(planes * 255).astype(np.uint8),
        alpha=planes,
        labels={ROWS[0]: label * 0, ROWS[1]: label},
    )


def test_the_picture_shows_the_panels_of_the_chosen_class(tmp_path: Path) -> None:
    asked: list[str] = []

    def load(image: str) -> Scene:
        asked.append(image)
        return scene(image)

    made = make(tmp_path, ROWS, (BEFORE, AFTER), load, NAMES, rule="worst", count=2)
    assert asked == ["b", "d"]
    assert (made.before, made.after, [c.shown for c in made.chosen]) == (*ROWS, ["disc", "disc"])
    assert made.rule == (
        "Chosen by rule: the images whose mIoU changes for the worst, the worst first "
        "(D2CAM only to Mat-Label, 5 images)."
    )
    with Image.open(tmp_path / "figure.png") as picture:
        pixels = np.asarray(picture)
    line = pixels[24 + 24 + gallery.HEIGHT // 2]  # the middle of the first line of panels, below title and caption
    colours = [tuple(c) for c in line[np.r_[True, np.any(line[1:] != line[:-1], axis=1)]] if tuple(c) != (255,) * 3]
    bright, dark = (tuple(pictures.heat(np.array([[v]], np.float32), np.full((1, 1, 3), 100))[0, 0]) for v in (1, 0))
    label = tuple(pictures.paint(np.array([[1]], np.uint8), np.full((1, 1, 3), 100, np.uint8))[0, 0])
    # image, map, map, (trimap and alpha are white), label before, label after, mask
    assert colours == [(100, 100, 100), bright, dark, (30, 30, 30), label, label]


def test_planes_of_a_class_without_a_tag_are_empty() -> None:
    panels = dict(gallery._panels(scene("x"), 3))
    assert list(panels) == ["image", "CAM", "D2CAM", "trimap", "alpha", "label, D2CAM only", "label, Mat-Label", "mask"]
    assert not panels["trimap"].any() and not panels["alpha"].any()
    bare = Scene(
        image=scene("x").image, tags=np.array([], np.uint8), truth=scene("x").truth, labels={"A": scene("x").truth}
    )
    assert [title for title, _ in gallery._panels(bare, 0)] == ["image", "label", "mask"]


def test_scenes_must_have_the_same_panels(tmp_path: Path) -> None:
    def load(image: str) -> Scene:
        full = scene(image)
        return full if image == "b" else Scene(full.image, full.tags, full.truth)

    with pytest.raises(ContractError, match="lines of 8 panels"):
        make(tmp_path, ROWS, (BEFORE, AFTER), load, NAMES, count=2)
    assert not list(tmp_path.iterdir())


def test_the_same_counts_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        make(tmp_path / folder, ROWS, (BEFORE, AFTER), scene, NAMES, rule="even", count=3)
    assert (tmp_path / "a" / "figure.png").read_bytes() == (tmp_path / "b" / "figure.png").read_bytes()


def test_the_report_prints_the_rule_the_picture_and_every_image(tmp_path: Path) -> None:
    info = TableInfo("figureS2", "Failures <all>", "", "shapes", "train", "tiny", ("Seed",), ROWS, form="pictures")
    made = make(tmp_path, ROWS, (BEFORE, AFTER), scene, NAMES, count=2)
    assert isinstance(made, Gallery)
    write(tmp_path, info, [], Extras(gallery=made))
    for name in ("table.md", "table.html", "table.tex"):
        text = (tmp_path / name).read_text()
        assert "Chosen by rule: the images whose mIoU changes for the worst" in text and "figure.png" in text, name
    assert "| b | disc | 33.3 | 16.7 | -16.7 |" in (tmp_path / "table.md").read_text()
    page = (tmp_path / "table.html").read_text()
    assert '<img src="figure.png"' in page and "<td>33.3</td><td>16.7</td><td>-16.7</td>" in page
    assert r"\includegraphics[width=\linewidth]{figure.png}" in (tmp_path / "table.tex").read_text()
    assert (tmp_path / "pictures.csv").read_text().splitlines() == [
        "image,shown,before,after,change", "b,disc,33.33,16.67,-16.67", "d,disc,33.33,16.67,-16.67",
    ]  # fmt: skip
