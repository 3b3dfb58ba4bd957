"""D2CAM: double decoupled class activation maps (Wang, Xu et al., ICCV 2023, section 3.2.1, equations 2-8).

No code of the authors is public; what the text leaves open is a field here, with the reading that
docs/decisions.md gives reasons for. Gradients ("truncate the gradients of N1 and N2 in L_d2") follow the text and,
for comparison, BAS (wpy1999/BAS at 54c395e), whose generator learns through its input as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from matlabel_bench.errors import UsageError
from matlabel_bench.fields import knob
from matlabel_bench.types import Cams, Image, Split, Tags
from matlabel_cams.cam import Cam
from matlabel_cams.trained import NEXT_SEED, Trained, classes_in


@dataclass(frozen=True)
class D2Cam(Trained):
    """Maps from a generator of their own, taught to hold what a class needs and to leave the rest."""

    published_in: ClassVar[str] = "Wang, Xu et al., Treating Pseudo-labels Generation as Image Matting, ICCV 2023"

    stride: int = knob(8, "pixels of the input a cell of the feature map covers (paper: 8)", choices=(8, 16))
    cut: str = knob("stem", "last stage that is not trained; none trains all (as ReCAM: stem)")
    epochs: int = knob(8, "times each image is seen, after the warm-up (paper: 8 on VOC, 12 on COCO)", low=1)
    lr: float = knob(6e-3, "learning rate of the backbone at the first step (paper)", low=0)
    generator_multiple: float = knob(10.0, "learning rate of the generator, relative to lr (BAS)", low=0)
    pool: bool = knob(False, "halve the feature map before N2 by max-pooling (BAS); a quarter of the cost")
    bias: float = knob(0.0, "the generator's first bias; 0: every map begins at one half")
    warmup: int = knob(0, "epochs of a CAM classifier that learns first; trained once for all that begin alike", low=0)
    warmup_lr: float = knob(0.0, "learning rate of the warm-up's first step; 0: as lr", low=0)
    ramp: int = knob(0, "batches over which the losses of the maps grow to their weight", low=0)
    judge: str = knob(
        "live",
        "who classifies masked features: the classifier as it learns (figure 3), or as it stood after the warm-up",
        choices=("live", "frozen"),
    )
    sees: str = knob(
        "",
        "stage whose output the generator reads; empty: N1's last (the text); last: what the classifying layer reads",
    )
    start: str = knob(
        "xavier",
        "first weights of the generator: random (BAS), or the classifying layer's as they are after the warm-up",
        choices=("xavier", "head"),
    )
    beta: float = knob(0.1, "weight of the background's cross-entropy (eq. 5)", low=0)
    hinge: float = knob(1.0, "margin of the hinge (eq. 5)", low=0)
    m: float = knob(0.2, "share of the map above which area is fully penalised (eq. 6)", low=0, high=1)
    lam: float = knob(0.05, "weight of the area below m (eq. 6)", low=0)
    gamma1: float = knob(0.5, "weight of the decoupling loss (section 4.2)", low=0)
    gamma2: float = knob(2.0, "weight of the area loss (section 4.2)", low=0)
    gamma3: float = knob(0.5, "weight of the overlap loss (section 4.2)", low=0)
    area: str = knob(
        "margin",
        "area loss: with margin m (eq. 6), plain (eq. 7), or with a margin for each class of an image: the share of it "
        "that the judge's own CAM covers (not of the paper)",
        choices=("margin", "plain", "own"),
    )
    level: float = knob(0.25, "of area=own: a CAM covers what exceeds this share of its maximum", low=0, high=1)
    equal: float = knob(0.0, "weight of equivariance under scaling, not of the paper (SEAM, CVPR 2020)", low=0)
    gradient: str = knob(
        "literal",
        "the generator's input is detached in L_d2 (literal), nowhere (bas), or in all its losses (phi_only)",
        choices=("literal", "bas", "phi_only"),
    )
    watch: int = knob(10, "log, every so many steps, what each loss sends to the generator; 0 never", low=0, key="none")
    normalise: str = knob("max", "divide each map by its maximum, or leave it", choices=("max", "none"))

    def __post_init__(self) -> None:
        if (self.judge == "frozen" or self.start == "head") and not self.warmup:
            remedy = "set warmup to the epochs in which the classifier learns alone"
            raise UsageError("a classifier that has learned, for judge=frozen or start=head", "warmup=0", remedy)

    @property
    def effort(self) -> tuple[float, float]:
        """Cost relative to CAM: masked features pass N2 twice for each class, which is heavy where N2 is."""
        masked = 1.0 if self.gradient == "phi_only" else 8.0 if self.backbone == "resnet50" else 2.0
        return masked + (self.equal > 0), 1.3

    @property
    def leaves(self) -> tuple[float, float]:
        """Bytes that a training leaves: the weights, and those of a judge beside them."""
        once, image = super().leaves
        return once * (2 if self.judge == "frozen" else 1), image

    def stem(self) -> Cam | None:
        """The training that this one goes on from: of the classifier alone. None without a warm-up."""
        return Cam.stem_of(self, epochs=self.warmup, lr=self.warmup_lr or self.lr) if self.warmup else None

    def fit(self, train: Split, out: Path, seed: int, stem: Path | None = None) -> None:
        """Train classifier and generator together. Raises UsageError (weights, fields) and TrainingFailed.

        `stem` holds the finished training of `self.stem()`; without it, that is trained in `out / "stem"`.
        """
        from matlabel_bench.recipe import load
        from matlabel_cams.classifier import backbone_with_weights

        stem = stem or self.begun(train, out, seed)
        backbone = backbone_with_weights(self.backbone, self.stride, self.weights, seed)
        network = self._network(backbone, len(train.classes))
        if stem is not None:
            load(network.classifier, stem)
            network.to(self.device).begin(self.crops(backbone, train, seed))
        self.train(network, backbone, train, out, seed + NEXT_SEED if stem else seed)

    def open(self, out: Path) -> Callable[[Image, Tags], Cams]:
        """The live generator. Raises UsageError where `out` holds no weights of this part."""
        from matlabel_bench.recipe import load
        from matlabel_cams.backbones import make

        backbone = make(self.backbone, self.stride)
        network = self._network(backbone, classes_in(out))
        load(network, out)
        return self.maps(network, backbone, normalise=self.normalise == "max")

    def _network(self, backbone: Any, classes: int) -> Any:
        from matlabel_cams.classifier import options
        from matlabel_cams.d2losses import Weights
        from matlabel_cams.d2network import D2Network

        weights = Weights(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Weights)})
        return D2Network(
            backbone,
            classes,
            weights,
            self.bias,
            self.generator_multiple,
            self.sees,
            self.watch,
            pool=self.pool,
            **options(self),
        )
