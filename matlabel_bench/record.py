"""What a result was made with: versions, hardware, threads and the state of the source.

Nothing here names a person or a machine: no home folder, no user name, no host name, so that records can be
committed and shared. Nothing heavy is imported either: versions come from the installed metadata, and torch is asked
about graphics cards only where it is loaded already.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from matlabel_bench import __version__
from matlabel_bench.workers import THREAD_VARIABLES, cores

PACKAGES: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "pymatting": ("pymatting",),
    "mmengine": ("onedl-mmengine", "mmengine"),
    "mmcv": ("onedl-mmcv", "mmcv", "mmcv-lite"),
    "mmseg": ("onedl-mmsegmentation", "mmsegmentation"),
    "pydensecrf": ("pydensecrf2", "pydensecrf"),
    "pandas": ("pandas",),
    "pillow": ("pillow",),
    "numba": ("numba",),
}
"""Import name -> the distributions that may provide it, the one we depend on first."""

VECTORS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Instructions by which processors of one name differ in speed, as Linux calls them; the last three are ARM's."""

ABSOLUTE = re.compile(
    r"(?<![\w.:/\\~-])(?:/(?:[^\s/:;,'\"]+/)+|[A-Za-z]:\\(?:[^\s\\;,'\"]+\\)+|~[/\\](?:[^\s/\\:;,'\"]+[/\\])*)"
)
"""The folder part of an absolute path, POSIX or Windows, wherever in a text it stands; not that of an address."""

HOME = re.compile(r"(?<![\w.:/\\-])(?:/(?:home|Users)|[A-Za-z]:\\Users)[/\\][^/\\\s:;,'\"]+")
"""Somebody's home folder."""


def environment() -> dict[str, Any]:
    """Package, Python, platform, processor, memory, graphics cards, threads, versions, plugins and git state.

    All values are JSON. Cheap enough to be called for every stage: some tens of milliseconds, once in a process for
    what cannot change.
    """
    return {
        "matlabel_bench": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "hardware": hardware(),
        "threads": threads(),
        "versions": versions(),
        "plugins": plugins(),
        "source": source(),
    }


def hardware() -> dict[str, Any]:
    """Processor with its vector instructions, cores, memory and graphics cards."""
    return dict(_hardware()) | {"gpus": gpus()}


def versions() -> dict[str, str]:
    """Import name -> version of the distribution that provides it; names not installed are left out."""
    found = {name: _first_version(distributions) for name, distributions in PACKAGES.items()}
    return {name: text for name, text in found.items() if text}


def plugins() -> dict[str, str]:
    """Entry point -> distribution and version of each installed plugin, loaded or not."""
    found = entry_points(group="matlabel_bench")
    return {e.name: f"{e.dist.name} {e.dist.version}" if e.dist else e.value for e in sorted(found)}


def threads() -> dict[str, int | str]:
    """The pinned thread counts, and torch's own where torch is loaded."""
    out: dict[str, int | str] = {name: os.environ.get(name, "unset") for name in THREAD_VARIABLES}
    if torch := sys.modules.get("torch"):
        out["torch"] = int(torch.get_num_threads())
    return out


def gpus() -> list[str]:
    """Names of the NVIDIA cards: from torch where it is loaded, else from the driver's own listing on Linux."""
    if torch := sys.modules.get("torch"):
        return [str(torch.cuda.get_device_name(i)) for i in range(torch.cuda.device_count())]
    return list(_driver_gpus())


def source(root: Path | None = None) -> dict[str, Any] | None:
    """Commit and whether tracked files differ from it; None where the package runs from no git checkout."""
    root = root or Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    commit, changes = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "dirty": bool(changes)}


def scrub(value: Any) -> Any:
    """The same JSON value with the folder of every absolute path removed: `/home/ann/voc/a.png` becomes `…/a.png`.

    Paths below the current folder become relative to it, so that a record says as much as it may.
    """
    if isinstance(value, Mapping):
        return {key: scrub(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    if isinstance(value, Path):
        return scrub(str(value))
    if not isinstance(value, str):
        return value
    here = str(Path.cwd())
    if value == here:
        return "."
    short = value.replace(here + os.sep, "") if len(here) > 1 else value
    return ABSOLUTE.sub("…/", HOME.sub("~", short.replace(str(Path.home()), "~")))


def _first_version(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        with contextlib.suppress(PackageNotFoundError):
            return version(name) if len(distributions) == 1 else f"{version(name)} ({name})"
    return None


@lru_cache(maxsize=1)
def _hardware() -> dict[str, Any]:
    cpu, vectors = _processor()
    return {
        "cpu": cpu,
        "vectors": vectors,
        "cores": cores(),
        "cores_of_machine": os.cpu_count(),
        "memory_gib": _memory(),
    }


def _processor() -> tuple[str, list[str]]:
    """Name of the processor, and which VECTORS it has where the system tells."""
    told: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, text = line.partition(":")
            told.setdefault(name.strip().lower(), text.strip())
    known = told.get("flags", told.get("features", "")).split()
    named = told.get("model name") or told.get("hardware") or platform.processor() or platform.machine()
    return named, [name for name in VECTORS if name in known]


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


@lru_cache(maxsize=1)
def _driver_gpus() -> tuple[str, ...]:
    names = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Model:"):
                names.append(line.partition(":")[2].strip())
    return tuple(names)


def _git(root: Path, *words: str) -> str | None:
    """Output of a git command, or None: git absent, not a repository, or too slow to wait for."""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
