"""Times of a seed: what is gone through, how often, on which image, and what enters the key."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import photos
import pytest

from matlabel_bench import plan as plans
from matlabel_bench import timing
from matlabel_bench.cells import read_cells
from matlabel_bench.errors import MattingFailed
from matlabel_bench.gather import SPEED, timed
from matlabel_bench.handover import Inputs
from matlabel_bench.measure import measure
from matlabel_bench.runner import Runner, run
from matlabel_bench.store import read_json
from matlabel_bench.timing import Pipeline, seed_seconds
from matlabel_bench.trimap import TrimapRule
from matlabel_bench.types import Sample

SECONDS = """
[[columns]]
name = "Time"
metric = "seconds"
[[columns]]
name = "Seed"
threshold = "fixed"
[[rows]]
name = "cam"
cam = "stub-cam"
published = { "Time" = 0.5 }
[[rows]]
name = "matted"
cam = "stub-cam"
matting = "stub-matting"
"""


@dataclasses.dataclass
class Clock:
    """Seconds pass only while parts work."""

    now: float = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclasses.dataclass
class Spy:
    """A part that says what it was given and takes its time."""

    clock: Clock
    seconds: float
    answer: Any
    wants_id: bool = False
    opened: list[Path | None] = dataclasses.field(default_factory=list)
    seen: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)

    def open(self, out: Path | None) -> Any:
        self.opened.append(out)
        self.clock.now += 100  # not on the record

        def live(*given: Any) -> Any:
            self.seen.append(given)
            self.clock.now += self.seconds * len(self.seen)
            return self.answer(*given)

        return live


def one_map(image: np.ndarray, tags: np.ndarray, *more: str) -> np.ndarray:
    return np.ones((len(tags), 2, 2), np.float32)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return Sample("b b", photos.write(tmp_path / "photos") / "images/b b.png", (1, 2))


def test_three_times_after_once_for_warming_up(clock: Clock, sample: Sample) -> None:
    """The n-th call takes n seconds: 1 is the warm-up."""
    cam = Spy(clock, 1.0, one_map)
    told = seed_seconds(Pipeline(cam, TrimapRule(), None), Inputs(fit=Path("weights")), sample)
    assert told == {"seconds": [2.0, 3.0, 4.0], "classes": 2, "image": "b b"}
    assert cam.opened == [Path("weights")]
    for image, tags in cam.seen:
        assert (image.shape, image.dtype) == ((512, 512, 3), np.uint8)
        assert tags.tolist() == [1, 2]


def test_a_matting_is_timed_with_the_maps_it_starts_from(clock: Clock, sample: Sample) -> None:
    cam, matting = Spy(clock, 1.0, one_map, wants_id=True), Spy(clock, 0.5, lambda image, trimap: trimap / 255)
    pipeline = Pipeline(cam, TrimapRule(), matting, size=64)
    told = seed_seconds(pipeline, Inputs(fit=Path("a"), matting=Path("b")), sample)
    assert told["seconds"] == [3.0, 4.5, 6.0]
    assert (cam.opened, matting.opened) == ([Path("a")], [Path("b")])
    assert all(given[2:] == ("b b",) for given in cam.seen), "a part that goes by ids gets the id"
    for image, trimap in matting.seen:
        assert image.shape == (64, 64, 3)
        assert (trimap.shape, trimap.dtype) == ((2, 64, 64), np.uint8)
        assert {0, 255} <= set(np.unique(trimap)), "repaired: a map of ones leaves no background"


def test_a_matting_that_gives_up_has_taken_its_time(clock: Clock, sample: Sample) -> None:
    def fails(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        raise MattingFailed("an odd image", "an even one", "accept the map")

    pipeline = Pipeline(Spy(clock, 1.0, one_map), TrimapRule(), Spy(clock, 1.0, fails), size=16)
    assert seed_seconds(pipeline, Inputs(), sample)["seconds"] == [4.0, 6.0, 8.0]


def test_the_image_that_is_timed_has_one_tag_if_any_has() -> None:
    def named(name: str, *tags: int) -> Sample:
        return Sample(name, Path(name), tags)

    none, two, one, other = named("none"), named("two", 1, 2), named("one", 2), named("other", 1)
    assert timed([none, two, one, other]) == [one]
    assert timed([none, two]) == [two]
    assert timed([none]) == [none]


def test_the_key_holds_the_fields_of_all_parts(stubs: None) -> None:
    from stub_parts import StubCam, StubMatting

    base = Pipeline(StubCam(), TrimapRule(), StubMatting())
    assert base.key() == {
        "cam": {"version": 1, "fields": {"gain": 1.0, "fail": False}},
        "trimap": {"version": 1, "fields": {"fg": 0.75, "bg": 0.2, "top": 0.05, "low": 0.05}},
        "matting": {"version": 1, "fields": {"moody": False}},
        "size": 512,
    }
    assert "matting" not in Pipeline(StubCam(), TrimapRule(), None).key()
    assert base.runs_on == "cpu"
    assert Pipeline(SimpleNamespace(device="cuda"), TrimapRule(), None).runs_on == "cuda"


def test_a_column_of_seconds_in_a_table(tmp_path: Path, stubs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    photos.write(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "calls"
    monkeypatch.setenv("STUB_CALLS", str(log))
    done = run(photos.experiment(SECONDS, out=tmp_path / "out"), print)
    assert done.code == 0
    cells = {(c.row, c.column): c for c in read_cells(tmp_path / "out/t/cells.csv")}
    folders = (tmp_path / "store/speed").iterdir()
    told = {read_json(f / "record.json")["part"]: read_json(f / "files" / SPEED) for f in folders}
    assert set(told) == {"stub-cam", "stub-cam + stub-matting"}
    for row, name in (("cam", "stub-cam"), ("matted", "stub-cam + stub-matting")):
        seconds = told[name]["seconds"]
        cell = cells[row, "Time"]
        assert (cell.status, cell.metric, cell.images, cell.seeds, cell.supervision) == (
            "measured",
            "seconds",
            1,
            1,
            "tags",
        )
        assert (cell.threshold, cell.threshold_rule) == (None, "none")
        assert cell.value == pytest.approx(sorted(seconds)[1], rel=1e-4), "the median of three"
        assert cell.low == pytest.approx(min(seconds), rel=1e-4)
        assert cell.high == pytest.approx(max(seconds), rel=1e-4)
        assert (told[name]["image"], told[name]["classes"]) == ("a", 1), "the first image with a single tag"
    assert cells["cam", "Time"].published == 0.5
    assert cells["cam", "Seed"].metric == "mIoU"
    calls = [line.split()[0] for line in log.read_text().splitlines()]
    assert calls.count("cam") == 3 + 4 + 4, "three images once, and one image four times a row"
    assert calls.count("matting") == 3 + 4


def test_parts_that_fail_are_not_timed(tmp_path: Path, stubs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    photos.write(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    sets = ("stub-cam.fail=true",)
    plan = plans.make(
        photos.experiment(SECONDS.split("[[rows]]")[0] + '[[rows]]\nname = "r"\ncam = "stub-cam"\n', sets=sets)
    )
    runner = Runner(plan, print)
    runner.run()
    cell = measure(plan, runner.failures, plan.cells[0]).cell
    assert (cell.status, cell.value) == ("failed", None)
    assert cell.reason.startswith(
        "speed stub-cam: expected speed stub-cam to work on a; got RuntimeError: no maps today"
    )
