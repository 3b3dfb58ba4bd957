"""Tables of pictures drawn from a run's own store: which images, and what of each."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import photos
import pytest
from PIL import Image

from matlabel_bench import galleries
from matlabel_bench import plan as plans
from matlabel_bench.handover import output
from matlabel_bench.measure import Measured, measure, tallies
from matlabel_bench.report.gallery import Scene
from matlabel_bench.runner import Runner, run

TABLE = """
form = "pictures"
pictures = { before = "cam", after = "matted", rule = "worst", count = 2 }
[[columns]]
name = "Seed"
threshold = "fixed"
[[rows]]
name = "cam"
cam = "stub-cam"
[[rows]]
name = "matted"
cam = "stub-cam"
matting = "stub-matting"
"""


@pytest.fixture
def desk(tmp_path: Path, stubs: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    photos.write(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def image_scores(label: np.ndarray, mask: np.ndarray) -> float:
    """mIoU of one image over the classes of its mask."""
    ious = [((label == c) & (mask == c)).sum() / ((label == c) | (mask == c)).sum() for c in np.unique(mask)]
    return 100 * float(np.mean(ious))


def test_a_gallery_from_nothing(desk: Path) -> None:
    done = run(photos.experiment(TABLE, out=desk / "out"), print)
    assert done.code == 0
    folder = desk / "out/t"
    with Image.open(folder / "figure.png") as picture:
        assert picture.width > picture.height > 100
    with (folder / "pictures.csv").open(newline="") as handle:
        rows = list(csv.reader(handle))
    assert len(rows) == 3, "a head and two images"
    assert "figure.png" in (folder / "table.md").read_text()


def test_images_and_panels_are_what_the_rule_and_the_store_say(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes: dict[str, Scene] = {}
    draw = galleries.make

    def spy(folder: Path, rows: object, counts: object, load: object, names: object, **more: object) -> object:
        def seen(image: str) -> Scene:
            return scenes.setdefault(image, load(image))

        return draw(folder, rows, counts, seen, names, **more)

    monkeypatch.setattr(galleries, "make", spy)
    plan = plans.make(photos.experiment(TABLE))
    Runner(plan, print).run()
    done = [measure(plan, {}, c) for c in plan.cells]
    (desk / "out").mkdir()
    made = galleries.gallery(plan, plan.experiment.tables[0], done, desk / "out")
    assert made is not None
    assert (desk / "out" / made.file).is_file()
    mask = np.asarray(Image.open(desk / "photos/masks/a.png"))
    change = {}
    for image in photos.IDS:
        scene = scenes.get(image)
        one, other = (next(m for m in done if m.cell.row == row) for row in ("cam", "matted"))
        at = one.counts[0].ids.index(image)
        before, after = (_own(m, at) for m in (one, other))
        change[image] = after - before
        if scene is None:
            continue
        assert list(scene.maps) == list(scene.labels) == ["cam", "matted"]
        np.testing.assert_array_equal(scene.truth, mask)
        np.testing.assert_array_equal(scene.maps["cam"], scene.maps["matted"])
        assert scene.trimap is not None
        assert set(np.unique(scene.trimap)) <= {0, 128, 255}
        np.testing.assert_array_equal(scene.alpha > 0.5, (scene.trimap == 128) | (scene.trimap == 255))
        assert image_scores(scene.labels["cam"], mask) == pytest.approx(before), "the label at the row's threshold"
        assert image_scores(scene.labels["matted"], mask) == pytest.approx(after)
    worst = sorted(change, key=lambda i: (change[i], i))[:2]
    assert [c.id for c in made.chosen] == worst
    assert [c.after - c.before for c in made.chosen] == pytest.approx([change[i] for i in worst])
    assert set(scenes) == set(worst), "others are not read"


def _own(m: Measured, at: int) -> float:
    """mIoU of one image over the classes of its mask, from the counts of the cell."""
    hit, truth, said = (m.counts[0].values[at, i].astype(float) for i in range(3))
    there = truth > 0
    return 100 * float(np.mean(hit[there] / (truth + said - hit)[there]))


def test_pictures_of_other_rows_maps_and_an_oracles_label(desk: Path) -> None:
    table = TABLE.replace('"worst"', '"even"').replace("count = 2", 'count = 9, maps = ["matted"]')
    plan = plans.make(photos.experiment(table.replace('threshold = "fixed"', 'threshold = "oracle"')))
    Runner(plan, print).run()
    done = [measure(plan, {}, c) for c in plan.cells]
    for m in done:
        assert m.thresholds == (tallies(plan, m.plan.choosers[0]).oracle(),)
    made = galleries.gallery(plan, plan.experiment.tables[0], done, desk)
    assert made is not None
    assert sorted(c.id for c in made.chosen) == sorted(photos.IDS), "no more than there are"
    changes = [c.after - c.before for c in made.chosen]
    assert changes == sorted(changes), "from the greatest loss to the greatest gain"


def test_a_row_that_refines_shows_what_it_refined(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = TABLE.replace('matting = "stub-matting"', 'matting = "stub-matting"\nrefine = ["stub-shift"]')
    plan = plans.make(photos.experiment(table))
    Runner(plan, print).run()
    done = [measure(plan, {}, c) for c in plan.cells]
    labels: dict[str, np.ndarray] = {}

    def seen(
        folder: Path, rows: object, counts: object, load: Callable[[str], Scene], *more: object, **how: object
    ) -> None:
        labels.update({image: load(image).labels["matted"] for image in photos.IDS})

    monkeypatch.setattr(galleries, "make", seen)
    galleries.gallery(plan, plan.experiment.tables[0], done, desk)
    refined = next(plan.slot(j).files for j in plan.jobs.values() if j.stage == "refine")
    for image in photos.IDS:
        np.testing.assert_array_equal(labels[image], np.asarray(Image.open(output("refine", refined, image))))


def test_a_refined_column_does_not_speak_for_the_seed(desk: Path) -> None:
    first = '[[columns]]\nname = "shifted"\nrefine = ["stub-shift"]\n'
    made = []
    for table in (TABLE, TABLE.replace("[[columns]]", first + "[[columns]]")):
        plan = plans.make(photos.experiment(table))
        Runner(plan, print).run()
        done = [measure(plan, {}, c) for c in plan.cells]
        made.append(galleries.gallery(plan, plan.experiment.tables[0], done, desk))
    assert made[0] == made[1]


def test_no_pictures_of_a_row_that_was_not_measured(desk: Path) -> None:
    for table in (TABLE.replace('"stub-matting"', '"stub-nothing"'), TABLE):
        plan = plans.make(photos.experiment(table))
        runner = Runner(plan, print)
        if table != TABLE:
            runner.run()
        done = [measure(plan, runner.failures, c) for c in plan.cells]
        assert galleries.gallery(plan, plan.experiment.tables[0], done, desk / "out") is None
    assert not (desk / "out").exists()


def test_a_table_without_pictures_has_none(desk: Path) -> None:
    plain = "\n".join(line for line in TABLE.splitlines() if not line.startswith(("form", "pictures")))
    plan = plans.make(photos.experiment(plain))
    assert galleries.gallery(plan, plan.experiment.tables[0], [], desk) is None
