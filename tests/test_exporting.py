"""Files for a test server: where they lie, what is in them, and what the table says of such a cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import photos
import pytest
from calling import environment
from PIL import Image

from matlabel_bench import exporting
from matlabel_bench import plan as plans
from matlabel_bench.cells import read_cells
from matlabel_bench.handover import output
from matlabel_bench.images import VOC_PALETTE, write_label
from matlabel_bench.plan import Plan
from matlabel_bench.runner import run

TABLE = """
[[columns]]
name = "test"
segment = "stub-segmenter"
split = "test"
[[rows]]
name = "Mat-Label (ours)"
cam = "stub-cam"
"""
INSIDE = "results/VOC2012/Segmentation/comp6_test_cls"
Make = Callable[..., Plan]


@pytest.fixture
def make(tmp_path: Path, stubs: None, monkeypatch: pytest.MonkeyPatch) -> Make:
    photos.write_splits(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return lambda table=TABLE, **options: plans.make(photos.experiment(table, photos.SPLITS, **options))


def segment(plan: Plan, number: int = 0, value: int = 1) -> None:
    """Do the work of a cell's segmentation: masks of one value."""
    job = plan.cells[0].files[number]
    slot = plan.slot(job)
    slot.files.mkdir(parents=True, exist_ok=True)
    for sample in job.split:
        write_label(output("segment", slot.files, sample.id), np.full((20, 24), value, np.uint8))
    plan.store.finish(slot, 1.0, {})


def listed(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_files_lie_as_the_test_server_wants_them(make: Make, tmp_path: Path) -> None:
    plan = make(seeds=(3, 7))
    segment(plan, 0, value=1)
    segment(plan, 1, value=2)
    written = exporting.test_server(plan, plan.cells[0], tmp_path / "out")
    home = tmp_path / "out/test-server/Mat-Label-ours/test"
    assert written == [home / "3", home / "7"]
    assert listed(home) == [f"{seed}/{INSIDE}/{name}.png" for seed in "37" for name in "de"]
    for seed, value in (("3", 1), ("7", 2)):
        with Image.open(home / seed / INSIDE / "d.png") as mask:
            assert (mask.mode, mask.size) == ("P", (24, 20))
            assert mask.getpalette() == VOC_PALETTE.ravel().tolist()
            assert (np.asarray(mask) == value).all()


def test_what_is_not_done_is_left_out_and_what_was_there_is_replaced(make: Make, tmp_path: Path) -> None:
    plan = make(seeds=(3, 7))
    segment(plan, 1)
    home = tmp_path / "out/test-server/Mat-Label-ours/test"
    (home / "7" / INSIDE).mkdir(parents=True)
    (home / "7" / INSIDE / "old.png").write_text("of another run")
    assert exporting.test_server(plan, plan.cells[0], tmp_path / "out") == [home / "7"]
    assert listed(home) == [f"7/{INSIDE}/d.png", f"7/{INSIDE}/e.png"]


def test_cells_that_are_scored_here_or_segment_nothing_write_no_files(make: Make, tmp_path: Path) -> None:
    for table in (
        TABLE.replace('split = "test"', 'split = "val"'),
        TABLE.replace('segment = "stub-segmenter"\nsplit = "test"', ""),
    ):
        plan = make(table)
        assert exporting.test_server(plan, plan.cells[0], tmp_path / "out") == []
        assert not (tmp_path / "out").exists()


def test_rows_and_columns_do_not_share_a_folder(make: Make, tmp_path: Path) -> None:
    second = TABLE.split("[[rows]]")[0].replace(
        'name = "test"', 'name = "brighter"\nset = { "stub-segmenter.level" = 9 }'
    )
    twin = TABLE.split("[[rows]]")[1].replace("(ours)", "[ours]")
    odd = TABLE.split("[[rows]]")[1].replace("Mat-Label (ours)", "..")
    plan = make(second + TABLE + "[[rows]]" + twin + "[[rows]]" + odd)
    written = []
    for cell in plan.cells:
        (job,) = cell.files
        slot = plan.slot(job)
        slot.files.mkdir(parents=True, exist_ok=True)
        for sample in job.split:
            write_label(output("segment", slot.files, sample.id), np.zeros((20, 24), np.uint8))
        plan.store.finish(slot, 1.0, {})
        written += exporting.test_server(plan, cell, tmp_path / "out")
    rows = ("Mat-Label-ours", "Mat-Label-ours-2", "unnamed")
    assert [p.relative_to(tmp_path / "out/test-server").as_posix() for p in written] == [
        f"{row}/{column}/5" for row in rows for column in ("brighter", "test")
    ]


def test_a_run_without_masks_ends_well_and_says_where_its_files_are(
    tmp_path: Path, stubs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos.write_splits(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    said: list[str] = []
    done = run(photos.experiment(TABLE, photos.SPLITS, out=tmp_path / "out"), said.append)
    assert done.code == 0
    (cell,) = read_cells(tmp_path / "out/t/cells.csv")
    assert (cell.status, cell.value, cell.split, cell.supervision) == ("missing", None, "test", "tags")
    assert (
        cell.reason
        == "no masks here: a test server scores them; its files are in the folder test-server beside the table"
    )
    assert listed(tmp_path / "out/t/test-server") == [f"Mat-Label-ours/test/5/{INSIDE}/{n}.png" for n in "de"]
    for name in "de":
        with Image.open(tmp_path / f"out/t/test-server/Mat-Label-ours/test/5/{INSIDE}/{name}.png") as mask:
            assert mask.mode == "P"
            assert len(np.unique(np.asarray(mask))) == 1, "the stub says one class everywhere"
