"""`bench doctor`: what is wrong with this installation, each finding with its remedy.

Libraries are tried in a process of their own, so that one that crashes on import is a finding and not the end.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from pathlib import Path
from typing import Literal

from matlabel_bench import record
from matlabel_bench.errors import BenchError
from matlabel_bench.workers import THREAD_VARIABLES, cores

Status = Literal["ok", "warn", "fail"]
FORKS = {
    "mmengine": ("onedl-mmengine", "mmengine"),
    "mmcv": ("onedl-mmcv", "mmcv", "mmcv-lite", "mmcv-full"),
    "mmseg": ("onedl-mmsegmentation", "mmsegmentation"),
    "pydensecrf": ("pydensecrf2", "pydensecrf"),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
"""Import name -> distributions that write into the same folder: two of them side by side break each other."""
LIBRARIES = {
    "torch": "pip install 'torch>=2.11,<2.14'",
    "cv2": "on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0; elsewhere install opencv-python-headless instead",
    "mmengine": "pip install onedl-mmengine",
    "mmseg": "pip install onedl-mmsegmentation onedl-mmcv",
    "pydensecrf.densecrf": "pip install pydensecrf2 (needs a C++ compiler: apt-get install g++)",
    "scipy.sparse": "pip install scipy",
    "pandas": "pip install pandas",
}
GIB = 2**30
ROOM = 5.0
"""GiB below which a run on real images is likely to fill the disk."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `ok`, `warn` (works, but) or `fail` (some part cannot work)."""

    name: str
    status: Status
    message: str
    remedy: str = ""


def examine(store: Path) -> list[Check]:
    """All checks, in the order a newcomer should repair what fails. Takes some seconds: libraries are imported."""
    groups: tuple[Callable[[], Iterator[Check]], ...] = (
        _python,
        _requirements,
        _forks,
        _libraries,
        _device,
        _threads,
        lambda: _folder("store", store, "--store or MATLABEL_BENCH_STORE"),
        lambda: _folder("cache of weights", _torch_home(), "TORCH_HOME"),
        _compiled,
        _plugins,
    )
    return [check for group in groups for check in group()]


def line(check: Check) -> str:
    """One finding for a reader; the remedy on a line of its own."""
    remedy = f"\n      remedy: {check.remedy}" if check.remedy and check.status != "ok" else ""
    return f"{check.status:<4}  {check.name}: {check.message}{remedy}"


def _python() -> Iterator[Check]:
    text = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Check("Python", "ok" if fits else "fail", text, "" if fits else "use Python 3.11 or 3.12")


def _requirements() -> Iterator[Check]:
    """Every dependency the installed package declares, with its version."""
    try:
        from packaging.requirements import Requirement

        declared = [Requirement(text) for text in requires("matlabel-bench") or ()]
    except ImportError as err:  # also PackageNotFoundError: the project itself is not installed
        yield Check("packages", "fail", f"cannot be looked up: {err}", "pip install -e . in the checkout")
        return
    bad = False
    for need in declared:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        if (got := _version(need.name)) is None:
            bad = True
            yield Check(f"package {need.name}", "fail", f"absent, {need} is needed", f"pip install '{need}'")
        elif not need.specifier.contains(got, prereleases=True):
            bad = True
            yield Check(f"package {need.name}", "warn", f"{got}, tested with {need.specifier}", f"pip install '{need}'")
    if not bad:
        yield Check("packages", "ok", ", ".join(f"{k} {v}" for k, v in record.versions().items()))


def _forks() -> Iterator[Check]:
    for name, rivals in FORKS.items():
        present = [r for r in rivals if _version(r)]
        if len(present) > 1:
            yield Check(
                f"one {name}",
                "warn",
                f"{' and '.join(present)} write into the same folder",
                f"pip uninstall {' '.join(present)}, then pip install {present[0]}",
            )


