"""CAM and ReCAM beside their public implementations: one Markdown row a comparison.

    git clone https://github.com/zhaozhengChen/ReCAM && git -C ReCAM checkout 2bdbcd2
    git clone https://github.com/jiwoon-ahn/irn && git -C irn checkout a2ece00
    python docs/equivalence/recam.py --reference ReCAM --irn irn

Both sides get the same random ResNet-50, random statistics of its normalisations among them, where the references would
download one. Differences are given as shares of the largest magnitude on the reference's side.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from matlabel_bench.train import run
from matlabel_cams.backbones import IMAGENET
from matlabel_cams.cam import Cam
from matlabel_cams.classifier import Classifier, backbone_with_weights, options
from matlabel_cams.recam import ReCam
from matlabel_cams.recam_network import ReCamNetwork
from matlabel_cams.scales import at_scales, grid, sampling

IRN, RECAM = "jiwoon-ahn/irn@a2ece00", "zhaozhengChen/ReCAM@2bdbcd2"
CLASSES, STEPS = 20, 3
CHANGE = f"change of all weights by {STEPS} steps: the reference's optimiser, our training"
Row = tuple[str, float]


def reference(folder: Path) -> SimpleNamespace:
    """The networks and the optimiser of a checkout; both checkouts use the same names for their modules."""
    for name in [n for n in sys.modules if n.split(".")[0] in ("net", "misc")]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    cam = importlib.import_module("net.resnet50_cam")
    resnet, torchutils = importlib.import_module("net.resnet50"), importlib.import_module("misc.torchutils")
    sys.path.pop(0)
    return SimpleNamespace(cam=cam, resnet=resnet, torchutils=torchutils)


def random_weights(ref: SimpleNamespace) -> dict[str, torch.Tensor]:
    """A ResNet-50 whose signals neither die nor grow, under the names of torchvision's file."""
    torch.manual_seed(0)
    state = ref.resnet.resnet50(pretrained=False).state_dict()
    for name, value in state.items():
        if name.endswith(("running_var", "bn1.weight", "bn2.weight")):
            value.uniform_(0.7, 1.3)
        elif name.endswith("bn3.weight"):
            value.uniform_(0.1, 0.3)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1)
        elif value.ndim == 4:
            torch.nn.init.kaiming_normal_(value)
    state |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    ref.resnet.model_zoo.load_url = lambda url: dict(state)
    return state


def apart(ours: Any, theirs: Any) -> float:
    """The largest difference of two tensors, or of many, as a share of the largest magnitude."""
    if isinstance(ours, torch.Tensor):
        ours, theirs = [ours], [theirs]
    pairs = list(zip(ours, theirs, strict=True))
    largest = max(float(b.detach().abs().max()) for _, b in pairs)
    return max(float((a.detach() - b.detach()).abs().max()) for a, b in pairs) / largest


class Fixed(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """A data set of the same images in every epoch."""

    def __init__(self, images: torch.Tensor, tags: torch.Tensor) -> None:
        self.images, self.tags = images, tags

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: tuple[int, int]) -> dict[str, torch.Tensor]:
        return {"images": self.images[at[1]], "tags": self.tags[at[1]], "epoch": torch.tensor(at[0])}


def example(side: int = 161) -> tuple[torch.Tensor, torch.Tensor]:
    """Three images of random blotches; several tags, one tag, none."""
    torch.manual_seed(1)
    tags = torch.zeros(3, CLASSES)
    tags[0, [0, 3, 11, 12]] = tags[1, 7] = 1
    blotches = functional.interpolate(torch.randn(3, 3, 9, 9), (side, side), mode="bilinear")
    return 2 * blotches + 0.3 * torch.randn(3, 3, side, side), tags


def random_head(head: torch.nn.Conv2d) -> None:
    """Weights by which maps have both signs: features are not negative, and large in all channels."""
    torch.nn.init.normal_(head.weight, 3e-4, 0.01)


