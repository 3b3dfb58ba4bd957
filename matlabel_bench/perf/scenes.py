"""What is measured on: photographs of a set size, and maps such as a generator of class activation maps gives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matlabel_bench.images import enlarge, resize_image
from matlabel_bench.trimap import TrimapRule, make_trimap
from matlabel_bench.types import Alpha, Cams, Image, Label, Tags, Trimap

CELL = 8
"""Pixels of a cell of the maps, as the generators store them."""
REACHES = (0.17, 0.085)
"""Of the blobs of the first class and of the others, as a share of the image's smaller side."""


@dataclass(frozen=True)
class Scene:
    """A photograph and how many classes it is to have; what follows from both is made when asked for."""

    image: Image
    seed: int
    classes: int

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.image.shape[:2]
        return height, width

    @property
    def tags(self) -> Tags:
        return np.arange(1, self.classes + 1, dtype=np.uint8)

    @property
    def maps(self) -> Cams:
        """At the image's size."""
        return enlarge(cam_like(*self.size, self.classes, self.seed), self.size)

    @property
    def trimap(self) -> Trimap:
        return make_trimap(self.maps, TrimapRule())[0]


def cam_like(height: int, width: int, classes: int, seed: int) -> Cams:
    """Maps k gh gw on a grid of CELL pixels: two or three blobs a class, the first class's twice as wide.

    A class has the same blobs however many others there are.
    """
    grid = -(-height // CELL), -(-width // CELL)
    y, x = np.mgrid[: grid[0], : grid[1]] * CELL + CELL / 2
    planes = np.empty((classes, *grid), np.float32)
    for number, plane in enumerate(planes):
        rng = np.random.default_rng((seed, number))
        count, reach = (3, REACHES[0]) if number == 0 else (2, REACHES[1])
        cy, cx = rng.uniform(0.2, 0.8, (2, count, 1, 1)) * np.array([height, width]).reshape(2, 1, 1, 1)
        spread = reach * min(height, width) * rng.uniform(0.8, 1.3, (count, 1, 1))
        blobs = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * spread**2)).sum(0)
        plane[:] = blobs / blobs.max()
    return planes


def sized(photo: Image, size: tuple[int, int]) -> Image:
    """A photograph at h x w; an upright one is turned first where that is not."""
    upright = photo.shape[0] > photo.shape[1]
    if upright != (size[0] > size[1]) and size[0] != size[1]:
        photo = np.rot90(photo)
    return np.ascontiguousarray(resize_image(photo, size))


def label_of(alpha: Alpha) -> Label:
    """The label of alphas: the greatest of them where it exceeds one half, in float32 as everywhere."""
    level = np.full((1, *alpha.shape[1:]), 0.5, np.float32)
    out: Label = np.concatenate([level, alpha]).argmax(axis=0).astype(np.uint8)
    return out


def digest_of(photos: Sequence[Image]) -> str:
    """What tells these photographs from others."""
    parts = [f"{p.shape}{hashlib.blake2b(p.tobytes(), digest_size=12).hexdigest()}" for p in photos]
    return hashlib.blake2b("".join(parts).encode(), digest_size=12).hexdigest()
