"""Training images: random size, flip and crop, each drawn from (seed, epoch, index) alone."""

from __future__ import annotations

import numpy as np
import PIL.Image
import torch

from matlabel_bench.types import Image, Split
from matlabel_cams.backbones import Backbone, channel_constants


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
        image = (torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32)) - self.mean) / self.std
        tags = torch.zeros(self.classes)
        tags[[tag - 1 for tag in sample.tags]] = 1
        return {"images": _cut(image, self.crop, rng), "tags": tags, "epoch": torch.tensor(epoch)}


def resize_to(image: Image, longest: int) -> Image:
    """The image with its longer side of that length, bicubic."""
    height, width = image.shape[:2]
    share = longest / max(height, width)
    return resize(image, (max(1, round(height * share)), max(1, round(width * share))))


def resize(image: Image, size: tuple[int, int]) -> Image:
    """The image in (h, w), bicubic with an antialiasing filter."""
    if image.shape[:2] == size:
        return image
    picture = PIL.Image.fromarray(image).resize((size[1], size[0]), PIL.Image.Resampling.BICUBIC)
    return np.asarray(picture)


def _cut(image: torch.Tensor, crop: int, rng: np.random.Generator) -> torch.Tensor:
    """A square of the image, or the image on a square of zeros (the mean colour), at random."""
    out = torch.zeros(image.shape[0], crop, crop)
    source, target = [slice(None)], [slice(None)]
    for side in image.shape[1:]:
        space = int(rng.integers(0, abs(side - crop) + 1))
        length = min(side, crop)
        inside, at = (space, 0) if side > crop else (0, space)
        source.append(slice(inside, inside + length))
        target.append(slice(at, at + length))
    out[tuple(target)] = image[tuple(source)]
    return out
