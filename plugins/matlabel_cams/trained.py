"""Fields and ways that the trained generators of class activation maps share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from matlabel_bench.errors import UsageError
from matlabel_bench.fields import key_fields, knob
from matlabel_bench.types import Cams, Image, Split, Tags

if TYPE_CHECKING:
    from matlabel_bench.recipe import Recipe
    from matlabel_cams.crops import Crops

NEXT_SEED = 1_000_003
"""What a second stage adds to the seed, so that it does not see the first one's crops again."""
WEIGHTS = {"resnet101": 177e6, "resnet50": 97e6, "mobilenet_v2": 9.2e6, "small": 1.5e6}
"""Bytes of the weights a training leaves, by backbone; heads add little."""
COSTS = {"resnet50": (2.0, 6.0), "mobilenet_v2": (0.4, 1.5), "small": (0.2, 0.3)}
"""Seconds of a core for CAM with each backbone: a training crop of 512 pixels, maps of a 375 x 500 image. Measured, in
round numbers, at the scales and crops of the profiles that use them."""


@dataclass(frozen=True)
class Trained:
    """A classifier trained on tags, and maps drawn from it at several scales."""

    version: ClassVar[int] = 2
    trains: ClassVar[bool] = True

    backbone: str = knob("resnet50", "network", choices=("resnet50", "mobilenet_v2", "small"))
    weights: str = knob("", "pretrained weights: file, address such as torchvision://resnet50, or none", key="file")
    stride: int = knob(16, "pixels of the input a cell of the network's map covers", choices=(8, 16))
    part: str = knob("", "last stage of N1; empty: the backbone's penultimate feature map")
    cut: str = knob("none", "last stage that is not trained; none trains all")
    epochs: int = knob(5, "times each image is seen", low=1)
    batch: int = knob(16, "images a step, over all processes", low=1)
    lr: float = knob(0.1, "learning rate of the backbone at the first step", low=0)
    head_multiple: float = knob(10.0, "learning rate of the new layers, relative to lr (IRN)", low=0)
    momentum: float = knob(0.9, "of SGD", low=0, high=1)
    weight_decay: float = knob(1e-4, "of SGD (IRN)", low=0)
    power: float = knob(0.9, "lr falls with (1 - step / steps)^power (IRN)", low=0)
    side_low: int = knob(320, "least length of the longer side in training, pixels (IRN)", low=8)
    side_high: int = knob(640, "greatest length of the longer side in training, pixels (IRN)", low=8)
    crop: int = knob(512, "side of the square that is cut in training, pixels (IRN)", low=8)
    scales: tuple[float, ...] = knob(
        (0.5, 1.0, 1.5, 2.0), "scales of the image whose maps are averaged", low=0.05, key="open"
    )
    flip: bool = knob(True, "average with the mirrored image", key="open")
    cell: int = knob(8, "pixels a cell of the stored maps covers", low=1, key="open")
    longest: int = knob(1024, "images with a longer side are made smaller before mapping; 0: never", low=0, key="open")
    amp: bool = knob(True, "half precision in training: float16 on a GPU, bfloat16 on a CPU that has it")
    device: str = knob("cpu", "where the network runs: cpu, cuda or cuda:N", key="none")
    readers: int = knob(0, "processes that read images beside a training; 0: a GPU gets one a core", low=0, key="none")
    tensorboard: bool = knob(False, "write TensorBoard events beside the JSON log", key="none")

    @property
    def effort(self) -> tuple[float, float]:
        """Cost of a training and of maps, relative to CAM."""
        return 1.0, 1.0

    @property
    def fit_cost(self) -> float:
        """Seconds of a core for an image once through the training, for `bench plan`."""
        return COSTS[self.backbone][0] * (self.crop / 512) ** 2 * self.effort[0]

    @property
    def cost(self) -> float:
        """Seconds of a core for the maps of an image, for `bench plan`."""
        return COSTS[self.backbone][1] * self.effort[1]

    @property
    def leaves(self) -> tuple[float, float]:
        """Bytes that a training leaves: weights, once."""
        return WEIGHTS[self.backbone], 0.0

    def recipe(self) -> Recipe:
        """How mmengine is to train it."""
        from matlabel_bench.recipe import Recipe

        return Recipe.of(self, warmup=0)  # a part's own warm-up counts epochs, and means its losses

    def stem(self) -> Trained | None:
        """The training that this one goes on from, if there is one."""
        return None

    def begun(self, train: Split, out: Path, seed: int) -> Path | None:
        """The stem trained within `out`, for a caller who does not share it between trainings."""
        stem = self.stem()
        if stem is None:
            return None
        stem.fit(train, out / "stem", seed)  # type: ignore[attr-defined]
        return out / "stem"

    def train(
        self,
        network: Any,
        backbone: Any,
        train: Split,
        out: Path,
        seed: int,
        recipe: Recipe | None = None,
    ) -> None:
        """Train a network on the images of a split; its weights go to `out` (see train.run)."""
        from matlabel_bench.train import run

        about = {"part": type(self).__name__, "classes": list(train.classes), "fields": key_fields(self, training=True)}
        run(network, self.crops(backbone, train, seed), recipe or self.recipe(), out, seed, about)

    def crops(self, backbone: Any, train: Split, seed: int) -> Crops:
        """What a network of that backbone is trained on. Raises UsageError for sides that do not fit together."""
        from matlabel_cams.crops import Crops

        if self.side_low > self.side_high:
            raise UsageError(
                "side_low not above side_high", f"{self.side_low} and {self.side_high}", "exchange the two values"
            )
        return Crops(train, backbone, (self.side_low, self.side_high), self.crop, seed)

    def maps(self, network: Any, backbone: Any, normalise: bool) -> Callable[[Image, Tags], Cams]:
        """The live generator for a network with `maps(images, tags)` and its backbone."""
        import torch

        from matlabel_cams.backbones import channel_constants
        from matlabel_cams.scales import at_scales, grid

        if not self.scales:
            raise UsageError("at least one scale", "none", "set scales, e.g. 0.5,1,1.5,2")
        network = folded(network.eval()).to(self.device, memory_format=torch.channels_last)
        mean, std = channel_constants(backbone)
        settings: dict[str, Any] = {"stride": self.stride, "cell": self.cell, "scales": self.scales, "flip": self.flip}
        settings |= {"mean": mean, "std": std, "longest": self.longest, "device": self.device}

        @torch.inference_mode()
        def generate(image: Image, tags: Tags) -> Cams:
            if not len(tags):
                return np.zeros((0, *(grid(side, self.cell)[0] for side in image.shape[:2])), np.float32)
            chosen = torch.from_numpy(tags.astype(np.int64) - 1).to(self.device)
            maps = at_scales(image, lambda batch: network.maps(batch, chosen), **settings).numpy()
            return scaled(maps) if normalise else np.clip(maps, 0, 1)

        return generate


def folded(network: Any) -> Any:
    """The network with each batch normalisation inside the convolution before it: the same values, a quarter sooner.

    In place, and for inference only. A pair must be neighbours in one module, in the order of their use, as in every
    network here; others stay as they are.
    """
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for module in network.modules():
        children = list(module.named_children())
        for (name, first), (after, second) in itertools.pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(first, second))
                setattr(module, after, nn.Identity())
    return network


def classes_in(out: Path) -> int:
    """The number of classes a finished training in `out` knows. Raises UsageError where there is none."""
    import json

    from matlabel_bench.recipe import ABOUT

    try:
        return len(json.loads((out / ABOUT).read_text())["classes"])
    except (OSError, ValueError, KeyError) as err:
        raise UsageError(f"a finished training in {out}", f"no {ABOUT} there", "train the part first (fit)") from err


def scaled(maps: Cams) -> Cams:
    """Each channel divided by its maximum; a channel that is zero, or nothing but rounding, becomes zero."""
    peaks = maps.max(axis=(1, 2), keepdims=True, initial=0.0)
    alive = peaks > 1e-5
    return np.where(alive, np.clip(maps, 0, None) / np.where(alive, peaks, 1), 0).astype(np.float32)
