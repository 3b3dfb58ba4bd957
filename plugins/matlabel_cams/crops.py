"""Training images: random size, flip and crop, each drawn from (seed, epoch, index) alone."""

from __future__ import annotations

import numpy as np
import torch

from matlabel_bench.images import resize_image
from matlabel_bench.types import Image, Split
from matlabel_cams.backbones import Backbone, channel_constants

Window = tuple[slice, slice]
"""Rows and columns of a part of an image."""


class Crops(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Augmented images with their tags, as IRN prepares them.

    The longer side becomes a random length in `sides` (bicubic), half of the images are mirrored, and a square of
    `crop` pixels is cut at random; where the image is smaller, it is placed at random on the mean colour.
    """

    def __init__(self, split: Split, backbone: Backbone, sides: tuple[int, int], crop: int, seed: int) -> None:
        self.samples, self.classes = split.samples, len(split.classes)
        self.mean, self.std = channel_constants(backbone)
        self.sides, self.crop, self.seed = sides, crop, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, at: tuple[int, int]) -> dict[str, torch.Tensor]:
        """`images` 3 x crop x crop float32 normalised, `tags` N float32 of 0 and 1, `epoch` int64."""
        epoch, index = at
        rng = np.random.default_rng([self.seed, epoch, index])
        sample = self.samples[index]
        pixels = resize_to(sample.read(), int(rng.integers(self.sides[0], self.sides[1] + 1)))
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        source, target = window(pixels.shape[:2], self.crop, rng)
        image = on_square(pixels[source], self.crop, target, self.mean, self.std)
        tags = torch.zeros(self.classes)
        tags[[tag - 1 for tag in sample.tags]] = 1
        return {"images": image, "tags": tags, "epoch": torch.tensor(epoch)}


def resize_to(image: Image, longest: int) -> Image:
    """The image with its longer side of that length, bicubic."""
    height, width = image.shape[:2]
    share = longest / max(height, width)
    return resize_image(image, (max(1, round(height * share)), max(1, round(width * share))))


def window(size: tuple[int, ...], crop: int, rng: np.random.Generator) -> tuple[Window, Window]:
    """At random: the part of an image of `size` (h, w) that is cut out, and where on the square of `crop` it lies."""
    source, target = [], []
    for side in size:
        space = int(rng.integers(0, abs(side - crop) + 1))
        inside, at = (space, 0) if side > crop else (0, space)
        length = min(side, crop)
        source.append(slice(inside, inside + length))
        target.append(slice(at, at + length))
    return (source[0], source[1]), (target[0], target[1])


def on_square(pixels: Image, crop: int, target: Window, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Pixels at their place on a square of the mean colour, as a network takes it: 3 x crop x crop float32."""
    square = torch.zeros(3, crop, crop)
    square[(slice(None), *target)] = normalised(pixels, mean, std)
    return square


def normalised(pixels: Image, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """An image as a network takes it: 3 h w float32, less the mean, divided by the deviation."""
    return (torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32)) - mean) / std
