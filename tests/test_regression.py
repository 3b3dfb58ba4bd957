"""A small table from stored maps against a committed baseline, through `bench run` and `bench gate`, exact."""

from __future__ import annotations

import csv
from pathlib import Path

HERE = Path(__file__).resolve().parent / "regression"


def test_cpu_stages_give_the_committed_numbers(bench, tmp_path) -> None:
    ran = bench(
        "run", HERE / "table.toml", "--profile", HERE / "profile.toml", "--workers", 2, "--out", "out",
        "--set", f"stored.folder={HERE / 'maps'}", "--data-root", tmp_path / "shapes",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    gate = bench("gate", HERE / "baseline", "out", "--tolerance", "0")
    assert gate.returncode == 0, gate.stdout + gate.stderr
    worse = tmp_path / "worse" / "regression"
    worse.mkdir(parents=True)
    with (tmp_path / "out/regression/cells.csv").open(newline="") as handle:
        rows = list(csv.reader(handle))
    value = rows[0].index("value")
    rows[5][value] = str(float(rows[5][value]) - 0.5)
    with (worse / "cells.csv").open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)
    assert bench("gate", HERE / "baseline", "worse", "--tolerance", "0").returncode == 1
