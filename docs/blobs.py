"""Trimaps for docs/knn_gpu.py, like those of `bench perf` but cut pixel by pixel.

reports/knn-h200 was measured on them.
"""

from __future__ import annotations

import numpy as np

from matlabel_bench.types import Trimap


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
