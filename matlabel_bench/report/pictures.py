"""Picture grids for the README and the figures with pictures: one line an image, one panel a stage.

Panels are drawn by Pillow without anything random or dated: the same arrays give the same file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from matlabel_bench.errors import ContractError
from matlabel_bench.types import Image, Label

Panel = UInt8[np.ndarray, "h w 3"]
_GAP, _TITLE, _FONT = 6, 24, 14
_ANCHORS = np.array(  # dark violet to yellow, rising evenly in lightness (a coarse viridis)
    [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], dtype=np.float64
)


@dataclass(frozen=True, slots=True)
class Line:
    """One image's panels, and what is written above them (empty for nothing)."""

    panels: tuple[Panel, ...]
    caption: str = ""


def heat(values: Float32[np.ndarray, "h w"], image: Image | None = None, weight: float = 0.6) -> Panel:
    """A map in [0, 1] in colours from violet to yellow, laid over the image where one is given."""
    steps = np.clip(values, 0, 1) * (len(_ANCHORS) - 1)
    colours = np.stack([np.interp(steps, np.arange(len(_ANCHORS)), _ANCHORS[:, c]) for c in range(3)], axis=-1)
    return _over(colours, image, weight)


def grey(values: np.ndarray) -> Panel:
    """An alpha in [0, 1], or a trimap of 0, 128 and 255, as grey levels."""
    levels = values if values.dtype == np.uint8 else np.rint(np.clip(values, 0, 1) * 255)
    return np.repeat(levels.astype(np.uint8)[:, :, None], 3, axis=2)


def paint(label: Label, image: Image | None = None, weight: float = 0.7) -> Panel:
    """A label or mask in PASCAL VOC's colours (255 a pale grey), laid over the image where one is given."""
    from matlabel_bench.images import VOC_PALETTE

    return _over(VOC_PALETTE[label].astype(np.float64), image, weight)


def stages(
    image: Image,
    cam: Float32[np.ndarray, "h w"],
    trimap: UInt8[np.ndarray, "h w"],
    alpha: Float32[np.ndarray, "h w"],
    labels: Sequence[Label],
    caption: str = "",
) -> Line:
    """The line of one class of an image: image, map, trimap, alpha, then labels (such as label and mask)."""
    return Line((image, heat(cam, image), grey(trimap), grey(alpha), *(paint(b, image) for b in labels)), caption)


def grid(lines: Sequence[Line], titles: Sequence[str], path: Path, height: int = 180) -> None:
    """Write one PNG: titles above the columns, panels scaled to `height`, columns as wide as their widest.

    Raises:
        ContractError: no line, or a line with another number of panels than titles.
        DataError: the file cannot be written.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    from matlabel_bench.images import save_png

    wrong = [len(line.panels) for line in lines if len(line.panels) != len(titles)]
    if not lines or wrong:
        got = f"{wrong[0]} panels in a line" if wrong else "no line"
        raise ContractError(f"lines of {len(titles)} panels, one a title", got, "give every line all panels")
    scaled = [[_scale(panel, height) for panel in line.panels] for line in lines]
    font = ImageFont.load_default(size=_FONT)
    widths = [max(math.ceil(font.getlength(t)), *(row[c].shape[1] for row in scaled)) for c, t in enumerate(titles)]
    above = [_TITLE if line.caption else _GAP for line in lines]
    size = (sum(widths) + _GAP * (len(widths) + 1), _TITLE + sum(above) + height * len(lines) + _GAP)
    canvas = Pillow.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    lefts = [_GAP * (c + 1) + sum(widths[:c]) for c in range(len(widths))]
    for left, width, title in zip(lefts, widths, titles, strict=True):
        draw.text((left + width / 2, _TITLE / 2), title, fill="black", font=font, anchor="mm")
    top = _TITLE
    for line, row, space in zip(lines, scaled, above, strict=True):
        if line.caption:
            draw.text((_GAP, top + space / 2), line.caption, fill=(90, 98, 109), font=font, anchor="lm")
        for left, width, panel in zip(lefts, widths, row, strict=True):
            canvas.paste(Pillow.fromarray(panel), (left + (width - panel.shape[1]) // 2, top + space))
        top += space + height
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, canvas)


def _over(colours: np.ndarray, image: Image | None, weight: float) -> Panel:
    if image is not None:
        colours = weight * colours + (1 - weight) * image
    return np.asarray(np.rint(colours), dtype=np.uint8)


def _scale(panel: Panel, height: int) -> Panel:
    """To the given height, keeping the shape; by the nearest pixel where it grows, by area where it shrinks."""
    from PIL import Image as Pillow

    rows, columns = panel.shape[:2]
    if rows == height:
        return panel
    how = Pillow.Resampling.NEAREST if rows < height else Pillow.Resampling.BOX
    width = max(1, round(columns * height / rows))
    return np.asarray(Pillow.fromarray(panel).resize((width, height), how))
