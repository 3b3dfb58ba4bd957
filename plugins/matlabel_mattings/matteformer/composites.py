"""Training images: foregrounds with alpha laid over backgrounds, and trimaps made from their alphas.

Everything is drawn from (seed, epoch, index). After the reference: half of the pictures have two foregrounds, one over
the other; sizes vary by 0.8 to 1.25, a quarter of the pictures is seen whole; both axes are mirrored at random; the
crop lies around a pixel whose alpha is neither 0 nor 1. Not done here: rotation, shear and changes of colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from matlabel_bench.errors import DataError, near
from matlabel_bench.images import UNREADABLE, read_image, resize_image
from matlabel_bench.types import BACKGROUND, FOREGROUND, UNKNOWN, Image, Label
from matlabel_mattings.matteformer.fusion import dilate
from matlabel_mattings.matteformer.network import normalised, one_hot

SUFFIXES = (".png", ".jpg", ".jpeg")
TWO, WHOLE, FLIP = 0.5, 0.25, 0.5
SCALES = (0.8, 1.25)
RADII = (15, 8)
"""Radii below these widen the uncertain areas of 1/8 and 1/4 in training; at inference they are 7 and 3."""
LAYOUT = "composites has fg/ID.png (RGB), alpha/ID.png (grey, of the same size) and bg/ (PNG or JPEG)"


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a folder of composites, in the order of their names."""

    foregrounds: tuple[Path, ...]
    alphas: tuple[Path, ...]
    backgrounds: tuple[Path, ...]


def look(root: Path) -> Folder:
    """The folder's files: names, sizes and kinds are checked, pixels are not yet read.

    Raises:
        DataError: a folder without pictures, a foreground without alpha, sizes that differ, an unreadable file, a
            foreground that is transparent itself.
    """
    fg, alpha, bg = (_pictures(root, name) for name in ("fg", "alpha", "bg"))
    by_name = {path.stem: path for path in alpha}
    for path in fg:
        if path.stem not in by_name:
            got = f"no alpha/{path.stem}.png for {path}; {near(path.stem, list(by_name)[:20])}"
            raise DataError(f"an alpha for every foreground in {root}", got, LAYOUT)
        size, other = _size(path), _size(by_name[path.stem])
        if size != other:
            raise DataError(
                "foreground and alpha of one size",
                f"{path}: {size[0]} x {size[1]}, {by_name[path.stem]}: {other[0]} x {other[1]} (width x height)",
                "save both at the same size, or take the pair out",
            )
    for path in bg:
        _size(path)
    return Folder(tuple(fg), tuple(by_name[path.stem] for path in fg), tuple(bg))


def _pictures(root: Path, name: str) -> list[Path]:
    folder = root / name
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not found:
        got = "no PNG or JPEG in it" if folder.is_dir() else "no such folder"
        raise DataError(f"pictures in {folder}", got, LAYOUT)
    return found


def _size(path: Path) -> tuple[int, int]:
    """Width and height, from the file's head."""
    try:
        with PIL.Image.open(path) as picture:
            size, clear = picture.size, picture.has_transparency_data
    except UNREADABLE as err:
        raise DataError(
            f"a readable picture {path}", str(err).splitlines()[0] or type(err).__name__, "copy it again, or delete it"
        ) from err
    if clear:
        remedy = f"save its colours without transparency: {LAYOUT}"
        raise DataError("pictures without transparency of their own", str(path), remedy)
    return size


