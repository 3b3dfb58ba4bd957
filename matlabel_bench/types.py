"""The arrays that travel between stages, by name and shape, and the two records a part may see.

`h w` is the size of the image; `k` the number of classes present in it; class ids run 1..N, 0 is background.
Ranges, which types cannot state, are checked in `contracts.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

Image = UInt8[np.ndarray, "h w 3"]
"""RGB, 0..255."""
Tags = UInt8[np.ndarray, "k"]
"""Class ids present in the image, ascending, 1..N."""
Cams = Float32[np.ndarray, "k gh gw"]
"""Class activation maps on the network's grid, [0, 1], one channel a tag in the order of the tags.

A cell of the grid covers s x s pixels from the image's top-left corner, s = ceil(h / gh) (the same for the width):
a network that pads 375 rows to 376 returns 47 cells of 8 rows, and the core crops after enlarging, without stretching.
"""
Trimap = UInt8[np.ndarray, "k h w"]
"""0 background, 128 unknown, 255 foreground, one plane a tag."""
Alpha = Float32[np.ndarray, "k h w"]
"""[0, 1], one plane a tag."""
Scores = Float32[np.ndarray, "c h w"]
"""c = k + 1 planes, plane 0 is background; non-negative, sums to 1 over planes."""
Label = UInt8[np.ndarray, "h w"]
"""0..N; 255 is ignored."""

IGNORE = 255
BACKGROUND, UNKNOWN, FOREGROUND = 0, 128, 255


@dataclass(frozen=True, slots=True)
class Sample:
    """One image as a part may see it: its pixels and its tags, never its mask."""

    id: str
    path: Path
    tags: tuple[int, ...]
    """Ascending class ids 1..N; empty for an image without any listed class."""

    def read(self) -> Image:
        """The pixels. Raises DataError for a file that is missing, corrupt or of an unusable mode."""
        from matlabel_bench.images import read_image

        return read_image(self.path)

    def tag_array(self) -> Tags:
        return np.asarray(self.tags, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Split:
    """A named list of samples together with the names of the classes 1..N (background not among them)."""

    dataset: str
    name: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)