def pairs_of(ours: Classifier, theirs: Any) -> Iterator[tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    """Parameters of our classifier with those of the reference that play the same part."""
    named = dict(theirs.resnet50.named_parameters())
    for name, value in ours.named_parameters():
        yield value, theirs.classifier.weight if name == "head.weight" else named[name.split(".", 2)[2]]


def gradients(pairs: Sequence[tuple[torch.nn.Parameter, torch.nn.Parameter]]) -> float:
    """Ours and theirs apart, over all parameters; those that the reference trains are those that we train."""
    for ours, theirs in pairs:
        if (ours.grad is None) != (theirs.grad is None):
            raise SystemExit(f"one side alone has a gradient for a parameter of shape {tuple(ours.shape)}")
    moved = [(a.grad, b.grad) for a, b in pairs if b.grad is not None]
    return apart([a for a, _ in moved], [b for _, b in moved])


def poly(ref: SimpleNamespace, groups: Sequence[tuple[Any, float]]) -> Any:
    """The reference's optimiser over parameters with their learning rates."""
    told = [{"params": params, "lr": lr, "weight_decay": 1e-4} for params, lr in groups]
    return ref.torchutils.PolyOptimizer(told, groups[-1][1], 1e-4, max_step=STEPS)


def trained(network: Any, part: Cam | ReCam, optimiser: Any, loss: Callable[[], torch.Tensor], pairs: Any) -> float:
    """What a few steps on the same images change, by our training and by the reference's optimiser."""
    before = [b.detach().clone() for _, b in pairs]
    recipe = replace(part._second() if isinstance(part, ReCam) else part.recipe(), batch=3, epochs=STEPS)
    network.zero_grad()
    with tempfile.TemporaryDirectory() as out:
        run(network, Fixed(*example()), recipe, Path(out), 0, {})
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    moved = [(a - o, b - o) for (a, b), o in zip(pairs, before, strict=True)]
    return apart([a for a, _ in moved], [b for _, b in moved])


def one_image(network: Any, theirs: Callable[[torch.Tensor], torch.Tensor], stride: int = 16) -> float:
    """Maps of one image and its mirror image, summed; the reference's are sampled at the middle of our cells."""
    image = np.random.default_rng(2).integers(0, 256, (161, 241, 3)).astype(np.uint8)
    image[40:100, 60:160], image[90:, 130:] = 230, 20
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
    tags = torch.arange(CLASSES)
    settings: dict[str, Any] = {"stride": stride, "cell": 8, "scales": (1.0,), "flip": True, "mean": mean, "std": std}
    ours = at_scales(image, lambda batch: network.maps(batch, tags), **settings)
    inputs = (torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)) - mean) / std
    sums = theirs(torch.stack([inputs, inputs.flip(-1)]))[tags]
    rows, columns = (
        sampling(cells, stride, 0.5, *grid(side, 8)) for cells, side in zip(sums.shape[1:], (161, 241), strict=True)
    )
    return apart(2 * ours, rows @ sums @ columns.T)


def of_cam(ref: SimpleNamespace, weights: str) -> Iterator[Row]:
    """Rows of `cam`, beside IRN's."""
    part = Cam(amp=False, lr=0.01)  # random weights bear no more
    theirs, maps = ref.cam.Net(), ref.cam.CAM()
    random_head(theirs.classifier)
    ours = Classifier(backbone_with_weights("resnet50", 16, weights, 0), CLASSES, **options(part)).train()
    theirs.train()
    for net in (ours.head, maps.classifier):
        net.load_state_dict(theirs.classifier.state_dict())
    images, tags = example()
    yield "logits of the classifier", apart(ours.logits(ours.features(images)), theirs(images))
    with torch.no_grad():
        yield "maps of one image and its mirror image, one scale", one_image(ours, maps)
    functional.multilabel_soft_margin_loss(theirs(images), tags).backward()
    ours.losses(images, tags, torch.zeros(3))["loss_cls"].backward()
    pairs = list(pairs_of(ours, theirs))
    yield "gradients of the loss, and which parameters have one", gradients(pairs)
    body, head = theirs.trainable_parameters()
    optimiser = poly(ref, [(body, part.lr), (head, 10 * part.lr)])
    loss = functional.multilabel_soft_margin_loss
    yield CHANGE, trained(ours, part, optimiser, lambda: loss(theirs(images), tags), pairs)


