"""A matting called once a class, as users of PyMatting call it: what `bench perf` holds the native solvers against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from matlabel_bench.types import Alpha, Image, Trimap


@dataclass(frozen=True)
class ClassByClass:
    """The matting `part`, whose classes share nothing."""

    part: Any

    def open(self, out: Path | None) -> Callable[[Image, Trimap], Alpha]:
        """The live matting, as `part`'s own."""
        live = self.part.open(out)

        def matte(image: Image, trimap: Trimap) -> Alpha:
            return np.concatenate([live(image, plane[None]) for plane in trimap])

        return matte


def pymatting(part: Any) -> ClassByClass | None:
    """PyMatting's own solver of a matting with a field `backend`; None where the part is that already."""
    return None if part.backend == "pymatting" else ClassByClass(replace(part, backend="pymatting"))
