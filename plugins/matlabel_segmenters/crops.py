"""Training crops: image and pseudo-label at a random scale, padded, cut and mirrored, drawn from (seed, epoch, index).

As kazuto1011/deeplab-pytorch cuts them: bilinear for images and nearest for labels, padding below and to the right
with the mean colour and 255.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from matlabel_bench.errors import DataError
from matlabel_bench.types import IGNORE, Label, Split
from matlabel_segmenters.aspp import nearest
from matlabel_segmenters.encoders import Look


class Crops(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Images of a split with their pseudo-labels, which are read one by one.

    Args:
        scales: of which one is drawn for each image.
        crop: side of the square, pixels.
    """

    def __init__(
        self,
        split: Split,
        labels: Mapping[str, Label],
        look: Look,
        *,
        scales: Sequence[float],
        crop: int,
        flip: bool,
        seed: int,
    ) -> None:
        self.split, self.labels, self.look = split, labels, look
        self.scales, self.crop, self.flip, self.seed = tuple(scales), crop, flip, seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, at: tuple[int, int]) -> dict[str, torch.Tensor]:
        """`images` 3 x crop x crop float32 as the network wants them, `labels` crop x crop int64.

        Raises:
            DataError: a pseudo-label of another size than its image.
        """
        epoch, index = at
        rng = np.random.default_rng([self.seed, epoch, index])
        sample = self.split.samples[index]
        image, label = self.look(sample.read()), read_label(self.labels, sample.id, len(self.split.classes))
        if label.shape != image.shape[1:]:
            got = f"{' x '.join(map(str, label.shape))} for an image of {' x '.join(map(str, image.shape[1:]))}"
            raise DataError(f"a pseudo-label as large as image {sample.id}", got, "make the labels of these images")
        scale = self.scales[int(rng.integers(len(self.scales)))]
        spots = rng.random(2)
        images, labels = cut(image, torch.from_numpy(label.astype(np.int64)), scale, self.crop, (spots[0], spots[1]))
        if self.flip and rng.random() < 0.5:
            images, labels = images.flip(-1), labels.flip(-1)
        return {"images": images.contiguous(), "labels": labels.contiguous()}


def cut(
    image: torch.Tensor, label: torch.Tensor, scale: float, crop: int, spot: tuple[float, float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A square of an image c h w (mean colour 0) and its label h w, both at a scale.

    Args:
        spot: how far down and across the square lies, in [0, 1): each place is as likely as any other.
    """
    size = [max(1, int(side * scale)) for side in label.shape]
    if size != list(label.shape):
        image = functional.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
        label = nearest(label[None], size)[0]
    below, beside = (max(crop - side, 0) for side in size)
    image = functional.pad(image, (0, beside, 0, below))
    label = functional.pad(label, (0, beside, 0, below), value=IGNORE)
    top, left = (int(part * (side - crop + 1)) for part, side in zip(spot, label.shape, strict=True))
    return image[:, top : top + crop, left : left + crop], label[top : top + crop, left : left + crop]


def read_label(labels: Mapping[str, Label], name: str, classes: int) -> Label:
    """One pseudo-label. Raises DataError for one that is no uint8 h w of 0..`classes` and 255."""
    label = labels[name]
    if label.dtype != np.uint8 or label.ndim != 2:
        got = f"{label.dtype}, {' x '.join(map(str, label.shape))}"
        raise DataError(f"the pseudo-label of {name} as uint8, h x w", got, "make the labels again")
    odd = np.setdiff1d(np.unique(label), [*range(classes + 1), IGNORE])
    if odd.size:
        got = f"{', '.join(map(str, odd[:5]))} in the label of {name}"
        raise DataError(f"classes 0..{classes} and {IGNORE} in pseudo-labels", got, "check the list of classes")
    return label


FIRST = 200
"""Labels that are looked at before a training begins."""


def survey(split: Split, labels: Mapping[str, Label]) -> str:
    """A sentence on the first labels, for training.json: their classes, and the share of foreground.

    Raises:
        DataError: none of them has a foreground pixel: such a training would end with background everywhere.
    """
    counts = np.zeros(256, np.int64)
    samples = split.samples[:FIRST]
    for sample in samples:
        counts += np.bincount(read_label(labels, sample.id, len(split.classes)).ravel(), minlength=256)
    known = counts[:IGNORE].sum()
    front = known - counts[0]
    if samples and not front:
        got = f"{counts[0]:,} pixels of background and {counts[IGNORE]:,} ignored ones, nothing else"
        raise DataError(
            f"pseudo-labels with a foreground class in at least one of the first {len(samples)} images",
            got,
            "a network trained on them finds background only: lower the threshold of the label stage, check its maps",
        )
    seen = int((counts[1:IGNORE] > 0).sum())
    share = 100 * front / max(1, known)
    return f"{seen} of {len(split.classes)} classes in the first {len(samples)} labels, {share:.1f} % foreground"
