"""Saliency supervision ("I.+S.") by the rule of NSROM (Yao et al., CVPR 2021).

Reference: NUST-Machine-Intelligence-Laboratory/nsrom@fa05286, classification/gen_label.py (no licence: compared in
behaviour, nothing copied). The Mat-Label paper does not say how its own I.+S. rows use saliency, so a row made with
this rule is not verified against those numbers.

The rule. The background's score is 1 - saliency / 255, a class's its attention, stretched to 0..1; scores below
`threshold` are 0; the highest wins, the background where all are 0. Ignored are pixels with several scores above
`conflict`; background that is salient, or on which some class is `sure`; background that a class likes better than the
median of its own pixels (NSROM's mining of potential objects); and images with next to no object.
Maps may as well be alphas, or an earlier label as planes of 0 and 1: then only certain pixels are left to disagree on.
Deviations: the mining, there done with attention of an earlier round, looks at the same maps; a constant map stays as
it is, where stretching it there leaves zeros (a label that covers the whole image would vanish).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from matlabel_bench.errors import ContractError, DataError, UsageError
from matlabel_bench.fields import knob
from matlabel_bench.images import read_image
from matlabel_bench.types import IGNORE, Cams, Image, Label, Tags

Plane = Float32[np.ndarray, "h w"]


@dataclass(frozen=True)
class Saliency:
    """Labels from class maps and saliency maps by NSROM's rule; what the two disagree on is ignored."""

    saliency: str = knob(
        "", "folder of saliency maps ID.png, 8-bit grey at the image's size; default: the data set's own", key="folder"
    )
    threshold: float = knob(0.3, "scores below this count as 0, of classes and background alike", low=0.0, high=1.0)
    conflict: float = knob(0.9, "a pixel with more than one score above this is ignored", low=0.0, high=1.0)
    salient: int = knob(32, "background at least this salient (of 255) is ignored; 256: none", low=0, high=256)
    sure: float = knob(0.8, "background where a class's map exceeds this is ignored; 1: none", low=0.0, high=1.0)
    mining: bool = knob(True, "ignore background where a class's map exceeds its median on the class's own pixels")
    mining_floor: float = knob(0.3, "for a class without pixels, the median is of its map above this", low=0, high=1)
    least: float = knob(0.01, "an image with a smaller share of object pixels is ignored wholly", low=0.0, high=1.0)
    stretch: bool = knob(True, "bring each class's map to 0..1 first")

    version: ClassVar[int] = 1
    supervision: ClassVar[tuple[str, ...]] = ("saliency",)
    trains: ClassVar[bool] = False
    takes: ClassVar[str] = "maps"
    wants_id: ClassVar[bool] = True
    cost: ClassVar[float] = 0.05
    published_in: ClassVar[str] = (
        "Yao et al.: Non-Salient Region Object Mining for Weakly Supervised Semantic Segmentation. CVPR 2021"
    )

    def note(self) -> str:
        """What stands under a table with this part."""
        return "saliency: NSROM's rule, unverified against the paper's I.+S. numbers"

    def open(self, out: Path | None) -> Callable[[Image, Tags, Cams, str], Label]:
        """The live refiner: a label of 0, the tags and 255.

        Raises:
            UsageError: no folder of saliency maps, or none there; later, DataError for a map that is missing, in
                colours or of another size, ContractError for class maps that do not fit image and tags.
        """
        folder = Path(self.saliency).expanduser()
        if not self.saliency or not folder.is_dir():
            raise UsageError(
                "a folder of saliency maps ID.png",
                f"{folder}, no such folder" if self.saliency else "none, and the data set brings none",
                "give one by --set saliency.saliency=DIR",
            )

        def refine(image: Image, tags: Tags, maps: Cams, name: str) -> Label:
            size = image.shape[:2]
            if maps.shape != (len(tags), *size):
                raise ContractError(
                    f"maps of {len(tags)} planes, {size[0]} x {size[1]}",
                    " x ".join(map(str, maps.shape)),
                    "give the maps of this image, one plane a tag, at its size",
                )
            return self.rule(read_saliency(folder, name, size), maps, tags)

        return refine

    def rule(self, saliency: UInt8[np.ndarray, "h w"], maps: Cams, tags: Tags) -> Label:
        """NSROM's rule, as the module describes it."""
        planes = np.stack([_stretched(m) if self.stretch else m for m in maps]) if len(maps) else maps
        background = 1 - saliency.astype(np.float32) / 255
        scores = np.concatenate([background[None], planes]).astype(np.float32)
        scores[scores < self.threshold] = 0
        values = np.concatenate([[0], tags]).astype(np.uint8)
        label: Label = values[scores.argmax(axis=0)]
        label[(scores > self.conflict).sum(axis=0) > 1] = IGNORE
        doubtful = (saliency >= self.salient) | (planes > self.sure).any(axis=0)
        label[(label == 0) & doubtful] = IGNORE
        if self.mining:
            mined = [self._mined(plane, label == tag) for plane, tag in zip(planes, tags, strict=True)]
            label[(label == 0) & np.any(mined, axis=0)] = IGNORE
        if ((label != 0) & (label != IGNORE)).mean() < self.least:
            label[:] = IGNORE
        return label

    def _mined(self, plane: Plane, own: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        """Pixels that may belong to the class: above the median of its own, or of the upper half of its map."""
        basis = plane[own]
        if not basis.size:
            upper = plane[plane > self.mining_floor]
            basis = upper[upper > np.median(upper)] if upper.size else upper
        above: np.ndarray = plane > (np.median(basis) if basis.size else np.inf)
        return above


def read_saliency(folder: Path, name: str, size: tuple[int, ...]) -> UInt8[np.ndarray, "h w"]:
    """The saliency map of an image.

    Raises:
        DataError: it is missing, cannot be decoded, has colours, or is of another size than the image.
    """
    path = folder / f"{name}.png"
    if not path.is_file():
        remedy = "add it, or choose the folder that was made for this data set"
        raise DataError(f"a saliency map for image {name!r}", f"no file {path}", remedy)
    pixels = read_image(path)
    if (pixels != pixels[:, :, :1]).any():
        raise DataError(f"a grey saliency map {path}", "colours", "save saliency as 8-bit grey, 0 to 255")
    if pixels.shape[:2] != size:
        raise DataError(
            f"a saliency map of {size[0]} x {size[1]}, the size of image {name!r}",
            f"{path} of {pixels.shape[0]} x {pixels.shape[1]}",
            "make the map at the image's size, or bring it to that size",
        )
    return pixels[:, :, 0]


def _stretched(plane: Plane) -> Plane:
    low, high = plane.min(), plane.max()
    return (plane - low) / (high - low) if high > low else plane
