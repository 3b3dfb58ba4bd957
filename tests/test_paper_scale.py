"""docs/paper_scale.py: its cases run, its data sets are of the real numbers, its sums are those of the plan."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from matlabel_bench import forecast, plan
from matlabel_bench.config import Options, resolve

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS))
    return import_module("paper_scale")


def test_a_stage_is_measured_on_what_earlier_ones_left(script: ModuleType, tmp_path: Path) -> None:
    script.stages.prepare(tmp_path)
    case = next(c for c in script.stages.CASES if (c.stage, c.part) == ("trimap", "thresholds"))
    peak, added, seconds = script.stages.measure(case, tmp_path)
    assert [p.name for p in (tmp_path / "trimap" / "thresholds").iterdir()] == ["voc.png"]
    assert 0 < peak < 20_000
    assert added < peak
    assert seconds < 60


def test_a_stage_that_fails_is_no_measurement(script: ModuleType, tmp_path: Path) -> None:
    case = next(c for c in script.stages.CASES if (c.stage, c.part) == ("trimap", "thresholds"))
    with pytest.raises(RuntimeError, match=r"trimap thresholds"):
        script.stages.measure(case, tmp_path)


def test_sums_of_a_plan_as_large_as_voc(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.layouts, "VOC", {"train": 30, "val": 10, "test": 5})
    monkeypatch.setattr(script.layouts, "TRAIN_AUG", 200)
    root = script.layouts.voc(tmp_path / "voc")
    options = Options(profile="paper", dataset="voc12", data_root=str(root), store=tmp_path / "store")
    frame = forecast.frame(plan.make(resolve(["table2"], options)))
    sums = {row[0]: row[1:] for row in script._sums(frame.fillna("").to_string(index=False))}
    assert sums["all"][0] == len(frame)
    assert sums["fit"][0] == (frame.stage == "fit").sum()
    assert sums["all"][2] == f"{frame.megabytes.sum() / 1000:.1f}"
    assert set(frame.images) == {200, 10, 5}
    tags = [len(s.tags) for s in resolve(["table2"], options).dataset.split("train_aug")]
    assert 1.2 < sum(tags) / len(tags) < 1.8


def test_disk_leaves_a_report(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.layouts, "VOC", {"train": 30, "val": 10, "test": 5})
    monkeypatch.setattr(script.layouts, "TRAIN_AUG", 40)
    monkeypatch.setattr(script, "PLANS", {"voc12": (("table4",),)})
    monkeypatch.setattr(script, "REPORT", tmp_path / "report")
    assert script.disk(tmp_path) == 0
    lines = (tmp_path / "report" / "disk.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "data_set,tables,stage,jobs,images,GB,hours_of_a_core"
    assert [line.split(",")[2] for line in lines[1:]] == ["fit", "maps", "score", "threshold", "all"]
    assert '"disk.csv"' in (tmp_path / "report" / "record.json").read_text(encoding="utf-8")


def test_a_small_coco_is_understood(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matlabel_bench import registry

    monkeypatch.setenv("MATLABEL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(script.layouts, "COCO", {"train2014": 40, "val2014": 20})
    root = script.layouts.coco(tmp_path / "coco")
    data = registry.start()[0].make("dataset", "coco14", root=str(root))
    assert (len(data.split("train")), len(data.split("val"))) == (40, 20)
    sample = data.split("val").samples[0]
    assert data.masks("val")(sample.id).shape == sample.read().shape[:2]


def test_tables_are_markdown(script: ModuleType) -> None:
    assert script.markdown(["stage", "MB"], [["a b", 12], ["c", "3.5"]]) == (
        "| stage | MB |\n|---|---:|\n| a b | 12 |\n| c | 3.5 |"
    )
