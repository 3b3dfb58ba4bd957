"""DeepLab-v2 (Chen et al., TPAMI 2018), the network that the paper trains on its pseudo-labels (Tables 2 and 3).

Compared with kazuto1011/deeplab-pytorch at 4219467 (MIT), configs/voc12.yaml: ResNet-101 of Caffe's style at output
stride 8, ASPP with rates 6, 12, 18, 24, input at scales 1, 0.5 and 0.75, the sum of four cross entropies, 20,000 steps
of twice five crops of 321 pixels, whole images at inference, dense CRF on request.
Deviations: the learning rate falls with every step (there with every tenth); the parameters of batch normalisation,
which are in no group there either, get no gradient; a crop without a known pixel adds nothing (there: nan); an
incomplete last group of batches of an epoch is left out; other backbones can be chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from matlabel_bench.fields import key_fields, knob
from matlabel_bench.types import Image, Label, Split
from matlabel_cams.trained import WEIGHTS

if TYPE_CHECKING:
    from jaxtyping import Float32

    from matlabel_segmenters.network import MultiScale

COSTS = {"resnet101": (8.0, 4.5), "resnet50": (5.0, 3.0), "mobilenet_v2": (0.7, 0.8), "small": (0.17, 0.6)}
"""Seconds of a core with each backbone, at the published scales: a crop of 321 pixels, a 375x500 image.
Of resnet101 and small measured, in round numbers; guessed between them."""
CAFFE_BGR = np.array((104.008, 116.669, 122.675), np.float32)


@dataclass(frozen=True)
class DeepLabV2:
    """DeepLab-v2: dilated ResNet-101 with atrous spatial pyramid pooling, at several scales."""

    version: ClassVar[int] = 1
    supervision: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = True
    published_in: ClassVar[str] = "Chen et al.: DeepLab. TPAMI 2018 (arXiv:1606.00915)"

    backbone: str = knob("resnet101", "the network", choices=("resnet101", "resnet50", "mobilenet_v2", "small"))
    style: str = knob(
        "caffe",
        "of resnet101: caffe (DeepLab's), or pytorch for weights of torchvision or mmseg",
        choices=("caffe", "pytorch"),
    )
    weights: str = knob("", "initial weights: file or address; none with backbone=small only", key="file")
    rates: tuple[int, ...] = knob((6, 12, 18, 24), "dilations of the head's branches", low=1)
    msc: tuple[float, ...] = knob(
        (1.0, 0.5, 0.75), "scales of the input whose logits meet in a maximum; 1 among them", low=0.05
    )
    steps: int = knob(20000, "steps of the optimizer", low=1)
    batch: int = knob(5, "crops a batch, over all processes", low=1)
    accumulate: int = knob(2, "batches a step", low=1)
    lr: float = knob(2.5e-4, "learning rate of the backbone at the first step", low=0)
    head_multiple: float = knob(
        10.0, "learning rate of the head's weights, relative to lr; twice that for its biases", low=0
    )
    momentum: float = knob(0.9, "of SGD", low=0, high=1)
    weight_decay: float = knob(5e-4, "of SGD; none on the head's biases", low=0)
    power: float = knob(0.9, "lr falls with (1 - step / steps)^power", low=0)
    scales: tuple[float, ...] = knob(
        (0.5, 0.75, 1.0, 1.25, 1.5), "scales of which one is drawn for each training crop", low=0.05
    )
    crop: int = knob(321, "side of the square that is cut in training, pixels", low=8)
    flip: bool = knob(True, "mirror half of the training crops")
    balanced: bool = knob(False, "weigh background and foreground pixels equally in the loss")
    crf: bool = knob(False, "dense CRF after the network", key="open")
    crf_image: str = knob(
        "raw",
        "what the CRF sees: the image, or as upstream its difference from the mean, mod 256",
        choices=("raw", "upstream"),
        key="open",
    )
    amp: bool = knob(False, "half precision in training: float16 on a GPU, bfloat16 on a CPU that has it")
    device: str = knob("cpu", "where the network runs: cpu, cuda or cuda:N", key="none")
    readers: int = knob(0, "processes that read images beside a training; 0: a GPU gets one a core", low=0, key="none")
    tensorboard: bool = knob(False, "write TensorBoard events beside the JSON log", key="none")

    @property
    def cost(self) -> float:
        """Seconds of a core for a 375x500 image, for `bench plan`."""
        return COSTS[self.backbone][1] * self._area

    @property
    def fit_cost(self) -> float:
        """Seconds of a core for a crop once through the training, for `bench plan`."""
        return COSTS[self.backbone][0] * (self.crop / 321) ** 2 * self._area

    @property
    def _area(self) -> float:
        """Pixels that the network sees of an image, relative to those at the published scales."""
        return sum(scale**2 for scale in self.msc) / 1.8125

    @property
    def leaves(self) -> tuple[float, float]:
        """Bytes that a training leaves: weights, once."""
        return WEIGHTS[self.backbone], 0.0

    def fit(self, train: Split, labels: Mapping[str, Label], out: Path, seed: int) -> None:
        """Train on the pseudo-labels and leave the weights in `out`.

        Raises:
            UsageError: initial weights that are absent or of another network, fields that do not fit together.
            DataError: pseudo-labels without foreground, of other classes or sizes than the images.
            TrainingFailed: a loss that is not finite.
        """
        import torch

        from matlabel_bench.recipe import Recipe
        from matlabel_bench.train import run
        from matlabel_segmenters.crops import Crops, survey
        from matlabel_segmenters.weights import initialise

        torch.manual_seed(seed)
        network = self._network(len(train.classes))
        about = {
            "part": type(self).__name__,
            "classes": list(train.classes),
            "fields": key_fields(self, training=True),
            "initial": initialise(network, self.backbone, self.style, self.weights),
            "labels": survey(train, labels),
        }
        look = network.encoder.look
        crops = Crops(train, labels, look, scales=self.scales, crop=self.crop, flip=self.flip, seed=seed)
        run(network, crops, Recipe.of(self, epochs=1), out, seed, about)

    def open(self, out: Path) -> Callable[[Image], Label]:
        """The live segmenter: whole images, no mirroring.

        Raises:
            UsageError: `out` holds no weights of this part; pydensecrf is absent and `crf` set.
        """
        import torch
        from torch.nn import functional

        from matlabel_bench.recipe import load
        from matlabel_cams.trained import classes_in

        classes = classes_in(out)
        network = self._network(classes)
        load(network, out)
        network = network.eval().to(self.device)
        sharpen = self._crf(classes) if self.crf else None

        @torch.inference_mode()
        def segment(image: Image) -> Label:
            logits = network(network.encoder.look(image)[None].to(self.device))
            logits = functional.interpolate(logits, image.shape[:2], mode="bilinear", align_corners=False)[0]
            if sharpen is None:
                return logits.argmax(0).byte().cpu().numpy()
            return sharpen(image, logits.softmax(0).cpu().numpy()).argmax(0).astype(np.uint8)

        return segment

    def _network(self, classes: int) -> MultiScale:
        from matlabel_segmenters.network import MultiScale

        return MultiScale(
            self.backbone,
            classes + 1,
            style=self.style,
            rates=self.rates,
            scales=self.msc,
            head_multiple=self.head_multiple,
            balanced=self.balanced,
        )

    def _crf(self, classes: int) -> Callable[[Image, Float32[np.ndarray, "c h w"]], Float32[np.ndarray, "c h w"]]:
        from matlabel_refiners.crf import Crf

        part = Crf(
            unary="softmax",
            smooth_xy=1.0,
            smooth_compat=3.0,
            bilateral_xy=67.0,
            bilateral_rgb=3.0,
            bilateral_compat=4.0,
            iterations=10,
        )
        refine, everything = part.open(None), np.arange(1, classes + 1, dtype=np.uint8)
        seen = wrapped if self.crf_image == "upstream" else lambda image: image
        return lambda image, scores: refine(seen(image), everything, scores)


def wrapped(image: Image) -> Image:
    """What the reference's CRF sees: BGR minus the mean, cut to whole numbers, of which negative ones wrap around."""
    return (image[..., ::-1] - CAFFE_BGR).astype(np.int32).astype(np.uint8)
