"""The native matting solvers against PyMatting called once a class: CPU time in one thread, in turns, medians of three.

Trimaps of three classes are blobs cut at 0.75 and 0.2. Alphas are compared with a tight solution of the same system:
conjugate gradients of 1e-12 (knn, closed_form), or SuperLU where those do not get there (lbdm, random_walk: minutes an
image and some GB; without --tight only times are shown).

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python docs/matting_speed.py [--tight] METHOD IMAGE...
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pymatting
import scipy.sparse.linalg
from blobs import blobs

from matlabel_bench.images import read_image
from matlabel_bench.types import Image, Trimap
from matlabel_mattings.closed_form import ClosedForm
from matlabel_mattings.knn import Knn
from matlabel_mattings.lbdm import Lbdm
from matlabel_mattings.random_walk import RandomWalk

METHODS: dict[str, tuple[Any, Any, Any]] = {
    "knn": (Knn, pymatting.estimate_alpha_knn, pymatting.knn_laplacian),
    "closed_form": (ClosedForm, pymatting.estimate_alpha_cf, pymatting.cf_laplacian),
    "lbdm": (Lbdm, pymatting.estimate_alpha_lbdm, pymatting.lbdm_laplacian),
    "random_walk": (RandomWalk, pymatting.estimate_alpha_rw, pymatting.rw_laplacian),
}
REPEATS = 3


def timed(calls: list[Callable[[], Any]]) -> tuple[list[float], list[Any]]:
    """Median seconds of CPU time of each, called in turns, and the last results."""
    times, results = np.empty((REPEATS, len(calls))), []
    for turn in times:
        results = []
        for i, call in enumerate(calls):
            start = time.process_time()
            results.append(call())
            turn[i] = time.process_time() - start
    return list(np.median(times, axis=0)), results


def tight(name: str, laplacian: Any, plane: np.ndarray) -> np.ndarray:
    """The solution of PyMatting's system of one class."""
    f, unknown = (plane == 255).astype(float), (plane == 128).ravel()
    if name == "closed_form":
        x = f.ravel()
        rows = laplacian[unknown]
        system = rows[:, unknown].tocsr()
        x[unknown] = pymatting.cg(system, -(rows @ x), M=pymatting.ichol(system), rtol=1e-12)
    else:
        system, target = pymatting.make_linear_system(laplacian, plane / 255.0)
        if name == "knn":
            x = pymatting.cg(system, target, M=pymatting.jacobi(system), rtol=1e-12)
        else:
            options = {"SymmetricMode": True}
            lu = scipy.sparse.linalg.splu(system.tocsc(), "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
            x = lu.solve(target)
    alpha: np.ndarray = np.clip(x, 0, 1).reshape(plane.shape)
    return alpha


def compare(name: str, solve: Callable[[Image, Trimap], Any], image: Image, trimap: Trimap, exactly: bool) -> Any:
    """Ratios of CPU time for one class and for three, and (largest, mean) differences: ours, then PyMatting's."""
    colours = image / 255.0
    estimate, laplacian = METHODS[name][1:]
    calls: list[Callable[[], Any]] = [lambda: solve(image, trimap[:1]), lambda: solve(image, trimap)]
    calls += [partial(estimate, colours, plane / 255.0) for plane in trimap]
    (one, three, *seconds), (_, native, *theirs) = timed(calls)
    apart = []
    if exactly:
        matrix = laplacian(colours)
        exact = np.stack([tight(name, matrix, plane) for plane in trimap])
        unknown = trimap == 128
        apart = [(off.max(), off.mean()) for off in (np.abs(a - exact)[unknown] for a in (native, np.stack(theirs)))]
    return (seconds[0] / one, sum(seconds) / three), apart


def main(arguments: list[str]) -> None:
    exactly = "--tight" in arguments
    name, *paths = [a for a in arguments if a != "--tight"]
    solve = METHODS[name][0](backend="native").open(None)
    ratios, differences = [], []
    for seed, path in enumerate(paths):
        image = read_image(Path(path))
        times, apart = compare(name, solve, image, blobs(*image.shape[:2], seed), exactly)
        ratios.append(times)
        differences.append(apart)
        print(f"{Path(path).name} {image.shape[:2]}: {times[0]:.1f}x, three classes {times[1]:.1f}x", flush=True)
    median = np.median(ratios, axis=0)
    print(f"{name}: median {median[0]:.1f}x, {median[1]:.1f}x")
    if exactly:
        (most, mean), (their_most, their_mean) = np.transpose(differences, (1, 2, 0))
        print(f"difference of alpha in the unknown region: largest {most.max():.1e}, mean {mean.mean():.1e}")
        print(f"PyMatting's: largest {their_most.max():.1e}, mean {their_mean.mean():.1e}")


if __name__ == "__main__":
    main(sys.argv[1:])
