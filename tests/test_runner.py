"""The spine through the command line: tables from stub parts, resumption after kill -9, failures, two runs at once."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import photos
import pytest
from calling import environment, hear_interrupts

from matlabel_bench import plan as plans
from matlabel_bench.cells import HEADER
from matlabel_bench.runner import Runner, run

TABLE = """
title = "stub table"
compare = [["trained + matting", "plain"]]
[[columns]]
name = "Seed"
[[columns]]
name = "shifted"
refine = ["stub-shift"]
threshold = "mask-free"
[[rows]]
name = "plain"
cam = "stub-cam"
published = { "Seed" = 50.0 }
[[rows]]
name = "trained + matting"
cam = "stub-trained"
matting = "stub-matting"
[[rows]]
name = "unknown part"
cam = "stub-nothing"
[[rows]]
name = "literature"
published = { "Seed" = 61.0 }
"""
PROFILE = """
name = "stub"
[run]
dataset = "shapes"
fit_split = "train"
split = "train"
seeds = [0, 1]
[shapes]
train = 10
val = 2
size = 64
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    (tmp_path / "own.toml").write_text(TABLE)
    (tmp_path / "stub.toml").write_text(PROFILE)
    root = tmp_path / "shapes"
    return ["run", "own.toml", "--profile", "stub.toml", "--workers", "2", "--data-root", str(root)]


