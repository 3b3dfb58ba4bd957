"""What a native matting compiles, it compiles when it is opened: once and announced, not later in every worker."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = """
import json, sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from matlabel_bench import registry

part = registry.start()[0].make("matting", sys.argv[1])
live = part.open(None)

def compiled():
    modules = [m for name, m in list(sys.modules.items()) if name.startswith("matlabel_mattings.")]
    made = {f"{d.py_func.__module__}.{d.py_func.__name__}": len(d.signatures)
            for m in modules for d in vars(m).values() if isinstance(d, Dispatcher)}
    return {name: number for name, number in made.items() if number}

before = compiled()
y, x = np.mgrid[:40, :50]
disc = np.exp(-((y - 18) ** 2 + (x - 22) ** 2) / 160.0)
noise = np.random.default_rng(0).choice([0, 255], (40, 50, 1)).repeat(3, 2).astype(np.uint8)
for image in (np.stack([x * 4, y * 4, x + y], 2).astype(np.uint8), noise):
    trimap = np.where(disc > 0.7, 255, np.where(disc < 0.1, 0, 128)).astype(np.uint8)
    live(image, (disc.astype(np.float32) if sys.argv[1] == "prior_knn" else trimap)[None])
print(json.dumps([before, compiled()]))
"""


@pytest.mark.parametrize("name", ["closed_form", "knn", "lbdm", "prior_knn", "random_walk"])
def test_a_solve_compiles_nothing_that_opening_did_not(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    opened, solved = json.loads(done.stdout)
    assert len(opened) > 5  # those that Python calls; what they call is part of them
    assert solved == opened
