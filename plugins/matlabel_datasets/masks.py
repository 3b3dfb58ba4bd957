"""The reader of ground-truth masks: the one door to them, opened by scoring alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matlabel_bench.errors import DataError
from matlabel_bench.types import Label
from matlabel_datasets.listing import some


@dataclass(frozen=True)
class MaskFiles:
    """Reads the masks of a split by image id. It pickles, so that workers may hold one."""

    split: str
    files: Mapping[str, Path]
    lacking: tuple[str, ...]
    """Images of the split without a mask file."""
    highest: int
    """Largest class id on disk."""
    lookup: tuple[int, ...] | None = None
    """New value of each of the 256 values on disk; None keeps them."""

    def __call__(self, image: str) -> Label:
        """The mask, h w. Raises DataError for an image without one, or a file that `read_label` refuses."""
        import numpy as np

        from matlabel_bench.images import read_label

        if image not in self.files:
            total = len(self.files) + len(self.lacking)
            raise DataError(
                f"a mask for image {image!r} of split {self.split!r}",
                f"{len(self.lacking)} of its {total} images have none: {some(self.lacking)}",
                "add the missing files, or score on a split where every image has a mask",
            )
        label = read_label(self.files[image], self.highest)
        return label if self.lookup is None else np.asarray(self.lookup, np.uint8)[label]


def reader(
    split: str, ids: Sequence[str], files: Mapping[str, Path], highest: int, lookup: tuple[int, ...] | None = None
) -> MaskFiles | None:
    """A reader for the split, or None where not one of its images has a mask."""
    lacking = tuple(i for i in ids if i not in files)
    return MaskFiles(split, files, lacking, highest, lookup) if files else None
