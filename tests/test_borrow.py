"""Splits that overlap: what was made of an image for one is taken for the other, and nothing else is."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import photos
import pytest

from matlabel_bench import plan as plans
from matlabel_bench.errors import UsageError
from matlabel_bench.handover import output
from matlabel_bench.jobs import Job
from matlabel_bench.measure import measure
from matlabel_bench.plan import Plan
from matlabel_bench.runner import Runner

TABLE = """
[[columns]]
name = "train"
split = "train"
threshold = "fixed"
[[columns]]
name = "val"
split = "val"
threshold = "fixed"
[[rows]]
name = "matted"
cam = "stub-cam"
matting = "stub-matting"
"""


@dataclasses.dataclass
class Desk:
    make: Callable[..., Plan]
    log: Path

    def run(self, plan: Plan) -> Counter[str]:
        """Run a plan; how often each part was called."""
        self.log.write_text("")
        runner = Runner(plan, print)
        runner.run()
        assert runner.failures == {}
        return Counter(line.split()[0] for line in self.log.read_text().splitlines())


@pytest.fixture
def desk(tmp_path: Path, stubs: None, monkeypatch: pytest.MonkeyPatch) -> Desk:
    photos.write_splits(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUB_CALLS", str(tmp_path / "calls"))
    return Desk(
        lambda table=TABLE, **options: plans.make(photos.experiment(table, photos.SPLITS, **options)),
        tmp_path / "calls",
    )


def job(plan: Plan, stage: str, split: str) -> Job:
    return next(j for j in plan.jobs.values() if (j.stage, j.split.name) == (stage, split))


def files(plan: Plan, stage: str, split: str) -> dict[str, Path]:
    one = job(plan, stage, split)
    return {s.id: output(stage, plan.slot(one).files, s.id) for s in one.split}


def test_an_image_of_two_splits_is_worked_on_once(desk: Desk) -> None:
    plan = desk.make()
    assert desk.run(plan) == {"cam": 3, "matting": 3}, "a and b b, b b and ç"
    for stage in ("maps", "trimap", "alpha"):
        train, val = files(plan, stage, "train"), files(plan, stage, "val")
        assert all(p.is_file() for p in (*train.values(), *val.values()))
        assert train["b b"].samefile(val["b b"])
        assert train["a"].stat().st_nlink == val["ç"].stat().st_nlink == 1
    assert plan.store.verify() == []


def test_a_later_run_borrows_from_the_store(desk: Desk) -> None:
    one, other = (f"[[columns]]{part}" for part in TABLE.split("[[rows]]")[0].split("[[columns]]")[1:])
    row = "[[rows]]" + TABLE.split("[[rows]]")[1]
    assert desk.run(desk.make(one + row)) == {"cam": 2, "matting": 2}
    assert desk.run(desk.make(one + other + row)) == {"cam": 1, "matting": 1}, "ç alone is new"


def test_only_an_image_with_the_same_tags_and_file_is_taken(desk: Desk) -> None:
    plan = desk.make()
    for one in plan.jobs.values():
        if one.split.name == "val":
            other = (dataclasses.replace(s, tags=(1,)) if s.id == "b b" else s for s in one.split)
            one.split = dataclasses.replace(one.split, samples=tuple(other))
    assert desk.run(plan) == {"cam": 4, "matting": 4}
    for stage in ("maps", "trimap", "alpha"):
        assert not files(plan, stage, "train")["b b"].samefile(files(plan, stage, "val")["b b"])


def test_what_another_part_or_other_fields_made_is_not_taken(desk: Desk) -> None:
    sets = 'set = { "stub-cam.gain" = 2 }\n'
    table = TABLE.replace('split = "val"\n', f'split = "val"\n{sets}')
    assert desk.run(desk.make(table)) == {"cam": 4, "matting": 4}
    sets = 'set = { "stub-matting.moody" = false, "trimap.fg" = 0.6 }\n'
    table = TABLE.replace('split = "val"\n', f'split = "val"\n{sets}')
    assert desk.run(desk.make(table, store=Path("other").absolute())) == {"cam": 3, "matting": 4}


def test_a_file_that_is_gone_or_there_already_is_not_taken(desk: Desk) -> None:
    plan = desk.make()
    runner = Runner(plan, print)
    source, target = job(plan, "maps", "train"), job(plan, "maps", "val")
    theirs, mine = files(plan, "maps", "train")["b b"], files(plan, "maps", "val")["b b"]
    mine.parent.mkdir(parents=True)
    runner._borrow(target, mine.parent)
    assert not mine.exists(), "the other is not done"
    theirs.parent.mkdir(parents=True)
    plan.store.finish(plan.slot(source), 1.0, {})
    runner._borrow(target, mine.parent)
    assert not mine.exists(), "the other lost it"
    theirs.write_bytes(b"maps")
    mine.write_bytes(b"mine")
    runner._borrow(target, mine.parent)
    assert mine.read_bytes() == b"mine"
    mine.unlink()
    runner._borrow(target, mine.parent)
    assert mine.samefile(theirs)


def test_parts_of_a_split_are_scored_apart_and_computed_once(desk: Desk) -> None:
    columns, row = TABLE.replace('split = "val"', 'split = "train:1/2"').split("[[rows]]")
    others = '[[columns]]\nname = "others"\nsplit = "train:2/2"\nthreshold = "fixed"\n'
    plan = desk.make(f"{columns}{others}[[rows]]{row}")
    assert desk.run(plan) == {"cam": 2, "matting": 2}, "each image of train once, whatever it counts for"
    measured = [measure(plan, {}, cell) for cell in plan.cells]
    assert [m.counts[0].ids for m in measured] == [("a", "b b"), ("a",), ("b b",)]
    whole, first, second = (m.counts[0].values.sum(axis=0) for m in measured)
    assert (first + second == whole).all()


@pytest.mark.parametrize("part", ["0/2", "3/2", "half", "1/2/3"])
def test_an_impossible_part_is_refused(desk: Desk, part: str) -> None:
    with pytest.raises(UsageError, match=r"(?s)a part of split 'train' as train:1/2 or train:2/2.*'train:"):
        desk.make(TABLE.replace('split = "val"', f'split = "train:{part}"'))