def cells(folder: Path, table: str = "own") -> list[dict[str, str]]:
    with (folder / table / "cells.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def without_time(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_a_table_from_nothing_then_from_the_store(bench, words, tmp_path) -> None:
    log = tmp_path / "log"
    done = bench(*words, STUB_LOG=str(log), STUB_COLUMNS="1")
    assert done.returncode == 0, done.stderr
    rows = cells(tmp_path / "bench-out")
    assert list(rows[0]) == list(HEADER)
    status = {(r["row"], r["column"]): r["status"] for r in rows}
    assert status == {
        ("plain", "Seed"): "measured",
        ("plain", "shifted"): "measured",
        ("trained + matting", "Seed"): "measured",
        ("trained + matting", "shifted"): "measured",
        ("unknown part", "Seed"): "missing",
        ("unknown part", "shifted"): "missing",
        ("literature", "Seed"): "published-only",
        ("literature", "shifted"): "missing",
    }
    by = {(r["row"], r["column"]): r for r in rows}
    assert "'stub-nothing' is not installed" in by["unknown part", "Seed"]["reason"]
    assert by["plain", "Seed"]["threshold_rule"] == "oracle"
    assert by["plain", "Seed"]["supervision"] == "tags+masks(threshold)"
    assert by["plain", "shifted"]["supervision"] == "tags"
    assert by["plain", "Seed"]["seeds"] == "1", "nothing random made this row: two seeds would be a false claim"
    assert by["trained + matting", "Seed"]["seeds"] == "2"
    assert float(by["trained + matting", "Seed"]["threshold"]) == 0.5
    computed = log.read_text().splitlines()
    assert computed.count("fit stub-trained") == 2
    assert computed.count("maps stub-cam") == 1, "a stage shared by columns is computed once"
    extra = (tmp_path / "bench-out/own/extra.csv").read_text().splitlines()
    assert extra[:2] == ["row,column,letters", "plain,Seed,5"]
    log.unlink()
    again = bench(*words, STUB_LOG=str(log), STUB_COLUMNS="1")
    assert again.returncode == 0
    assert not log.exists(), "the second run computes nothing"
    assert cells(tmp_path / "bench-out") == rows


@pytest.mark.parametrize(("stage", "seconds"), [("fit", "0.15"), ("alpha", "0.25")])
def test_kill_nine_then_the_same_numbers(bench, words, tmp_path, stage, seconds) -> None:
    undisturbed = bench(*words, "--store", "calm", "--out", "calm-out")
    assert undisturbed.returncode == 0, undisturbed.stderr
    run = subprocess.Popen(
        [sys.executable, "-m", "matlabel_bench", *words],
        cwd=tmp_path,
        env=environment(STUB_SECONDS=seconds),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    pattern = "fit/*/files/state.json" if stage == "fit" else "alpha/*/files/*.png"
    found = _wait_for(tmp_path / "bench-store", pattern, 2)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert not list((tmp_path / "bench-store").glob(f"{stage}/{found.parts[-3]}/done.json")), "killed too late to tell"
    before = found.stat().st_mtime_ns if stage == "alpha" else 0
    log = tmp_path / "log"
    resumed = bench(*words, STUB_LOG=str(log))
    assert resumed.returncode == 0, resumed.stderr
    assert without_time(cells(tmp_path / "bench-out")) == without_time(cells(tmp_path / "calm-out"))
    if stage == "alpha":
        assert found.stat().st_mtime_ns == before, "an image that was done is not done again"
    keys = {p.parent.name for p in (tmp_path / "calm").glob("*/*/done.json")}
    assert keys == {p.parent.name for p in (tmp_path / "bench-store").glob("*/*/done.json")}


def _wait_for(store: Path, pattern: str, count: int) -> Path:
    for _ in range(600):
        found = sorted(p for p in store.glob(pattern) if not p.name.startswith("."))
        if len(found) >= count:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"nothing like {pattern} appeared")


def test_a_training_ends_with_its_parent(words, tmp_path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "matlabel_bench", *words],
        cwd=tmp_path,
        env=environment(STUB_SECONDS="1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    state = _wait_for(tmp_path / "bench-store", "fit/*/files/state.json", 1)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(2.5)
    before = state.read_text()
    time.sleep(1.5)
    assert state.read_text() == before


def test_failures_become_reasons_and_the_rest_goes_on(bench, words, tmp_path) -> None:
    done = bench(*words, "--set", "stub-trained.broken=true")
    assert done.returncode == 1
    by = {(r["row"], r["column"]): r for r in cells(tmp_path / "bench-out")}
    assert by["plain", "Seed"]["status"] == "measured"
    failed = by["trained + matting", "shifted"]
    assert failed["status"] == "failed"
    assert "loss is nan" in failed["reason"]
    assert "fit stub-trained" in failed["reason"]
    assert "failed: " in (tmp_path / "bench-out/own/table.md").read_text()
    assert not list((tmp_path / "bench-store").glob("fit/*/done.json")), "what failed is never cached"


def test_images_that_fail_do_not_undo_the_others(bench, words, tmp_path) -> None:
    assert bench(*words, "--set", "stub-cam.fail=true").returncode == 1  # makes the data set on the way
    victim = next((tmp_path / "shapes").rglob("images/train_00003.png"))
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    done = bench(*words)
    assert done.returncode == 1
    reason = cells(tmp_path / "bench-out")[0]["reason"]
    assert victim.name in reason
    assert "what was computed is kept" in reason
    kept = list((tmp_path / "bench-store").glob("maps/*/files/*.npz"))
    assert len(kept) >= 9
    victim.write_bytes(whole)
    assert bench(*words).returncode == 0


def test_a_solver_that_gives_up_is_counted(bench, words, tmp_path) -> None:
    done = bench(*words, "--set", "stub-matting.moody=true", "--seed", "0")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "bench-out/own/table.csv").read_text()
    line = next(x for x in text.splitlines() if x.startswith("trained + matting"))
    trimaps, fallbacks = (int(word) for word in line.split(",")[-1].split(" of ")[1].split(" / "))
    assert 0 < fallbacks < trimaps, "only the images it cannot solve"


def test_numbers_do_not_depend_on_workers(bench, words, tmp_path) -> None:
    assert bench(*words, "--out", "two").returncode == 0
    assert bench(*words, "--workers", "1", "--store", "lone", "--out", "one").returncode == 0
    assert without_time(cells(tmp_path / "one")) == without_time(cells(tmp_path / "two"))


def test_two_runs_share_one_store(words, tmp_path) -> None:
    command = [sys.executable, "-m", "matlabel_bench", *words]
    log = tmp_path / "log"
    both = [
        subprocess.Popen(
            [*command, "--out", name],
            cwd=tmp_path,
            env=environment(STUB_SECONDS="0.02", STUB_LOG=str(log)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    errors = [p.communicate(timeout=200)[1] for p in both]
    assert [p.returncode for p in both] == [0, 0], errors
    assert cells(tmp_path / "a") == cells(tmp_path / "b")
    computed = log.read_text().splitlines()
    assert computed.count("fit stub-trained") == 2, "each key is computed by one of the two runs only"


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_says_how_to_go_on(words, tmp_path, by) -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "matlabel_bench", *words],
        cwd=tmp_path,
        env=environment(STUB_SECONDS="0.3"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )
    _wait_for(tmp_path / "bench-store", "fit/*/files/state.json", 1)
    run.send_signal(by)
    error = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert "same command" in error
    assert "bench-store" in error
    rows = cells(tmp_path / "bench-out")
    assert {r["status"] for r in rows if r["row"] == "trained + matting"} == {"missing"}
    assert "interrupted" in next(r["reason"] for r in rows if r["row"] == "trained + matting")


def test_masks_for_own_images(bench, tmp_path, stubs) -> None:
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b b", "c"):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(photos / f"{name}.png")
    (tmp_path / "tags.csv").write_text("a.png,cat\nb b.png,cat dog\nc.png,dog\n")
    (tmp_path / "recipe.toml").write_text(
        '[[columns]]\nname="mask"\nrefine=["stub-shift"]\nthreshold="mask-free"\n'
        '[[rows]]\nname="r"\ncam="stub-cam"\nmatting="stub-matting"\n'
    )
    (tmp_path / "stub.toml").write_text(PROFILE.replace("[shapes]\ntrain = 10\nval = 2\nsize = 64\n", ""))
    done = bench(
        "label", photos, "--tags", "tags.csv", "--out", "masks", "--recipe", "recipe.toml", "--profile", "stub.toml"
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "masks").glob("*.png")) == ["a.png", "b b.png", "c.png"]
    with Image.open(tmp_path / "masks/b b.png") as mask:
        assert mask.mode == "P"
        assert mask.size == (50, 40)
        assert set(np.unique(np.asarray(mask))) <= {0, 1, 2}
    assert (tmp_path / "masks/classes.txt").read_text() == "0 background\n1 cat\n2 dog\n"


def test_an_image_stage_takes_the_cores_of_a_training_that_ended(tmp_path, stubs, monkeypatch) -> None:
    """Of 40 images the first chunk is done beside a training; the others by all workers, each once."""
    ids = [f"i{n:02}" for n in range(40)]
    photos.write_splits(tmp_path / "photos", train=",".join(photos.IDS))
    for folder in ("images", "masks"):
        first = (tmp_path / f"photos/{folder}/a.png").read_bytes()
        for name in ids:
            (tmp_path / f"photos/{folder}/{name}.png").write_bytes(first)
    with (tmp_path / "photos/tags.csv").open("a", encoding="utf-8") as tags:
        tags.writelines(f"{name},cat\n" for name in ids)
    (tmp_path / "photos/splits/many.txt").write_text("\n".join(ids))
    monkeypatch.chdir(tmp_path)
    table = '[[columns]]\nname = "s"\nsplit = "many"\n[[rows]]\nname = "c"\ncam = "stub-cam"\n'
    runner = Runner(plans.make(photos.experiment(table, workers=2)), print)
    under_way = [object()]
    runner.trainings.running = under_way
    asked: list[tuple[int, int]] = []
    mapped = runner.workers.map

    def watched(work, items, **how):
        asked.append((len(items), how["limit"]))
        for chunk in mapped(work, items, **how | {"limit": 1}):  # stubs live in this process alone
            under_way.clear()
            yield chunk

    monkeypatch.setattr(runner.workers, "map", watched)
    monkeypatch.setattr(runner.trainings, "collect", list)
    job = next(j for j in runner.plan.jobs.values() if j.stage == "maps")
    runner._images(job)
    assert not runner.failures
    assert [limit for _, limit in asked] == [1, 0], "one worker beside the training, then all"
    assert asked[0][0] == 40
    assert 0 < asked[1][0] < 40
    files = sorted(p.stem for p in runner.plan.slot(job).files.glob("*.npz"))
    assert files == ids


def test_images_that_are_solved_together_are_so_in_the_same_groups(bench, words, tmp_path) -> None:
    (tmp_path / "own.toml").write_text(
        '[[columns]]\nname = "s"\n[[rows]]\nname = "c"\ncam = "stub-cam"\nmatting = "stub-together"\n'
    )
    log = tmp_path / "groups"
    assert bench(*words, STUB_GROUPS=str(log)).returncode == 0
    groups = log.read_text().splitlines()
    assert sorted(line.count("uint8") for line in groups) == [2, 4, 4]
    log.unlink()
    (alpha,) = (tmp_path / "bench-store/alpha").iterdir()
    files = sorted((alpha / "files").iterdir())
    before = [f.read_bytes() for f in files]
    (alpha / "done.json").unlink()
    for one in files[2], files[9]:
        one.unlink()
    assert bench(*words, STUB_GROUPS=str(log)).returncode == 0
    assert [f.read_bytes() for f in files] == before
    again = log.read_text().splitlines()
    assert set(again) < set(groups), "an interrupted group is solved as it was"
    assert len(again) == 2


OTHERS = """
[[columns]]
name = "told"
refine = ["stub-hints"]
threshold = "fixed"
[[columns]]
name = "uncertain"
matting = "stub-matting"
[[rows]]
name = "cam"
cam = "stub-cam"
trimap = "uncertainty"
"""


def test_ids_folders_notes_and_views_on_the_way_through_a_run(tmp_path, stubs, monkeypatch) -> None:
    """The hints say class 1 of image `b b` and 2 of `ç`; masks hold 64 pixels of 1 and 60 of 2 among 480."""
    photos.write_splits(tmp_path / "photos")
    (tmp_path / "photos/hints").mkdir()
    for name, hint in (("b b", "1"), ("ç", "2")):
        (tmp_path / f"photos/hints/{name}.txt").write_text(hint)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUB_CALLS", str(tmp_path / "calls"))
    done = run(photos.experiment(OTHERS, photos.SPLITS, out=tmp_path / "out"), print)
    assert done.code == 0
    told, uncertain = done.cells["t"]
    assert told.value == pytest.approx(100 * (0 + 64 / (128 + 480 - 64) + 60 / (120 + 480 - 60)) / 3)
    assert told.supervision == "tags+hints"
    assert "hints: told, not learned" in (tmp_path / "out/t/table.md").read_text()
    assert uncertain.status == "measured"
    assert uncertain.supervision == "tags"
    calls = [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls.count("cam") == 2 * (1 + 6), "each image once, and six views of it"
    assert len(list((tmp_path / "store/views").glob("*/files/*.npz"))) == 2


def test_a_hint_that_lacks_fails_its_cell_alone(tmp_path, stubs, monkeypatch) -> None:
    photos.write_splits(tmp_path / "photos")
    (tmp_path / "photos/hints").mkdir()
    (tmp_path / "photos/hints/ç.txt").write_text("1")
    monkeypatch.chdir(tmp_path)
    done = run(photos.experiment(OTHERS, photos.SPLITS, out=tmp_path / "out"), print)
    assert done.code == 1
    told, uncertain = done.cells["t"]
    assert (told.status, uncertain.status) == ("failed", "measured")
    assert "refine stub-hints" in told.reason
    assert "image b b, and 1 more: ç" in told.reason, "class 1 is no tag of the other"
