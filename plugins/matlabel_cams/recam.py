"""ReCAM: class re-activation maps (Chen et al., Class Re-Activation Maps for WSSS, CVPR 2022).

Compared with zhaozhengChen/ReCAM at 2bdbcd2: a classifier as IRN's, but trained from layer1 on; then a second
classifier that must tell, by softmax, the class of the features under each present class's map. Its inference takes the
product of both classifiers' weights on VOC, and the first one's weights on COCO.
Deviations: the maps of several scales are laid over each other as `scales.py` says; features are pooled under the maps
by one matrix product, without the tensor of all classes' masked features (same values, a hundredth of the memory).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from matlabel_bench.fields import knob
from matlabel_bench.types import Cams, Image, Split, Tags
from matlabel_cams.cam import Cam
from matlabel_cams.trained import NEXT_SEED, Trained, classes_in

if TYPE_CHECKING:
    from matlabel_bench.recipe import Recipe


@dataclass(frozen=True)
class ReCam(Trained):
    """Class activation maps that a second, softmax classifier has corrected."""

    published_in: ClassVar[str] = "Chen et al., Class Re-Activation Maps for Weakly-Supervised Segmentation, CVPR 2022"

    cut: str = knob("stem", "last stage that is not trained; none trains all (ReCAM: stem)")
    epochs: int = knob(5, "times each image is seen in the first stage", low=1)
    lr: float = knob(0.1, "learning rate of the backbone at the first stage's first step", low=0)
    momentum: float = knob(1e-4, "of SGD; IRN's 0.9 never reached its optimiser, 1e-4 did", low=0, high=1)
    recam_epochs: int = knob(4, "times each image is seen in the second stage (ReCAM)", low=1)
    recam_batch: int = knob(0, "images a step of the second stage; 0: as batch (ReCAM: 16 on VOC, 6 on COCO)", low=0)
    recam_lr: float = knob(5e-4, "learning rate of the second classifier at its first step (ReCAM)", low=0)
    recam_multiple: float = knob(0.1, "rate of backbone and first classifier, relative to recam_lr (ReCAM)", low=0)
    recam_weight: float = knob(1.0, "weight of the softmax cross-entropy (ReCAM: 1 on VOC, 0.1 on COCO)", low=0)
    heads: str = knob(
        "product",
        "maps from the product of both classifiers' weights (ReCAM on VOC), or from the first's (on COCO)",
        choices=("product", "plain"),
        key="open",
    )

    @property
    def effort(self) -> tuple[float, float]:
        """Cost relative to CAM, of the second stage for each time of the first."""
        return 1.1 * self.recam_epochs / self.epochs, 1.0

    def stem(self) -> Cam:
        """The first stage: the training of a classifier."""
        return Cam.stem_of(self)

    def fit(self, train: Split, out: Path, seed: int, stem: Path | None = None) -> None:
        """Train both classifiers together. Raises UsageError (weights, fields) and TrainingFailed.

        `stem` holds the finished training of `self.stem()`; without it, that is trained in `out / "stem"`.
        """
        from matlabel_bench.recipe import load
        from matlabel_cams.classifier import backbone_with_weights

        stem = stem or self.begun(train, out, seed)
        backbone = backbone_with_weights(self.backbone, self.stride, self.weights, seed)
        network = self._network(backbone, len(train.classes))
        load(network.classifier, stem)
        self.train(network, backbone, train, out, seed + NEXT_SEED, self._second())

    def open(self, out: Path) -> Callable[[Image, Tags], Cams]:
        """The live generator. Raises UsageError where `out` holds no weights of this part."""
        from matlabel_bench.recipe import load
        from matlabel_cams.backbones import make

        backbone = make(self.backbone, self.stride)
        network = self._network(backbone, classes_in(out))
        load(network, out)
        return self.maps(network, backbone, normalise=True)

    def _network(self, backbone: Any, classes: int) -> Any:
        from matlabel_cams.classifier import options
        from matlabel_cams.recam_network import ReCamNetwork

        product = self.heads == "product"
        return ReCamNetwork(backbone, classes, self.recam_weight, self.recam_multiple, product, **options(self))

    def _second(self) -> Recipe:
        """How the second stage is trained."""
        batch = self.recam_batch or self.batch
        return dataclasses.replace(self.recipe(), epochs=self.recam_epochs, batch=batch, lr=self.recam_lr)