def _libraries() -> Iterator[Check]:
    """Import each in a process of its own: missing system libraries and crashes show here."""
    for name, remedy in LIBRARIES.items():
        try:
            done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            yield Check(f"import {name}", "fail", "took more than five minutes", remedy)
            continue
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        yield (
            Check(f"import {name}", "ok", "works")
            if not done.returncode
            else Check(f"import {name}", "fail", last, remedy)
        )


def _device() -> Iterator[Check]:
    code = "import torch; print(*[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())], sep=', ')"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        yield Check("device", "warn", "asking torch for graphics cards took too long", "restart the driver")
        return
    if names := done.stdout.strip():
        yield Check("device", "ok", f"--device cuda: {names}")
    elif record.gpus():
        yield Check(
            "device",
            "warn",
            f"torch cannot use {', '.join(record.gpus())}",
            "install a torch built for CUDA (https://pytorch.org/get-started/locally)",
        )
    else:
        yield Check("device", "ok", f"no graphics card; --device cpu on {cores()} cores")


def _threads() -> Iterator[Check]:
    wide = [f"{n}={os.environ[n]}" for n in THREAD_VARIABLES if os.environ.get(n, "1") != "1"]
    yield Check(
        "threads",
        "ok",
        f"{', '.join(wide)} set here; workers are pinned to one thread each" if wide else "pinned by the workers",
    )


def _folder(name: str, folder: Path, setting: str) -> Iterator[Check]:
    """Writable, and room on its disk; asked of the nearest folder that exists, so that nothing is created."""
    nearest = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            free = shutil.disk_usage(nearest).free / GIB
    except OSError as err:
        yield Check(
            name, "fail", f"{folder} cannot be written ({err.strerror})", f"choose another folder with {setting}"
        )
        return
    room = f"{folder}, {free:.1f} GiB free"
    if free < ROOM:
        yield Check(
            name,
            "warn",
            room,
            f"free some space, or choose another disk with {setting}; `bench plan` says what a run needs",
        )
    else:
        yield Check(name, "ok", room)


def _compiled() -> Iterator[Check]:
    """PyMatting compiles itself on first import, which takes most of a minute unless numba can keep the result."""
    spec = importlib.util.find_spec("pymatting")
    if spec is None or spec.origin is None:
        yield Check("matting solvers", "fail", "pymatting is not installed", "pip install pymatting")
        return
    package = Path(spec.origin).parent
    kept = Path(os.environ.get("NUMBA_CACHE_DIR") or package)
    if next(kept.rglob("*.nbi"), None) is not None:
        yield Check("matting solvers", "ok", "compiled")
    elif os.access(package, os.W_OK) or os.environ.get("NUMBA_CACHE_DIR"):
        yield Check(
            "matting solvers",
            "warn",
            "not compiled yet; the first matting waits 30 to 60 s",
            "once: python -c 'import pymatting'",
        )
    else:
        yield Check(
            "matting solvers",
            "warn",
            f"{package} is read-only: numba compiles them anew in every process unless it finds another place",
            "set NUMBA_CACHE_DIR to a folder you may write",
        )


def _plugins() -> Iterator[Check]:
    try:
        from matlabel_bench.registry import BLOCK, start

        blocked = {b.strip() for b in os.environ.get(BLOCK, "").split(",")} - {""}
        parts = list(start()[0])
    except ImportError as err:
        yield Check("plugins", "fail", f"cannot be loaded: {err}", "install the packages named above")
        return
    except BenchError as err:
        yield Check("plugins", "fail", f"expected {err.expected}, got {err.got}", err.remedy)
        return
    for point in sorted(entry_points(group="matlabel_bench")):
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        if point.name in blocked:
            yield Check(
                f"plugin {point.name}", "warn", f"{origin}, blocked by {BLOCK}", f"unset {BLOCK} to have it back"
            )
            continue
        names = [e.name for e in parts if e.cls.__module__.split(".")[0] == point.module.split(".")[0]]
        yield Check(f"plugin {point.name}", "ok", f"{origin}: {', '.join(names) or 'no parts'}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _torch_home() -> Path:
    home = os.environ.get("TORCH_HOME")
    return Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
