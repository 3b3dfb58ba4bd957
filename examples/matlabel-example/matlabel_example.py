"""Guided-filter matting: a trimap smoothed along the edges of its image.

Source: He, Sun, Tang: Guided Image Filtering, ECCV 2010, equations 5, 6 and 8; section 5 proposes it for feathering.
Deviations: the guide is grey, the trimap (0, 0.5, 1) stands for the binary mask, known pixels keep their value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from matlabel_bench.fields import knob
from matlabel_bench.registry import Registry
from matlabel_bench.spec import hookimpl
from matlabel_bench.types import UNKNOWN, Alpha, Image, Trimap


@dataclass(frozen=True)
class GuidedFilter:
    """Guided-filter matting (He et al. 2010): fast, local, no linear system."""

    radius: int = knob(8, "pixels from the window's middle to its edge (r)", low=1)
    eps: float = knob(1e-4, "smoothing, in squared grey levels of [0, 1] (epsilon)", low=1e-8)

    version: ClassVar[int] = 1
    cost: ClassVar[float] = 0.1
    published_in: ClassVar[str] = "He, Sun, Tang: Guided Image Filtering. ECCV 2010"

    def open(self, out: Path | None) -> Callable[[Image, Trimap], Alpha]:
        def solve(image: Image, trimap: Trimap) -> Alpha:
            guide = image.mean(axis=2) / 255
            alpha = np.zeros(trimap.shape, np.float32)
            for plane, known in zip(alpha, trimap, strict=True):
                rough = np.where(known == UNKNOWN, 0.5, known / 255)
                plane[:] = np.where(known == UNKNOWN, np.clip(self.filter(guide, rough), 0, 1), rough)
            return alpha

        return solve

    def filter(self, guide: np.ndarray, rough: np.ndarray) -> np.ndarray:
        """`rough` as a locally linear function of `guide`; both h w."""
        mean_guide, mean_rough = self.box(guide), self.box(rough)
        covariance = self.box(guide * rough) - mean_guide * mean_rough
        slope = covariance / (self.box(guide * guide) - mean_guide**2 + self.eps)
        return self.box(slope) * guide + self.box(mean_rough - slope * mean_guide)

    def box(self, plane: np.ndarray) -> np.ndarray:
        """Mean over the part of each pixel's window that lies in the image, by sums along one axis, then the other."""
        for axis in (0, 1):
            sums = np.insert(np.cumsum(plane, axis=axis), 0, 0, axis=axis)
            here = np.arange(plane.shape[axis])
            high, low = np.minimum(here + self.radius + 1, len(here)), np.maximum(here - self.radius, 0)
            count = np.expand_dims(high - low, 1 - axis)
            plane = (np.take(sums, high, axis=axis) - np.take(sums, low, axis=axis)) / count
        return plane


@hookimpl
def matlabel_register(registry: Registry) -> None:
    registry.add("matting", "guided_filter", GuidedFilter)
