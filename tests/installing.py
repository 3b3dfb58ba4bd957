"""Installing a one-module plugin for a test without pip, which would need the network for build requirements.

What pip leaves behind is laid out by hand: the module, and a `.dist-info` folder whose entry_points.txt holds the line
of its pyproject.toml. `importlib.metadata`, and so the registry, cannot tell the difference.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path


def install(source: Path, site: Path) -> None:
    """Lay out the distribution whose pyproject.toml lies in `source` in the folder `site`."""
    project = tomllib.loads((source / "pyproject.toml").read_text())
    meta, (module,) = project["project"], project["tool"]["setuptools"]["py-modules"]
    site.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / f"{module}.py", site)
    if (source / "images").is_dir():
        shutil.copytree(source / "images", site / "images")
    info = site / f"{meta['name'].replace('-', '_')}-{meta['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {meta['name']}\nVersion: {meta['version']}\n")
    lines = [f"{name} = {target}" for name, target in meta["entry-points"]["matlabel_bench"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[matlabel_bench]", *lines, ""]))


def run_bench(
    *words: str, cwd: Path, sites: Sequence[Path] = (), module: str = "matlabel_bench", **variables: str
) -> subprocess.CompletedProcess[str]:
    """`bench` (or another module) in a process of its own, in the folder `cwd`, seeing what the `sites` hold."""
    path = os.pathsep.join([*map(str, sites), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"PYTHONPATH": path} | variables
    return subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, cwd=cwd, env=env)
