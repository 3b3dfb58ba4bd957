"""Running, interrupting and failing through the command line; reading what runs wrote."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from calling import STUBS, environment, hear_interrupts
from installing import run_bench

from matlabel_bench.cli.failures import explain

Bench = Callable[..., subprocess.CompletedProcess[str]]
TABLE = """
title = "own"
[[columns]]
name = "Seed"
[[rows]]
name = "plain"
cam = "stub-cam"
[[rows]]
name = "with matting"
cam = "stub-cam"
matting = "stub-matting"
"""
PROFILE = """
name = "stub"
[run]
dataset = "shapes"
fit_split = "train"
split = "train"
[shapes]
train = 6
val = 2
size = 64
"""


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """Options of a run that takes a second or two."""
    (tmp_path / "own.toml").write_text(TABLE)
    (tmp_path / "stub.toml").write_text(PROFILE)
    return ["own.toml", "--profile", "stub.toml", "--data-root", "shapes", "--workers", "1"]


def test_plan_then_run_then_plan_again(bench: Bench, own: list[str], tmp_path: Path) -> None:
    before = bench("plan", *own)
    assert before.returncode == 0, before.stderr
    assert "to do" in before.stdout
    assert not (tmp_path / "bench-out").exists()
    done = bench("run", *own)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "own: 2 of 2 cells measured; bench-out/own/table.md\n"
    assert "[1/" in done.stderr
    after = bench("plan", *own)
    assert "to do" not in after.stdout
    assert bench("run", *own, "--quiet").stderr == ""


def test_the_store_is_an_option_or_a_variable(bench: Bench, own: list[str], tmp_path: Path) -> None:
    assert bench("run", *own, MATLABEL_BENCH_STORE="kept").returncode == 0
    assert list((tmp_path / "kept").glob("maps/*/done.json"))
    assert not (tmp_path / "bench-store").exists()
    assert "0 MB" in bench("plan", *own, "--store", "kept").stdout
    assert bench("store", "verify", "--store", "kept").returncode == 0
    victim = next((tmp_path / "kept").glob("maps/*/files/*.npz"))
    victim.write_bytes(victim.read_bytes()[:-1])
    done = bench("store", "verify", MATLABEL_BENCH_STORE="kept")
    assert done.returncode == 1
    assert victim.name in done.stdout
    assert "would remove" in bench("store", "gc", "--days", "0", "--dry", "--store", "kept").stdout
    assert victim.is_file()
    assert bench("store", "gc", "--days", "0", "--store", "kept").returncode == 0
    assert not victim.exists()


def test_report_compare_and_gate_read_what_run_wrote(bench: Bench, own: list[str], tmp_path: Path) -> None:
    assert bench("run", *own).returncode == 0
    assert bench("run", *own, "--out", "again").returncode == 0
    page = bench("report")
    assert page.stdout == "bench-out/index.html\n"
    assert "own" in (tmp_path / "bench-out/index.html").read_text()
    sides = bench("compare", "bench-out", "again")
    assert sides.returncode == 0
    assert "+0.00" in sides.stdout
    same = bench("gate", "bench-out", "again")
    assert same.returncode == 0, same.stdout
    path = tmp_path / "again" / "own" / "cells.csv"
    value = path.read_text().splitlines()[1].split(",")[4]
    path.write_text(path.read_text().replace(f",{value},", ",0.5,"))
    worse = bench("gate", "bench-out", "again")
    assert worse.returncode == 1
    path.unlink()
    assert bench("gate", "bench-out", "again").returncode == 2, "not measured is no pass"
    assert bench("gate", "nothing", "again").returncode == 3
    assert bench("gate", "bench-out", "--tolerence", "1").returncode == 3


def test_interrupted_says_where_the_work_lies_and_resumes(bench: Bench, own: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "matlabel_bench", "run", *own, "--store", "kept"]
    run = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(STUB_SECONDS="0.5"),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=hear_interrupts,
    )
    while not list((tmp_path / "kept").glob("alpha/*/files/*.png")):
        assert run.poll() is None, "ended before it could be interrupted"
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C does: the whole process group
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Finished work lies in kept; the same command resumes from it." in err
    assert "Traceback" not in err
    assert bench("run", *own, "--store", "kept").returncode == 0


def test_folders_that_cannot_be_written_are_found_before_anything_runs(bench: Bench, own: list[str]) -> None:
    for option, folder, words in (
        ("--out", "own.toml/out", "a results folder that can be written"),
        ("--store", "own.toml/store", "a store folder that can be written"),
    ):
        done = bench("run", *own, option, folder)
        assert done.returncode == 2
        assert words in done.stderr
        assert f"{folder} (Not a directory)" in done.stderr
        assert f"another folder with {option}" in done.stderr
        assert "maps" not in done.stderr


def test_a_full_disk_is_said_and_nothing_is_lost(own: list[str], tmp_path: Path) -> None:
    """A hook stands in for the disk: it refuses the second stage as a full one does."""
    site = tmp_path / "site"
    info = site / "full_disk-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: full-disk\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[matlabel_bench]\nfull = full_disk\n")
    (site / "full_disk.py").write_text(
        "import errno, os\n"
        "from matlabel_bench.spec import hookimpl\n"
        "@hookimpl\n"
        "def matlabel_stage_done(stage, key, folder, record):\n"
        "    if stage == 'trimap' and 'FULL' in os.environ:\n"
        "        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))\n"
    )
    done = run_bench("run", *own, cwd=tmp_path, sites=[site, STUBS], FULL="1")
    assert done.returncode == 2
    assert "expected room on the disk" in done.stderr
    assert "(No space left on device)" in done.stderr
    assert "the same command resumes" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "bench-store").glob("maps/*/done.json"))
    assert run_bench("run", *own, cwd=tmp_path, sites=[site, STUBS]).returncode == 0


@pytest.mark.parametrize(
    ("err", "words", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.npz"), "room on the disk", 2),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a.npz"), "quota", 2),
        (PermissionError(errno.EACCES, "Permission denied", "a.npz"), "a.npz (Permission denied)", 2),
        (OSError(errno.EROFS, "Read-only file system", "a.npz"), "--store and --out", 2),
        (OSError("strange"), "got strange", 2),
        (MemoryError("Unable to allocate 3 GiB"), "fewer --workers", 1),
        (ImportError("libGL.so.1: cannot open shared object file"), "`bench doctor` says", 2),
        (ZeroDivisionError("division by zero"), "this is a defect", 70),
    ],
)
def test_every_failure_has_three_parts_and_a_code(err: Exception, words: str, code: int) -> None:
    try:
        raise err
    except Exception as raised:
        text, got = explain(raised, "run")
    assert got == code
    assert text.startswith("bench run:\n  expected ")
    assert words in text
    assert "remedy " in text
