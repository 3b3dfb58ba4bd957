"""Parts for `bench perf`: what they are wrong by, against a reference and against the exact solution, is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from stub_parts import StubMatting, StubRefiner

from matlabel_bench.errors import UsageError
from matlabel_bench.fields import knob

EXACT = 0.55


@dataclass(frozen=True)
class StubMeasured(StubMatting):
    """`value` where the trimap is unknown, which should be 0.55; its reference says 0.45, or is not installed."""

    value: float = knob(0.6, "alpha of unknown pixels", low=0.0, high=1.0)
    lacks: bool = knob(False, "the reference is not installed")
    absent: bool = knob(False, "this part is not installed")

    def open(self, out):
        if self.absent:
            raise UsageError("slowmatting to be installed", "no module", "run: pip install slowmatting")
        live = super().open(out)

        def matting(image, trimap):
            return np.where(trimap == 128, np.float32(self.value), live(image, trimap))

        return matting

    def reference(self):
        return replace(self, value=0.45, absent=self.lacks)

    def exact(self, image, trimap):
        return np.where(trimap == 128, np.float32(EXACT), trimap.astype(np.float32) / 255)


@dataclass(frozen=True)
class StubPieced(StubRefiner):
    """A refiner of which only a piece can be measured, at a size of its own."""

    version: ClassVar[int] = 1

    def piece(self):
        return Piece()


@dataclass(frozen=True)
class Piece:
    """Scores as they come; its reference calls everything background."""

    other: bool = False
    reference_size: ClassVar[tuple[int, int]] = (24, 40)

    def reference(self):
        return Piece(other=True)

    def open(self, out):
        def refine(image, tags, scores):
            return np.zeros(image.shape[:2], np.uint8) if self.other else scores

        return refine


def register(registry) -> None:
    """Called by the hook of stub_parts."""
    registry.add("matting", "stub-measured", StubMeasured)
    registry.add("refiner", "stub-pieced", StubPieced)
