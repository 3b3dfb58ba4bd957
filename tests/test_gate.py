"""The gate: every exit code, the place where a row departs, and no pass for what was not measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from matlabel_bench.cells import Cell, write_cells
from matlabel_bench.errors import DataError
from matlabel_bench.gate import compare, comparison, gate

BASE = Cell(
    "t", "CAM", "seed", value=50.0, low=48.5, high=51.25, dataset="shapes", split="val", images=100, classes=6,
    profile="tiny", seeds=1, threshold=0.3, threshold_rule="fixed", supervision="tags", status="measured",
)  # fmt: skip


def cells(**changes: dict) -> list[Cell]:
    """Seed, crf and irn of one row; `changes` by column."""
    values = {"seed": 50.0, "crf": 55.0, "irn": 60.0}
    return [dataclasses.replace(BASE, column=c, **({"value": v} | changes.get(c, {}))) for c, v in values.items()]


@pytest.fixture
def run(tmp_path: Path):
    def judge(before: list[Cell], after: list[Cell], *args, **options):
        write_cells(tmp_path / "base" / "t" / "cells.csv", before)
        write_cells(tmp_path / "new" / "t" / "cells.csv", after)
        return gate(tmp_path / "base", tmp_path / "new", *args, **options)

    return judge


def test_the_same_passes(run):
    result = run(cells(), cells(crf={"value": 55.05}))  # a difference of exactly the tolerance
    assert result.code == 0
    assert result.text == "3 cells of the baseline: 0 worse, 0 not measured, 0 better, 3 same"


def test_worse_fails_and_the_first_stage_that_departs_is_named(run):
    result = run(cells(), cells(crf={"value": 54.9}, irn={"value": 59.0}))
    assert result.code == 1
    assert result.text.splitlines() == [
        "worse         t / CAM / crf: 55.00 -> 54.90 (-0.10; allowed from 54.95)",
        "worse         t / CAM / irn: 60.00 -> 59.00 (-1.00; allowed from 59.95)",
        "t / CAM departs first in crf, equal up to seed",
        "3 cells of the baseline: 2 worse, 0 not measured, 0 better, 1 same",
    ]


def test_a_departure_upwards_counts_as_the_first_but_does_not_fail_alone(run):
    better = run(cells(), cells(seed={"value": 50.4}))
    assert better.code == 0 and "t / CAM departs first in seed\n" in better.text
    assert better.text.endswith("better than the baseline: renew it in a commit that says why")
    mixed = run(cells(), cells(seed={"value": 50.4}, irn={"value": 58.0}))
    assert mixed.code == 1 and "t / CAM departs first in seed\n" in mixed.text


def test_the_tolerance_is_the_callers(run):
    assert run(cells(), cells(crf={"value": 54.0}), 1.0).code == 0
    assert run(cells(), cells(crf={"value": 54.99}), 0.0).code == 1


def test_by_interval_a_value_may_fall_to_the_lower_end(run):
    assert run(cells(), cells(seed={"value": 48.5}), interval=True).code == 0
    result = run(cells(), cells(seed={"value": 48.4}), interval=True)
    assert result.code == 1 and "50.00 -> 48.40 (-1.60; allowed from 48.50)" in result.text
    unknown = run(cells(seed={"low": None}), cells(), interval=True)
    assert unknown.code == 2 and "not measured  t / CAM / seed: the baseline has no interval" in unknown.text


def test_a_cell_that_is_gone_or_failed_is_no_pass(run):
    gone = run(cells(), cells()[:2])
    assert gone.code == 2 and "not measured  t / CAM / irn: no such cell" in gone.text
    failed = run(cells(), cells(crf={"value": None, "status": "failed", "reason": "diverged"}))
    assert failed.code == 2 and "not measured  t / CAM / crf: failed (diverged)" in failed.text


def test_worse_outweighs_not_measured(run):
    assert run(cells(), cells(seed={"value": 40.0})[:2]).code == 1


@pytest.mark.parametrize(
    ("field", "other"),
    [("dataset", "voc12"), ("split", "train"), ("images", 99), ("classes", 5), ("profile", "light"), ("seeds", 3)],
)
def test_a_number_measured_on_something_else_is_not_measured(run, field, other):
    result = run(cells(), cells(seed={field: other, "value": 90.0}))
    assert result.code == 2
    assert f"not measured  t / CAM / seed: {field} {other}, baseline {getattr(BASE, field)}" in result.text


def test_nothing_compared_is_no_pass(run, tmp_path: Path):
    dashes = [dataclasses.replace(c, value=None, status="missing") for c in cells()]
    result = run(dashes, cells())
    assert result.code == 2 and "nothing was compared: the baseline has no measured cell" in result.text
    write_cells(tmp_path / "base" / "t" / "cells.csv", cells())
    (tmp_path / "empty").mkdir()
    for candidate in (tmp_path / "empty", tmp_path / "absent"):
        assert gate(tmp_path / "base", candidate).code == 2


def test_dashes_of_the_baseline_are_not_asked_for(run):
    before = cells(irn={"value": None, "status": "missing"})
    assert run(before, cells()[:2]).code == 0


def test_usage(run, tmp_path: Path):
    result = gate(tmp_path / "absent", tmp_path / "new")
    assert result.code == 3 and result.text.startswith("expected a cells.csv, or a folder with some below it")
    assert run(cells(), cells(), -1).code == 3
    assert "expected a candidate other than the baseline" in gate(tmp_path / "base", tmp_path / "base").text
    (tmp_path / "base" / "t" / "cells.csv").write_text("a,b\n1,2\n")
    damaged = gate(tmp_path / "base", tmp_path / "new")
    assert damaged.code == 3 and "remedy write the file anew" in damaged.text


def test_two_results_of_one_table_in_a_folder_are_refused(run, tmp_path: Path):
    write_cells(tmp_path / "base" / "other" / "cells.csv", cells())
    result = run(cells(), cells())
    assert result.code == 3 and "t / CAM / seed again in" in result.text


def test_compare_subtracts_only_what_was_measured_alike(tmp_path: Path):
    write_cells(tmp_path / "a.csv", cells(crf={"value": None, "status": "failed", "reason": "diverged"}))
    extra = dataclasses.replace(BASE, row="D2CAM")
    write_cells(tmp_path / "b.csv", [*cells(seed={"value": 51.5}, irn={"dataset": "voc12", "classes": 21}), extra])
    frame = compare(tmp_path / "a.csv", tmp_path / "b.csv")
    assert frame["difference"].tolist()[0] == 1.5 and frame["difference"].isna().tolist() == [False, True, True, True]
    assert frame["note"].tolist() == ["", "a: failed (diverged)", "≠ dataset, classes", "not in a"]
    assert frame["a"].tolist()[2] == 60.0 and frame["b"].tolist()[2] == 60.0
    text = comparison(tmp_path / "a.csv", tmp_path / "b.csv")
    assert "+1.50" in text and "≠ dataset, classes" in text and "nan" not in text
    with pytest.raises(DataError, match="run `bench run` first"):
        compare(tmp_path / "gone", tmp_path / "b.csv")
