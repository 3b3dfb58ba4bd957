"""A stranger's matting, in a package of its own: listed, checked, run in a row of a user's own table, switched off.

It is installed without pip and network, see installing.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from installing import install, run_bench

from matlabel_bench.cells import read_cells
from matlabel_bench.tables import load_table

EXAMPLE = Path(__file__).parents[1] / "examples" / "matlabel-example"
STUBS = Path(__file__).parent / "stubs"
TABLE = """
[[columns]]
name = "Seed"
[[rows]]
name = "guided"
cam = "stub-cam"
matting = "guided_filter"
[[rows]]
name = "guided, wide"
cam = "stub-cam"
matting = "guided_filter"
set = { "guided_filter.radius" = 16 }
"""
PROFILE = """
[run]
dataset = "shapes"
fit_split = "train"
split = "train"
[shapes]
train = 6
val = 2
size = 64
"""
Bench = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """`bench` in a process of its own that sees the example installed."""
    install(EXAMPLE, tmp_path / "site")
    return partial(run_bench, cwd=tmp_path, sites=[tmp_path / "site"])


def test_it_is_listed_with_its_origin(bench: Bench) -> None:
    done = bench("list", "matting", "--json")
    parts = {p["name"]: p for p in json.loads(done.stdout)["parts"]}
    assert parts["guided_filter"]["origin"] == "matlabel-example 1.0"
    assert parts["knn"]["origin"].startswith("matlabel-bench ")


def test_it_keeps_every_promise(bench: Bench) -> None:
    done = bench("check", "guided_filter", "--json")
    findings = json.loads(done.stdout)
    assert [f for f in findings if not f["ok"]] == []
    assert len(findings) > 15
    assert done.returncode == 0


def test_it_is_shown_with_its_fields(bench: Bench) -> None:
    done = bench("show", "guided_filter")
    assert "radius: int = 8   (>= 1)" in done.stdout
    assert "pixels from the window's middle to its edge (r)" in done.stdout
    assert "matlabel-example 1.0" in done.stdout
    assert "He, Sun, Tang" in done.stdout


def test_it_runs_in_a_row_of_a_users_own_table(bench: Bench, tmp_path: Path) -> None:
    """With a cheap CAM from the stub parts; test_its_table_runs_with_a_trained_cam has the whole pipeline."""
    (tmp_path / "mine.toml").write_text(TABLE)
    (tmp_path / "small.toml").write_text(PROFILE)
    words = ("run", "mine.toml", "--profile", "small.toml", "--data-root", "shapes", "--set", "guided_filter.radius=4")
    done = bench(*words, sites=[tmp_path / "site", STUBS])
    assert done.returncode == 0, done.stderr
    cells = read_cells(tmp_path / "bench-out" / "mine" / "cells.csv")
    assert [(c.row, c.status) for c in cells] == [("guided", "measured"), ("guided, wide", "measured")]
    records = [json.loads(p.read_text()) for p in (tmp_path / "bench-store").glob("alpha/*/record.json")]
    fields = sorted(json.dumps(r["spec"]) for r in records)
    assert '"radius": 16' in fields[0], "what makes a row that row is stronger than --set"
    assert '"radius": 4' in fields[1]
    assert "matlabel-example 1.0" in (tmp_path / "bench-out" / "mine" / "record.json").read_text()


@pytest.mark.slow
def test_its_table_runs_with_a_trained_cam(bench: Bench, tmp_path: Path) -> None:
    done = bench("run", str(EXAMPLE / "my_table.toml"))
    assert done.returncode == 0, done.stderr
    cells = read_cells(tmp_path / "bench-out" / "my_table" / "cells.csv")
    assert {c.status for c in cells} == {"measured"}
    assert len(cells) == 8


def test_its_table_is_one() -> None:
    table = load_table(str(EXAMPLE / "my_table.toml"))
    assert [r.matting for r in table.rows] == [None, "knn", "guided_filter", "guided_filter"]


def test_it_can_be_switched_off(bench: Bench) -> None:
    done = bench("show", "guided_filter", MATLABEL_BENCH_BLOCK="example")
    assert done.returncode == 2
    assert "the name of a part" in done.stderr
    health = bench("doctor", "--json", MATLABEL_BENCH_BLOCK="example")
    checks = {c["name"]: c for c in json.loads(health.stdout)}
    assert checks["plugin example"]["status"] == "warn"
    assert "matlabel-example 1.0, blocked by MATLABEL_BENCH_BLOCK" in checks["plugin example"]["message"]


def test_a_plugin_that_does_not_load_says_how_to_go_on_without_it(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "site" / "matlabel_example.py").write_text("import no_such_library\n")
    done = bench("list")
    assert done.returncode == 2
    assert "expected plugin 'example' (matlabel-example 1.0) to load" in done.stderr
    assert "No module named 'no_such_library'" in done.stderr
    assert "MATLABEL_BENCH_BLOCK=example" in done.stderr
    assert bench("list", MATLABEL_BENCH_BLOCK="example").returncode == 0


def test_a_name_that_is_taken_is_refused(bench: Bench, tmp_path: Path) -> None:
    module = tmp_path / "site" / "matlabel_example.py"
    module.write_text(module.read_text().replace('"guided_filter"', '"knn"'))
    done = bench("list")
    assert done.returncode == 2
    assert "a new name for a matting" in done.stderr
    assert "already registered by" in done.stderr


def test_its_window_means_equal_those_counted_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from matlabel_example import GuidedFilter

    plane = np.random.default_rng(0).random((7, 5))
    by_hand = [[plane[max(0, i - 2) : i + 3, max(0, j - 2) : j + 3].mean() for j in range(5)] for i in range(7)]
    assert np.allclose(GuidedFilter(radius=2).box(plane), by_hand, atol=1e-12)
