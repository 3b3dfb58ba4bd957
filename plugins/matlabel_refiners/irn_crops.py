"""Training images with their mined labels: random size, flip and crop, each drawn from (seed, epoch, index) alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import torch

from matlabel_bench.errors import DataError
from matlabel_bench.images import read_label
from matlabel_bench.types import IGNORE, Image, Label, Split
from matlabel_cams.backbones import Backbone, channel_constants
from matlabel_cams.crops import resize
from matlabel_refiners.irn_mining import label_file
from matlabel_refiners.irn_paths import grid


class LabelledCrops(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Augmented images and labels as IRN prepares them.

    Both are scaled by a random factor within `scales` (image bicubic, label nearest), half of them are mirrored, and a
    square of `crop` pixels is cut at random; a smaller image is placed at random on its mean colour and ignored label.
    """

    def __init__(
        self, split: Split, labels: Path, backbone: Backbone, scales: tuple[float, float], crop: int, seed: int
    ) -> None:
        self.samples, self.classes, self.folder = split.samples, len(split.classes), labels
        self.mean, self.std = channel_constants(backbone)
        self.scales, self.crop, self.seed = scales, crop, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, at: tuple[int, int]) -> dict[str, torch.Tensor]:
        """`images` 3 x crop x crop float32 normalised, `labels` g x g uint8 with g = ceil(crop / 4)."""
        epoch, index = at
        rng = np.random.default_rng([self.seed, epoch, index])
        pixels, label = self._pair(index)
        share = rng.uniform(*self.scales)
        size = (max(1, round(label.shape[0] * share)), max(1, round(label.shape[1] * share)))
        pixels, label = resize(pixels, size), nearest(label, size)
        if rng.random() < 0.5:
            pixels, label = pixels[:, ::-1], label[:, ::-1]
        source, target = _window(size, self.crop, rng)
        large = np.full((self.crop, self.crop), IGNORE, np.uint8)
        large[target] = label[source]
        image = self._square(pixels[source], target)
        return {"images": image, "labels": torch.from_numpy(nearest(large, (grid(self.crop),) * 2))}

    def top_left(self, index: int) -> torch.Tensor:
        """An image as it is, cut or filled up below and on the right: 3 x crop x crop."""
        pixels = self.samples[index].read()[: self.crop, : self.crop]
        return self._square(pixels, (slice(pixels.shape[0]), slice(pixels.shape[1])))

    def _pair(self, index: int) -> tuple[Image, Label]:
        sample = self.samples[index]
        pixels, label = sample.read(), read_label(label_file(self.folder, sample.id), self.classes)
        if pixels.shape[:2] != label.shape:
            got = f"{label.shape[0]} x {label.shape[1]} for {pixels.shape[0]} x {pixels.shape[1]} pixels"
            raise DataError(f"a mined label of the size of image {sample.id}", got, "delete it: it is mined anew")
        return pixels, label

    def _square(self, pixels: Image, target: tuple[slice, slice]) -> torch.Tensor:
        image = torch.zeros(3, self.crop, self.crop)
        image[(slice(None), *target)] = normalised(pixels, self.mean, self.std)
        return image


def normalised(pixels: Image, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """An image as the network takes it: 3 h w float32."""
    return (torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32)) - mean) / std


def nearest(label: Label, size: tuple[int, int]) -> Label:
    """The label in (h, w): of each new pixel's middle."""
    picture = PIL.Image.fromarray(np.ascontiguousarray(label))
    return np.array(picture.resize((size[1], size[0]), PIL.Image.Resampling.NEAREST))


def _window(
    size: tuple[int, int], crop: int, rng: np.random.Generator
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part of the image that is cut out, and where on the square it lies."""
    source, target = [], []
    for side in size:
        space = int(rng.integers(0, abs(side - crop) + 1))
        inside, at = (space, 0) if side > crop else (0, space)
        length = min(side, crop)
        source.append(slice(inside, inside + length))
        target.append(slice(at, at + length))
    return (source[0], source[1]), (target[0], target[1])
