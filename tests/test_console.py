"""What a person reads while something runs."""

from __future__ import annotations

import io
import sys

import pytest

from matlabel_bench import console
from matlabel_bench.console import Bar, clock


class Time:
    """A clock that is set by hand."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    monkeypatch.setattr(console, "time", found := Time())
    return found


def test_the_remaining_time_is_that_of_what_this_run_did(time: Time) -> None:
    said: list[str] = []
    with Bar("maps", 100, "image", said.append) as bar:
        time.now += 500  # before the first image
        bar.at(40)
        time.now += 30
        bar.at(50)
        assert bar.line() == said[-1] == "  maps: 50/100 images, 2:30 left"
        time.now += 5
        bar.at(51)
    assert len(said) == 2, "a line every twenty seconds at most"


def test_another_count_begins_anew(time: Time) -> None:
    bar = Bar("fit", 0, "step", lambda line: None)
    bar.phase(400, "image")
    bar.at(1)
    time.now += 1000
    bar.phase(400, "image")
    bar.at(400, "labels")
    bar.phase(200, "step")
    bar.at(1)
    assert bar.line() == "  fit: 1/200 steps"
    time.now += 10
    bar.at(11, "loss 2")
    assert bar.line() == "  fit: 11/200 steps, loss 2, 3:09 left"


def test_on_a_terminal_a_bar_knows_its_total(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    with Bar("fit", 0, "step", lambda line: None) as bar:
        bar.phase(400, "image")
        bar.at(300)
        bar.phase(20, "step")
        bar.at(5)
        bar.at(15)
        assert bar._tqdm is not None
        assert (bar._tqdm.n, bar._tqdm.initial, bar._tqdm.total, bar._tqdm.unit) == (15, 5, 20, "step")
    assert "fit" in screen.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (95, "1:35"), (7265, "2:01:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