class Composites(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Composites without end: `draws` of them are called an epoch.

    Args:
        crop: side of the square, in pixels.
        band: greatest distance, in pixels, by which the trimap's unknown area is widened to either side.
        warmup: epochs in which the finer alphas are asked in the trimap's unknown area alone; in twice as many more,
            in every other picture.
    """

    def __init__(self, folder: Folder, draws: int, crop: int, band: int, warmup: float, seed: int) -> None:
        self.folder, self.draws, self.crop, self.band = folder, draws, crop, band
        self.warmup, self.seed = warmup, seed

    def __len__(self) -> int:
        return self.draws

    def __getitem__(self, at: tuple[int, int]) -> dict[str, torch.Tensor]:
        """`image`, `foreground`, `background` and `trimap` 3 c c, `alpha` 1 c c, `refine` 0 or 1, `radii` 2."""
        epoch, index = at
        rng = np.random.default_rng([self.seed, epoch, index])
        colour, alpha = self._object(rng, epoch * self.draws + index)
        colour, alpha = self._view(rng, colour, alpha)
        ground = self._ground(rng)
        share = (alpha / np.float32(255))[:, :, None]
        sides = {"foreground": normalised(colour), "background": normalised(ground)}
        late = 0 if epoch < self.warmup else 1 if epoch >= 3 * self.warmup else int(rng.random() < 0.5)
        return sides | {
            "image": normalised(colour * share + ground * (1 - share)),
            "trimap": one_hot(make_trimap(alpha, *rng.integers(0, self.band + 1, 2).tolist())),
            "alpha": torch.from_numpy(share[None, :, :, 0]),
            "refine": torch.tensor(late),
            "radii": torch.tensor([int(rng.integers(0, radius)) for radius in RADII]),
        }

    def _read(self, number: int) -> tuple[Image, Label]:
        at = number % len(self.folder.foregrounds)
        alpha = np.asarray(PIL.Image.fromarray(read_image(self.folder.alphas[at])).convert("L"))
        return read_image(self.folder.foregrounds[at]), alpha

    def _object(self, rng: np.random.Generator, number: int) -> tuple[Image, Label]:
        """One foreground, or two, the second behind the first and brought to its size."""
        colour, alpha = self._read(number)
        if rng.random() >= TWO:
            return colour, alpha
        behind, cover = (
            resize_image(plane, alpha.shape) for plane in self._read(int(rng.integers(len(self.folder.foregrounds))))
        )
        front = alpha[:, :, None] / np.float32(255)
        back = (1 - front) * cover[:, :, None] / np.float32(255)
        both = front + back
        if both.min() == 1:  # nothing of any background would be left
            return colour, alpha
        mixed = np.where(both > 0, (front * colour + back * behind) / np.maximum(both, 1e-6), colour)
        return np.rint(mixed).astype(np.uint8), np.rint(255 * both[:, :, 0]).astype(np.uint8)

    def _view(self, rng: np.random.Generator, colour: Image, alpha: Label) -> tuple[Image, Label]:
        """A crop at a random size."""
        least = self.crop / min(alpha.shape)
        scale = least if rng.random() < WHOLE else max(least, rng.uniform(*SCALES))
        size = tuple(max(self.crop, round(side * scale)) for side in alpha.shape)
        colour, alpha = resize_image(colour, size), resize_image(alpha, size)
        soft = np.argwhere((alpha > 0) & (alpha < 255))
        middle = soft[rng.integers(len(soft))] if len(soft) else [int(rng.integers(side)) for side in size]
        top, left = (
            int(np.clip(at - self.crop // 2, 0, side - self.crop)) for at, side in zip(middle, size, strict=True)
        )
        window = np.s_[top : top + self.crop, left : left + self.crop]
        steps = [-1 if flip < FLIP else 1 for flip in rng.random(2)]
        turn = np.s_[:: steps[0], :: steps[1]]
        return colour[window][turn], alpha[window][turn]

    def _ground(self, rng: np.random.Generator) -> Image:
        """A crop of a background, which is made to cover it."""
        ground = read_image(self.folder.backgrounds[rng.integers(len(self.folder.backgrounds))])
        scale = self.crop / min(ground.shape[:2]) * rng.uniform(1, SCALES[1])
        ground = resize_image(ground, tuple(max(self.crop, round(side * scale)) for side in ground.shape[:2]))
        top, left = (int(rng.integers(side - self.crop + 1)) for side in ground.shape[:2])
        return ground[top : top + self.crop, left : left + self.crop, :]


def make_trimap(alpha: Label, inner: int, outer: int) -> Label:
    """0, 128 and 255: known where alpha is 0 or 255, but for `outer` and `inner` pixels at the edge of what is not."""
    out = np.full(alpha.shape, UNKNOWN, np.uint8)
    out[~dilate(alpha < 255, inner)] = FOREGROUND
    out[~dilate(alpha > 0, outer)] = BACKGROUND
    return out
