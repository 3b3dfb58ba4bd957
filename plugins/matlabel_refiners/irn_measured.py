"""IRN's random walk as a refiner of its own, sparse or dense: what `bench perf` measures of IRN.

The dense walk is that of jiwoon-ahn/irn at a2ece00 (misc/indexing.py, propagate_to_edge): the matrix written out in
float32 and multiplied by itself exp_times times. docs/equivalence/irn_walk.py runs the reference's own code, of which
nothing stands here. Boundaries are the image's grey steps, so that no network is needed; they cost both walks the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from matlabel_bench.types import Cams, Image, Label, Tags

if TYPE_CHECKING:
    from matlabel_refiners.irn_walk import Grid, Planes


@dataclass(frozen=True)
class Walk:
    """The walk on the maps of an image, from maps to a label."""

    radius: int
    beta: float
    exp_times: int
    threshold: float
    dense: bool = False

    takes: ClassVar[str] = "maps"
    reference_size: ClassVar[tuple[int, int]] = (192, 256)
    """Of images whose dense walk takes seconds: eight cubes of 3,072 cells."""

    def reference(self) -> Walk:
        """The dense walk."""
        return replace(self, dense=True)

    def open(self, out: Path | None) -> Callable[[Image, Tags, Cams], Label]:
        """The live refiner: a label of 0 and the tags."""
        from matlabel_refiners import irn_walk

        walk = _dense if self.dense else irn_walk.walk

        def refine(image: Image, tags: Tags, maps: Cams) -> Label:
            size = (image.shape[0], image.shape[1])
            walked = walk(_steps(image), irn_walk.cells(maps), self.radius, self.beta, 2**self.exp_times)
            return irn_walk.label(walked, size, self.threshold, tags)

        return refine


def _steps(image: Image) -> Grid:
    """Grey steps between neighbouring cells, in [0, 1]."""
    from matlabel_refiners.irn_walk import cells

    grey = cells(image.mean(axis=2, dtype=np.float32)[None])[0]
    steps: Grid = np.hypot(*np.gradient(grey)).astype(np.float32) if min(grey.shape) > 1 else np.zeros_like(grey)
    return steps / max(float(steps.max()), 1e-6)


def _dense(boundary: Grid, maps: Planes, radius: int, beta: float, steps: int) -> Planes:
    """`irn_walk.walk` by the power of a dense matrix; `steps` is a power of two."""
    from matlabel_refiners.irn_walk import transitions

    matrix = transitions(boundary, radius, beta).toarray().astype(np.float32)
    for _ in range(steps.bit_length() - 1):
        matrix = matrix @ matrix
    start = (maps * (1 - boundary)).reshape(len(maps), -1)
    walked: Planes = (start @ matrix.T).reshape(maps.shape)
    return walked
