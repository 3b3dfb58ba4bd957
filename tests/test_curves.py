"""Curves: the metrics of a table's trainings, gathered and drawn."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import photos
import pytest
from matplotlib.axes import Axes
from PIL import Image

from matlabel_bench import curves, plan
from matlabel_bench.errors import DataError
from matlabel_bench.metrics import Metrics
from matlabel_bench.plan import Plan
from matlabel_bench.recipe import LOG

TABLE = """
[[columns]]
name = "Seed"
[[rows]]
name = "one"
cam = "stub-trained"
[[rows]]
name = "same, matted"
cam = "stub-trained"
matting = "stub-matting"
"""


@pytest.fixture
def planned(tmp_path: Path, stubs: None, monkeypatch: pytest.MonkeyPatch) -> Plan:
    photos.write(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return plan.make(photos.experiment(TABLE, seeds=(0, 1)))


def test_a_training_that_rows_share_is_named_once(planned: Plan) -> None:
    assert list(curves.trainings(planned, "t")) == ["one: stub-trained, seed 0", "one: stub-trained, seed 1"]
    assert not curves.trainings(planned, "another")


def test_lines_of_all_stages_are_gathered_and_drawn(planned: Plan, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)metrics of the trainings of t.*run the table first"):
        curves.gather(planned, "t")
    first, second = (planned.slot(job).files for job in curves.trainings(planned, "t").values())
    for step in (1, 2):
        Metrics(first / LOG, step - 1).add(step, {"loss": 1 / step, "area": 0.5})
        Metrics(second / "stage1" / LOG, step - 1).add(step, {"loss": 2 / step})
    frame = curves.gather(planned, "t")
    assert list(frame.columns) == ["training", "step", "metric", "value"]
    assert frame["training"].unique().tolist() == ["one: stub-trained, seed 0", "one: stub-trained, seed 1 (stage1)"]
    losses = frame[frame["metric"] == "loss"]
    assert losses["value"].tolist() == [1.0, 0.5, 2.0, 1.0]
    curves.draw(frame, tmp_path / "t.png")
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.width == 1260
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 10, "lines and words, not a blank page"


def test_a_training_has_one_colour_in_all_panels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also in panels where another training has no line: else the legend names the wrong one."""
    lines = [("a", "loss"), ("b", "loss"), ("b", "area")]
    frame = pd.DataFrame(
        [(t, s, m, float(s)) for t, m in lines for s in (1, 2)], columns=["training", "step", "metric", "value"]
    )
    drawn: dict[tuple[str, str], object] = {}
    plot = Axes.plot

    def note(self: Axes, *values: object, **style: object) -> object:
        made = plot(self, *values, **style)
        drawn[str(style["label"]), str(id(self))] = made[0].get_color()
        return made

    monkeypatch.setattr(Axes, "plot", note)
    curves.draw(frame, tmp_path / "t.png")
    of = {name: {colour for (label, _), colour in drawn.items() if label == name} for name in "ab"}
    assert len(drawn) == 3 and [len(c) for c in of.values()] == [1, 1] and of["a"] != of["b"]
