"""Training images with their mined labels: random size, flip and crop, each drawn from (seed, epoch, index) alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from matlabel_bench.errors import DataError
from matlabel_bench.images import Resampling, read_label, resize_image
from matlabel_bench.types import IGNORE, Image, Label, Split
from matlabel_cams.backbones import Backbone, channel_constants
from matlabel_cams.crops import on_square, window
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
        pixels, label = resize_image(pixels, size), resize_image(label, size, Resampling.NEAREST)
        if rng.random() < 0.5:
            pixels, label = pixels[:, ::-1], label[:, ::-1]
        source, target = window(size, self.crop, rng)
        large = np.full((self.crop, self.crop), IGNORE, np.uint8)
        large[target] = label[source]
        image = on_square(pixels[source], self.crop, target, self.mean, self.std)
        cells = resize_image(large, (grid(self.crop),) * 2, Resampling.NEAREST)
        return {"images": image, "labels": torch.from_numpy(cells.copy())}

    def top_left(self, index: int) -> torch.Tensor:
        """An image as it is, cut or filled up below and on the right: 3 x crop x crop."""
        pixels = self.samples[index].read()[: self.crop, : self.crop]
        target = (slice(pixels.shape[0]), slice(pixels.shape[1]))
        return on_square(pixels, self.crop, target, self.mean, self.std)

    def _pair(self, index: int) -> tuple[Image, Label]:
        sample = self.samples[index]
        pixels, label = sample.read(), read_label(label_file(self.folder, sample.id), self.classes)
        if pixels.shape[:2] != label.shape:
            got = f"{label.shape[0]} x {label.shape[1]} for {pixels.shape[0]} x {pixels.shape[1]} pixels"
            raise DataError(f"a mined label of the size of image {sample.id}", got, "delete it: it is mined anew")
        return pixels, label