def at_strides(ref: SimpleNamespace, weights: str) -> Iterator[Row]:
    """Rows of `recam` at both strides."""
    return ((f"{what}, stride {s}", value) for s in (16, 8) for what, value in of_recam(ref, weights, s))


def of_recam(ref: SimpleNamespace, weights: str, stride: int) -> Iterator[Row]:
    """Rows of `recam`."""
    part = ReCam(amp=False, stride=stride)
    theirs, maps = ref.cam.Net_CAM_Feature(stride=stride), ref.cam.CAM(stride=stride)
    second = ref.cam.Class_Predictor(CLASSES, 2048)
    for head in (theirs.classifier, second.classifier):
        random_head(head)
    backbone = backbone_with_weights("resnet50", stride, weights, 0)
    ours = ReCamNetwork(backbone, CLASSES, part.recam_weight, part.recam_multiple, True, **options(part)).train()
    theirs.train()
    ours.predictor.load_state_dict(second.classifier.state_dict())
    for net in (ours.classifier.head, maps.classifier):
        net.load_state_dict(theirs.classifier.state_dict())
    images, tags = example()
    yield from _losses(ours, theirs, second, images, tags)
    pairs = [*pairs_of(ours.classifier, theirs), (ours.predictor.weight, second.classifier.weight)]
    yield "gradients of the losses, and which parameters have one", gradients(pairs)
    with torch.no_grad():
        product = one_image(ours, lambda x: maps.forward2(x, second.classifier.weight), stride)
        yield "maps of one image and its mirror image, one scale, heads=product", product
        ours.product = False
        yield "the same, heads=plain", one_image(ours, maps, stride)
    (body, head), lr = theirs.trainable_parameters(), part.recam_lr
    optimiser = poly(ref, [(body, 0.1 * lr), (head, 0.1 * lr), (list(second.parameters()), lr)])
    yield CHANGE, trained(ours, part, optimiser, lambda: sum(_two(*theirs(images)[:2], second, tags)), pairs)


def _losses(ours: ReCamNetwork, theirs: Any, second: Any, images: torch.Tensor, tags: torch.Tensor) -> Iterator[Row]:
    logits, vectors, _ = theirs(images)
    features, told = ours.features(images), ours.losses(images, tags, torch.zeros(3))
    yield "logits of the first head", apart(ours.classifier.head(features.mean((2, 3), True)).flatten(1), logits)
    yield "features pooled under the class maps", apart(ours.pooled(features), vectors)
    margin, entropy = _two(logits, vectors, second, tags)
    yield "soft-margin loss", apart(told["loss_cls"], margin)
    yield "softmax cross-entropy (images with several tags, and with none)", apart(told["loss_sce"], entropy)
    (margin + entropy + told["loss_cls"] + told["loss_sce"]).backward()


def _two(logits: torch.Tensor, vectors: torch.Tensor, second: Any, tags: torch.Tensor) -> list[torch.Tensor]:
    """The reference's losses."""
    return [functional.multilabel_soft_margin_loss(logits, tags), second(vectors, tags)[0]]


def main() -> None:
    """Print the rows of the checkouts that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a checkout of ReCAM at 2bdbcd2")
    parser.add_argument("--irn", type=Path, help="a checkout of irn at a2ece00")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "resnet50.pth")
        sources = (("cam", IRN, given.irn, of_cam), ("recam", RECAM, given.reference, at_strides))
        for part, source, checkout, rows in sources:
            if checkout is not None:
                ref = reference(checkout)
                torch.save(random_weights(ref), file)
                for what, difference in rows(ref, file):
                    print(f"| {part} | {source} | {what} | {difference:.1e} |", flush=True)


if __name__ == "__main__":
    main()
