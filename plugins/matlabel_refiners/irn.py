"""IRN: maps carried over an image by a random walk that class boundaries hold up (column "w/ IRN" of the tables).

Ahn, Cho, Kwak: Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations, CVPR 2019; the semantic
half of it. Compared with jiwoon-ahn/irn at a2ece00 (MIT), whose parameters are our defaults: labels mined from maps
(`irn_mining.py`), a network trained on pairs of cells of equal and of different labels (`irn_network.py`,
`irn_losses.py`, `irn_paths.py`; optimiser with a momentum of 1e-4 in effect), and 2^8 steps of a walk (`irn_walk.py`,
on a graphics card `irn_walk_torch.py`).

Deviations: the maps of the walk are the seed, averaged over cells of 4 x 4 pixels; IRN has those of its own CAM, drawn
anew at that size. The walk is sparse, with the same result. Images larger than `crop` are taken whole, not cut; smaller
ones are filled up to it with their mean colour as in IRN, whose group normalisation sees that margin. On crops below
160 pixels the radius of the pairs is a quarter of the grid. The mean displacement, which no label depends on, is that
of at most 16 images. A trunk with pretrained weights stays as it is; one that has none (`small`) would give branches
nothing but random filters to look at, and is trained with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matlabel_bench.errors import UsageError
from matlabel_bench.fields import knob
from matlabel_bench.types import Cams, Image, Label, Split, Tags
from matlabel_cams.trained import WEIGHTS
from matlabel_refiners.irn_measured import Walk

COSTS = {"resnet50": (1.7, 1.5), "mobilenet_v2": (0.5, 0.7), "small": (0.5, 0.15)}
"""Seconds of a core with each backbone: a training crop of 512 pixels; a 375x500 image refined. Round numbers."""
MINING = 0.5
"""Seconds of a core for the label mined of a 375x500 image."""


@dataclass(frozen=True)
class Irn:
    """IRN's random walk between class boundaries, from maps or alphas to a label."""

    version: ClassVar[int] = 2
    supervision: ClassVar[tuple[str, ...]] = ()
    trains: ClassVar[bool] = True
    takes: ClassVar[str] = "maps"
    published_in: ClassVar[str] = "Ahn, Cho, Kwak: Weakly Supervised Learning of Instance Segmentation. CVPR 2019"

    backbone: str = knob("resnet50", "network", choices=("resnet50", "mobilenet_v2", "small"))
    weights: str = knob("", "pretrained weights: file, address such as torchvision://resnet50, or none", key="file")
    train_trunk: bool = knob(False, "train the trunk too; done in any case where it has no pretrained weights")
    conf_fg: float = knob(0.3, "background plane against which a pixel is certain foreground", low=0, high=1)
    conf_bg: float = knob(0.05, "background plane below which a pixel is certain background", low=0, high=1)
    train_radius: int = knob(10, "pairs in training are nearer than this, cells of 4 pixels", low=2)
    epochs: int = knob(3, "times each image is seen", low=1)
    batch: int = knob(32, "images a step, over all processes", low=1)
    lr: float = knob(0.1, "learning rate of the boundary branch at the first step", low=0)
    displacement_multiple: float = knob(10.0, "learning rate of the displacement branch, relative to lr", low=0)
    momentum: float = knob(1e-4, "of SGD; IRN's 0.9 never reached its optimiser, 1e-4 did", low=0, high=1)
    weight_decay: float = knob(1e-4, "of SGD", low=0)
    power: float = knob(0.9, "lr falls with (1 - step / steps)^power", low=0)
    scale_low: float = knob(0.5, "least size of an image in training, relative to its own", low=0.05)
    scale_high: float = knob(1.5, "greatest size of an image in training, relative to its own", low=0.05)
    crop: int = knob(512, "side of the square that is cut in training and filled up to at inference, pixels", low=16)
    radius: int = knob(5, "reach of a step of the walk, cells of 4 pixels", low=2, key="open")
    beta: float = knob(10.0, "power of the affinities in the walk", low=0.1, key="open")
    exp_times: int = knob(8, "the walk has 2^exp_times steps", low=0, high=14, key="open")
    threshold: float = knob(0.25, "background below this share of the greatest value", low=0, high=1, key="open")
    amp: bool = knob(True, "half precision in training: float16 on a GPU, bfloat16 on a CPU that has it")
    device: str = knob("cpu", "where the network runs: cpu, cuda or cuda:N", key="none")
    readers: int = knob(0, "processes that read images beside a training; 0: a GPU gets one a core", low=0, key="none")
    tensorboard: bool = knob(False, "write TensorBoard events beside the JSON log", key="none")

    @property
    def cost(self) -> float:
        """Seconds of a core for a 375x500 image, for `bench plan`."""
        return COSTS[self.backbone][1]

    @property
    def fit_cost(self) -> float:
        """Seconds of a core for an image once through the training, for `bench plan`; mining falls on the first."""
        return COSTS[self.backbone][0] * (self.crop / 512) ** 2 + MINING / self.epochs

    @property
    def leaves(self) -> tuple[float, float]:
        """Bytes that a training leaves: weights, and the label mined of each image."""
        return WEIGHTS[self.backbone], 3_700.0

    def fit(self, train: Split, maps: Mapping[str, Cams], out: Path, seed: int) -> None:
        """Mine labels into `out`/labels and train on them.

        Args:
            maps: image id -> float32 k h w in [0, 1] at the image's size, read in worker processes too.

        Raises:
            UsageError: weights, fields or packages; DataError: an image or its maps; TrainingFailed: a diverging loss.
        """
        from matlabel_refiners.irn_fit import fit

        for low, high in (("scale_low", "scale_high"), ("conf_bg", "conf_fg")):
            if getattr(self, low) > getattr(self, high):
                got = f"{getattr(self, low)} and {getattr(self, high)}"
                raise UsageError(f"{low} not above {high}", got, "exchange the two values")
        fit(self, train, maps, out, seed)

    def open(self, out: Path) -> Callable[[Image, Tags, Cams], Label]:
        """The live refiner: a label of 0 and the tags. Raises UsageError where `out` holds no weights of this part."""
        from matlabel_refiners.irn_fit import refiner

        return refiner(self, out)

    def piece(self) -> Walk:
        """The random walk, which alone has a counterpart to be measured beside (`bench perf`)."""
        return Walk(self.radius, self.beta, self.exp_times, self.threshold)
