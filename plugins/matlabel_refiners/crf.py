"""Dense CRF on pseudo-labels (Krähenbühl, Koltun, NeurIPS 2011), column "w/ CRF" of Table 1.

Reference: irn, misc/imutils.py, `crf_inference_label` (MIT), whose parameters are our defaults: a hard unary of the
label with certainty 0.7, a smoothness kernel and a bilateral one, ten mean-field iterations, solved by pydensecrf
(pydensecrf2, the same interface on current Python).
The CRF knows the labels an image can have, its tags and the background, not all of the data set. As in IRN, n = k + 1
also where a tag never wins a pixel, which matters because the other labels share (1 - p) / (n - 1) each.
Deviations: the marginals are returned, not their argmax; the label made of them is IRN's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from matlabel_bench.errors import BenchError, ContractError, UsageError
from matlabel_bench.fields import knob
from matlabel_bench.types import Image, Scores, Tags
from matlabel_refiners.crf_measured import EveryLabel

Unary = Float32[np.ndarray, "c n"]
"""Negative log probability of each label at each pixel."""

FLOOR = 1e-5
"""Least probability of a soft unary, as in pydensecrf's own utility: log 0 has no value."""


def load() -> ModuleType:
    """pydensecrf's densecrf. Raises UsageError where it is not installed."""
    try:
        from pydensecrf import densecrf
    except ImportError as err:
        raise UsageError(
            "pydensecrf to be installed",
            str(err),
            "run: pip install 'pydensecrf2>=1.1,<2' (it needs a C++ compiler and Python 3.11 or 3.12)",
        ) from err
    return densecrf  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Crf:
    """Dense CRF with IRN's parameters for labels."""

    unary: str = knob("hard", "from the winning label alone (IRN), or from the scores", choices=("hard", "softmax"))
    certainty: float = knob(0.7, "probability that a label is right, for the hard unary; below 1", low=0.01, high=0.99)
    smooth_xy: float = knob(3.0, "reach of the smoothness kernel, pixels", low=0.01)
    smooth_compat: float = knob(3.0, "weight of the smoothness kernel", low=0.0)
    bilateral_xy: float = knob(50.0, "reach of the bilateral kernel, pixels", low=0.01)
    bilateral_rgb: float = knob(5.0, "reach of the bilateral kernel, grey levels of 0..255", low=0.01)
    bilateral_compat: float = knob(10.0, "weight of the bilateral kernel", low=0.0)
    iterations: int = knob(10, "mean-field iterations", low=1)

    version: ClassVar[int] = 1
    supervision: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = False
    cost: ClassVar[float] = 0.4
    published_in: ClassVar[str] = "Krähenbühl, Koltun: Efficient Inference in Fully Connected CRFs. NeurIPS 2011"

    def open(self, out: Path | None) -> Callable[[Image, Tags, Scores], Scores]:
        """The live refiner: marginals of the CRF, float32 k+1 h w; an image without tags keeps its scores.

        Raises:
            UsageError: pydensecrf is not installed; later, ContractError for scores that do not fit image and tags.
        """
        load()

        def refine(image: Image, tags: Tags, scores: Scores) -> Scores:
            planes, (height, width) = len(tags) + 1, image.shape[:2]
            if scores.shape != (planes, height, width):
                raise ContractError(
                    f"scores of {planes} planes, {height} x {width}",
                    " x ".join(map(str, scores.shape)),
                    "give the scores of this image, background first, one plane a tag",
                )
            if planes == 1:  # one label only: nothing to decide, and the hard unary would divide by n - 1 = 0
                return scores
            return self.inferred(image, self.unary_of(scores))

        return refine

    def inferred(self, image: Image, energy: Unary) -> Scores:
        """Marginals c h w of the CRF of an image h w 3 with these energies c n."""
        height, width = image.shape[:2]
        field = load().DenseCRF2D(width, height, len(energy))
        field.setUnaryEnergy(energy)
        field.addPairwiseGaussian(sxy=self.smooth_xy, compat=self.smooth_compat)
        field.addPairwiseBilateral(
            sxy=self.bilateral_xy,
            srgb=self.bilateral_rgb,
            rgbim=np.array(image, order="C"),  # pydensecrf takes no view and nothing read-only
            compat=self.bilateral_compat,
        )
        return _marginals(field.inference(self.iterations), (len(energy), height, width))

    def reference(self) -> EveryLabel:
        """pydensecrf over all labels of VOC, for `bench perf`."""
        return EveryLabel(self)

    def unary_of(self, scores: Scores) -> Unary:
        """Energies c n of scores c h w."""
        planes = len(scores)
        if self.unary == "softmax":
            return np.ascontiguousarray(-np.log(np.clip(scores, FLOOR, 1)).reshape(planes, -1), np.float32)
        energy = np.full((planes, scores[0].size), -np.log((1 - self.certainty) / (planes - 1)), np.float32)
        np.put_along_axis(energy, scores.argmax(axis=0).reshape(1, -1), np.float32(-np.log(self.certainty)), axis=0)
        return energy


def _marginals(inferred: object, shape: tuple[int, ...]) -> Scores:
    marginals = np.array(inferred, np.float32).reshape(shape)
    if not np.isfinite(marginals).all():
        raise BenchError(
            "finite marginals of the dense CRF",
            "nan",
            "lower crf.bilateral_compat or crf.smooth_compat: exp overflowed",
        )
    return marginals
