"""CAM: class activation maps of a multi-label classifier (Zhou et al., CVPR 2016), as IRN prepares them.

Compared with jiwoon-ahn/irn at a2ece00 (MIT): ResNet-50 at stride 16, global average pooling and a 1 x 1 convolution
without bias, multi-label soft-margin loss, SGD whose momentum is 1e-4 in effect, gradient cut behind layer2,
longer side 320-640, crop 512, maps at scales 0.5, 1, 1.5, 2 with mirror images, ReLU, summed, divided by the maximum.
Deviation: maps of different scales are laid over each other at the positions the network looks at (`scales.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from matlabel_bench.fields import knob
from matlabel_bench.types import Cams, Image, Split, Tags
from matlabel_cams.trained import Trained, classes_in


@dataclass(frozen=True)
class Cam(Trained):
    """Class activation maps of a classifier: where each class's weights find their features."""

    published_in: ClassVar[str] = "Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016"

    cut: str = knob("layer2", "last stage that is not trained; none trains all (IRN: layer2)")
    momentum: float = knob(1e-4, "of SGD; IRN's 0.9 never reached its optimiser, 1e-4 did", low=0, high=1)

    @classmethod
    def stem_of(cls, part: Trained, **changes: Any) -> Cam:
        """The classifier that a part with CAM's fields goes on from."""
        return cls(**{f.name: getattr(part, f.name) for f in fields(cls)} | changes)

    def fit(self, train: Split, out: Path, seed: int) -> None:
        """Train the classifier. Raises UsageError (weights, fields) and TrainingFailed."""
        from matlabel_cams.classifier import Classifier, backbone_with_weights, options

        backbone = backbone_with_weights(self.backbone, self.stride, self.weights, seed)
        network = Classifier(backbone, len(train.classes), **options(self))
        self.train(network, backbone, train, out, seed)

    def open(self, out: Path) -> Callable[[Image, Tags], Cams]:
        """The live generator. Raises UsageError where `out` holds no weights of this part."""
        from matlabel_bench.recipe import load
        from matlabel_cams.backbones import make
        from matlabel_cams.classifier import Classifier, options

        backbone = make(self.backbone, self.stride)
        network = Classifier(backbone, classes_in(out), **options(self))
        load(network, out)
        return self.maps(network, backbone, normalise=True)
