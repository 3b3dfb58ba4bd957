"""The dense CRF over all labels of a data set, as pydensecrf is commonly called: what `bench perf` holds `crf` against.

Labels that an image cannot have are given the least probability. Those it can have keep their energies, so that labels
agree and the number of planes is all that differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matlabel_bench.types import Image, Scores, Tags

if TYPE_CHECKING:
    from matlabel_refiners.crf import Crf


@dataclass(frozen=True)
class EveryLabel:
    """`crf` over more labels than an image has."""

    crf: Crf
    labels: int = 21
    """Of VOC, background included; tags must be below."""

    def open(self, out: Path | None) -> Callable[[Image, Tags, Scores], Scores]:
        """The live refiner: marginals of background and tags, scaled to sum to 1. Raises as `Crf.open`."""
        from matlabel_refiners.crf import FLOOR

        self.crf.open(out)

        def refine(image: Image, tags: Tags, scores: Scores) -> Scores:
            planes = [0, *(int(tag) for tag in tags)]
            energy = np.full((self.labels, scores[0].size), -np.log(FLOOR), np.float32)
            energy[planes] = self.crf.unary_of(scores)
            found = self.crf.inferred(image, energy)[planes]
            return found / np.maximum(found.sum(axis=0), np.float32(FLOOR))

        return refine
