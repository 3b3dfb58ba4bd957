"""Metrics: a line a value, dropped and written again where a training resumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from matlabel_bench.metrics import NAME, Metrics, read


def test_lines_are_there_at_once_and_pivot_to_steps(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "log", 0)
    metrics.add(1, {"loss": 0.5, "lr": 0.1})
    assert (tmp_path / "log" / NAME).read_text() == "step,metric,value\n1,loss,0.5\n1,lr,0.1\n"
    metrics.add(2, {"loss": 0.25, "lr": 0.1, "area": 0.75})
    frame = read(tmp_path / "log")
    assert list(frame.index) == [1, 2]
    assert frame.loc[2].to_dict() == {"loss": 0.25, "lr": 0.1, "area": 0.75}
    assert frame["area"].isna().tolist() == [True, False]


def test_a_resumed_training_drops_what_comes_again(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        Metrics(tmp_path, step - 1).add(step, {"loss": float(step)})
    with (tmp_path / NAME).open("a") as handle:
        handle.write("4,lo")  # killed in the middle of a line
    Metrics(tmp_path, 2).add(3, {"loss": 30.0})
    assert read(tmp_path)["loss"].tolist() == [1.0, 2.0, 30.0]
    Metrics(tmp_path, 0).add(1, {"loss": 9.0})
    assert read(tmp_path)["loss"].tolist() == [9.0], "a training from the beginning keeps nothing"


def test_no_metrics_are_an_empty_frame(tmp_path: Path) -> None:
    assert read(tmp_path).empty
    with pytest.raises(OSError, match="metrics"):
        (tmp_path / NAME).mkdir()
        Metrics(tmp_path, 0).add(1, {"loss": 1.0})
