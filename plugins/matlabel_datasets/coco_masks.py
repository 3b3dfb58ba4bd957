"""Painting COCO's masks from the documents of `coco_index`, by pycocotools.

The order of things is that of ReCAM's masks (mscoco/annToMask.py): annotations in the order of the file, later ones
over earlier ones. Crowds, regions of many instances, are left out there; counting them as ignored is the option.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from matlabel_bench.errors import DataError, UsageError
from matlabel_bench.types import IGNORE, Label


@dataclass(frozen=True)
class CocoMasks:
    """Paints the masks of a split by image id. It pickles, so that workers may hold one."""

    split: str
    files: Mapping[str, Path]
    ignore_crowds: bool

    def __call__(self, image: str) -> Label:
        """The mask, h w, 0..80; 255 where a crowd is ignored. Raises DataError for an id or document not there."""
        if image not in self.files:
            raise DataError(f"an image of split {self.split!r}", repr(image), "ask for an id of this split")
        try:
            found = json.loads(self.files[image].read_bytes())
            (height, width), annotations = found["size"], found["annotations"]
        except (OSError, ValueError, KeyError) as err:
            got = f"{type(err).__name__}: {err}"
            remedy = f"delete {self.files[image].parent.parent}; it is made again"
            raise DataError(f"the annotations of image {image} in {self.files[image]}", got, remedy) from err
        return paint(annotations, height, width, self.ignore_crowds)


def paint(annotations: list[Any], height: int, width: int, ignore_crowds: bool) -> Label:
    """The mask of [class, crowd, segmentation] rows, later ones over earlier ones.

    Crowds count as background, or, ignored, as 255 where no object covers them, wherever they stand in the order.
    """
    label = np.zeros((height, width), np.uint8)
    if ignore_crowds:
        for _, crowd, segmentation in annotations:
            if crowd:
                label[covered(segmentation, height, width)] = IGNORE
    for number, crowd, segmentation in annotations:
        if not crowd:
            label[covered(segmentation, height, width)] = number
    return label


def covered(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Pixels of polygons or of a run-length code in which `flaw` finds nothing, bool h w."""
    from pycocotools import mask

    if isinstance(segmentation, list):
        code = mask.merge(mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        code = mask.frPyObjects(segmentation, height, width)
    else:
        code = segmentation
    pixels: np.ndarray = mask.decode(code) > 0
    return pixels


def flaw(segmentation: Any, height: int, width: int) -> str:
    """What keeps a segmentation from being painted, in words; empty if nothing does."""
    if isinstance(segmentation, dict):
        return _flaw_of_code(segmentation, height, width)
    if not isinstance(segmentation, list) or not segmentation:
        return "no segmentation"
    for polygon in segmentation:
        if not isinstance(polygon, list) or not all(_is_number(value) for value in polygon):
            return "a polygon with something else than finite numbers"
        if len(polygon) < 6 or len(polygon) % 2:
            return f"a polygon of {len(polygon)} coordinates"  # pycocotools takes four of them for a box
        for values, side in ((polygon[::2], width), (polygon[1::2], height)):
            if min(values) < -side or max(values) > 2 * side:  # a rasteriser's memory grows with the outline
                return f"a polygon far outside the image ({min(values):g} to {max(values):g} of {side} pixels)"
    return ""


def _flaw_of_code(code: Mapping[str, Any], height: int, width: int) -> str:
    counts, size = code.get("counts"), code.get("size")
    if size != [height, width]:
        return f"a run-length code of size {size} for an image of {height} x {width}"
    runs = _runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in runs):
        return "a run-length code of something else than whole numbers"
    if sum(runs) != height * width:
        return f"run lengths of {sum(runs)} pixels in all for an image of {height * width}"
    return ""


def _runs(text: str) -> list[int] | None:
    """The run lengths of COCO's compressed code, None for a broken one, over whose end pycocotools would read.

    Characters 48..111 carry five bits of a number, lowest first, and whether more follow; the highest bit is its sign.
    From the fourth number on, it is the difference to the number two before.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16 and 1) << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return None if shift else runs


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def need_pycocotools() -> None:
    """Raises UsageError where masks could not be painted."""
    if find_spec("pycocotools") is None:
        raise UsageError("pycocotools to be installed", "no such module", "run: pip install 'pycocotools>=2.0.8'")
