"""The doctor: a healthy installation passes, and each ailment is found with its remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from matlabel_bench import doctor
from matlabel_bench.doctor import Check

Bench = Callable[..., subprocess.CompletedProcess[str]]


def named(checks: object) -> dict[str, Check]:
    return {c.name: c for c in checks}  # type: ignore[attr-defined]


def test_this_installation_is_fit_for_use(bench: Bench) -> None:
    done = bench("doctor", "--json")
    checks = {c["name"]: c for c in json.loads(done.stdout)}
    assert [c for c in checks.values() if c["status"] == "fail"] == []
    assert done.returncode == 0
    assert {"Python", "packages", "import torch", "import cv2", "device", "threads", "store"} <= set(checks)
    assert "matlabel-bench" in checks["plugin mattings"]["message"]
    assert "knn" in checks["plugin mattings"]["message"]
    assert all(c["remedy"] for c in checks.values() if c["status"] != "ok")


def test_one_failure_makes_exit_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from matlabel_bench.cli import main

    found = [Check("a", "ok", "fine"), Check("b", "warn", "slow", "wait"), Check("c", "fail", "gone", "install it")]
    monkeypatch.setattr(doctor, "examine", lambda store: found)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out == (
        "ok    a: fine\nwarn  b: slow\n      remedy: wait\nfail  c: gone\n      remedy: install it\n"
    )
    monkeypatch.setattr(doctor, "examine", lambda store: found[:2])
    assert main(["doctor"]) == 0


def test_another_python(monkeypatch: pytest.MonkeyPatch) -> None:
    version = namedtuple("version", "major minor micro releaselevel serial")
    monkeypatch.setattr(sys, "version_info", version(3, 13, 1, "final", 0))
    (check,) = doctor._python()
    assert (check.status, check.message) == ("fail", "3.13.1")
    assert "3.11 or 3.12" in check.remedy


def test_packages_that_are_absent_or_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor, "requires", lambda name: ["numpy>=99", "no-such-package>=2", 'x>=1; extra == "cluster"']
    )
    checks = named(doctor._requirements())
    assert set(checks) == {"package numpy", "package no-such-package"}
    assert checks["package numpy"].status == "warn"
    assert "tested with >=99" in checks["package numpy"].message
    assert checks["package no-such-package"].status == "fail"
    assert checks["package no-such-package"].remedy == "pip install 'no-such-package>=2'"


def test_a_fork_beside_the_official_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in ("onedl-mmengine", "mmengine", "pydensecrf2"):
            return "1.0"
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", version)
    (check,) = doctor._forks()
    assert (check.name, check.status) == ("one mmengine", "warn")
    assert check.message == "onedl-mmengine and mmengine write into the same folder"
    assert check.remedy == "pip uninstall onedl-mmengine mmengine, then pip install onedl-mmengine"


def test_a_library_that_does_not_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    (tmp_path / "crashing.py").write_text("import os; os._exit(139)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "LIBRARIES", {"cv2": doctor.LIBRARIES["cv2"], "crashing": "mend it", "json": ""})
    checks = named(doctor._libraries())
    assert checks["import cv2"].status == "fail"
    assert "libGL.so.1" in checks["import cv2"].message
    assert "libgl1 libglib2.0-0" in checks["import cv2"].remedy
    assert checks["import crashing"].message == "exit status 139"
    assert checks["import json"].status == "ok"


def test_folders_that_cannot_be_written_or_are_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "a" / "b"
    (check,) = doctor._folder("store", store, "--store")
    assert check.status in ("ok", "warn")
    assert not (tmp_path / "a").exists(), "looking creates nothing"
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: namedtuple("usage", "free")(2 * doctor.GIB))
    (check,) = doctor._folder("store", store, "--store")
    assert (check.status, check.message) == ("warn", f"{store}, 2.0 GiB free")
    (tmp_path / "a").write_text("a file")
    (check,) = doctor._folder("store", store, "--store")
    assert check.status == "fail"
    assert "--store" in check.remedy


def test_solvers_that_are_not_compiled_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    (check,) = doctor._compiled()
    assert check.status == "warn"
    assert "30 to 60 s" in check.message
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "solver.nbi").touch()
    (check,) = doctor._compiled()
    assert (check.status, check.message) == ("ok", "compiled")


def test_a_card_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, "\n", ""))
    monkeypatch.setattr(doctor.record, "gpus", lambda: ["NVIDIA Test"])
    (check,) = doctor._device()
    assert check.status == "warn"
    assert "torch cannot use NVIDIA Test" in check.message
    monkeypatch.setattr(doctor.record, "gpus", list)
    (check,) = doctor._device()
    assert check.status == "ok"
    assert "--device cpu" in check.message
