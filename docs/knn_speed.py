"""KNN matting's native solver against PyMatting called once a class: CPU time in one thread, one after the other.

Trimaps of three classes are blobs cut at 0.75 and 0.2. Alphas are compared with conjugate gradients of 1e-12.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python docs/knn_speed.py IMAGE...
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pymatting

from matlabel_bench.images import read_image
from matlabel_bench.types import Trimap
from matlabel_mattings.knn import Knn


def blobs(height: int, width: int, seed: int) -> Trimap:
    """Three classes, the first twice as wide as the others."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = []
    for count, reach in ((3, 0.17), (2, 0.085), (2, 0.085)):
        cy, cx = rng.uniform(0.2, 0.8, (2, count, 1, 1)) * np.array([height, width]).reshape(2, 1, 1, 1)
        spread = reach * min(height, width) * rng.uniform(0.8, 1.3, (count, 1, 1))
        map_ = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * spread**2)).sum(0)
        map_ /= map_.max()
        planes.append(np.where(map_ >= 0.75, 255, np.where(map_ <= 0.2, 0, 128)))
    return np.stack(planes).astype(np.uint8)


def main(paths: list[str]) -> None:
    solve = Knn(backend="native").open(None)
    ratios, worst = [], np.zeros(2)
    for seed, path in enumerate(paths):
        image = read_image(Path(path))
        trimap, colours = blobs(*image.shape[:2], seed), image / 255.0
        times, theirs = [time.process_time()], []
        native = [solve(image, trimap[:1]), solve(image, trimap)][1]
        times.append(time.process_time())
        solve(image, trimap)
        times.append(time.process_time())
        for plane in trimap:
            theirs.append(pymatting.estimate_alpha_knn(colours, plane / 255.0))
            times.append(time.process_time())
        three = times[2] - times[1]
        one = times[1] - times[0] - three
        ratios.append(((times[3] - times[2]) / one, (times[5] - times[2]) / three))
        laplacian = pymatting.knn_laplacian(colours)
        for plane, ours, other in zip(trimap, native, theirs, strict=True):
            a, b = pymatting.make_linear_system(laplacian, plane / 255.0)
            tight = np.clip(pymatting.cg(a, b, M=pymatting.jacobi(a), rtol=1e-12), 0, 1).reshape(plane.shape)
            worst = np.maximum(worst, [np.abs(ours - tight).max(), np.abs(other - tight).max()])
        print(
            f"{Path(path).name} {image.shape[:2]}: {ratios[-1][0]:.1f}x, three classes {ratios[-1][1]:.1f}x", flush=True
        )
    median = np.median(ratios, axis=0)
    print(f"median {median[0]:.1f}x, {median[1]:.1f}x")
    print(f"largest difference of alpha {worst[0]:.1e}, PyMatting's {worst[1]:.1e}")


if __name__ == "__main__":
    main(sys.argv[1:])
