"""Compares part deeplab_v2 with kazuto1011/deeplab-pytorch at 4219467, run beside it on the same random numbers.

    git clone https://github.com/kazuto1011/deeplab-pytorch REF && git -C REF checkout 4219467
    python docs/equivalence/deeplab_v2.py --reference REF

Prints one row of a Markdown table a comparison. About a minute on one core.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn
from torch.nn import functional

from matlabel_bench.recipe import Recipe, optimizer
from matlabel_bench.train import schedulers
from matlabel_segmenters.aspp import nearest
from matlabel_segmenters.crops import cut
from matlabel_segmenters.deeplab_v2 import DeepLabV2, wrapped
from matlabel_segmenters.encoders import CAFFE, Look
from matlabel_segmenters.network import MultiScale
from matlabel_segmenters.weights import ours

STEPS, CLASSES = 20000, 21


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of kazuto1011/deeplab-pytorch")
    upstream = import_reference(parser.parse_args().reference)
    torch.manual_seed(0)
    theirs = upstream.DeepLabV2_ResNet101_MSC(n_classes=CLASSES)
    scramble(theirs)
    network = MultiScale("resnet101", CLASSES)
    network.model.load_state_dict({ours(k): v for k, v in theirs.state_dict().items()}, strict=True)
    for compared, largest in itertools.chain(
        sizes(upstream),
        labels(upstream),
        crops(upstream),
        crf(upstream),
        rates(network, upstream),
        groups(network, theirs, upstream),
        logits(network, theirs),
        training(network, theirs, upstream),
    ):
        print(f"| deeplab_v2 | kazuto1011/deeplab-pytorch@4219467 | {compared} | {largest} |", flush=True)


def import_reference(folder: Path) -> Any:
    """The reference's main.py; what it imports for its command line alone may be absent."""
    sys.path.insert(0, str(folder.resolve()))
    for name in ("click", "omegaconf", "torchnet", "torchnet.meter", "torch.utils.tensorboard"):
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = _Anything(name)
    import main as upstream  # type: ignore[import-not-found]

    upstream.torch = _Torch("torch")
    return upstream


class _Anything(types.ModuleType):
    """Stands for a module whose contents are not used: every name in it is None."""

    def __getattr__(self, name: str) -> Any:
        return None


class _Torch(types.ModuleType):
    """torch with the constructor that its resize_labels was written for, which took lists of arrays of floats."""

    def LongTensor(self, arrays: list[np.ndarray]) -> torch.Tensor:  # noqa: N802 - torch's name
        return torch.from_numpy(np.stack(arrays).astype(np.int64))

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def scramble(network: nn.Module) -> None:
    """Statistics and affine weights of normalisations as if trained; a head that says something."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def sizes(upstream: Any) -> Iterator[tuple[str, str]]:
    """Entries of the state dict, all of which were loaded by name, and parameters."""
    for classes in (CLASSES, 81):
        mine, theirs = MultiScale("resnet101", classes), upstream.DeepLabV2_ResNet101_MSC(n_classes=classes)
        counts = [(len(n.state_dict()), sum(p.numel() for p in n.parameters())) for n in (mine, theirs)]
        yield f"entries and parameters of the network, {classes} classes", f"{counts[0]} and {counts[1]}"


def logits(network: MultiScale, theirs: nn.Module) -> Iterator[tuple[str, str]]:
    """Maps of training (four) and of testing (their maximum)."""
    for mode, sizes in (("train", [(2, 3, 161, 161), (1, 3, 130, 97)]), ("test", [(1, 3, 121, 167), (1, 3, 94, 125)])):
        network.train(mode == "train"), theirs.train(mode == "train")
        theirs.base.freeze_bn()
        worst, scale, count = 0.0, 0.0, 0
        for size in sizes:
            images = torch.randn(size) * 50
            with torch.no_grad():
                got = network.pyramid(images) if mode == "train" else [network(images)]
                want = theirs(images) if mode == "train" else [theirs(images)]
            for a, b in zip(got, want, strict=True):
                worst, scale = max(worst, float((a - b).abs().max())), max(scale, float(b.abs().max()))
            count = len(got)
        shapes = ", ".join("x".join(map(str, s)) for s in sizes)
        yield f"{mode} mode: {count} map(s) of logits for inputs {shapes}, same random weights", apart(worst, scale)


def training(network: MultiScale, theirs: nn.Module, upstream: Any) -> Iterator[tuple[str, str]]:
    """The loss of a batch and its gradients."""
    images, truth = torch.randn(2, 3, 129, 129) * 50, torch.randint(0, CLASSES, (2, 129, 129))
    truth[:, :20] = 255
    theirs.train(), network.train()
    theirs.base.freeze_bn()
    criterion = nn.CrossEntropyLoss(ignore_index=255)
    want = sum(criterion(m, upstream.resize_labels(truth, m.shape[:1:-1])) for m in theirs(images))
    got = sum(network.losses(images, truth).values())
    want.backward(), got.backward()
    yield "training loss of a batch, four cross entropies", apart(float((got - want).abs()), float(want))
    mine = dict(network.model.named_parameters())
    worst, scale = 0.0, 0.0
    for name, value in theirs.named_parameters():
        found = mine[str(ours(name))]
        if found.requires_grad:
            worst = max(worst, float((found.grad - value.grad).abs().max()))
            scale = max(scale, float(value.grad.abs().max()))
    yield "gradients of all trained parameters", apart(worst, scale)


def groups(network: MultiScale, theirs: nn.Module, upstream: Any) -> Iterator[tuple[str, str]]:
    """Which parameter learns at which multiples."""
    names = {id(p): str(ours(n)) for n, p in theirs.named_parameters()}
    want = {}
    for key, rate, decay in (("1x", 1.0, 1.0), ("10x", 10.0, 1.0), ("20x", 20.0, 0.0)):
        want |= {names[id(p)]: (rate, decay) for p in upstream.get_params(theirs, key)}
    names = {id(p): n for n, p in network.model.named_parameters()}
    got = {names[id(p)]: (rate, decay) for params, rate, decay in network.groups() for p in params}
    other = sum(got.get(n) != want.get(n) for n in got.keys() | want.keys())
    yield f"multiples of learning rate and decay of {len(want)} parameters", f"{other} differ"


def rates(network: MultiScale, upstream: Any) -> Iterator[tuple[str, str]]:
    """Learning rates of the three groups through all steps."""
    recipe = Recipe.of(DeepLabV2(), epochs=1)
    mine = optimizer(network, recipe)
    scheduler = PARAM_SCHEDULERS.build(schedulers(recipe, STEPS)[0] | {"optimizer": mine})
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": g["lr"]} for g in mine.param_groups]
    theirs = torch.optim.SGD(groups, momentum=0.9)
    reference = upstream.PolynomialLR(theirs, step_size=10, iter_max=STEPS, power=0.9)
    exact, between = 0.0, 0.0
    for step in range(STEPS):
        for a, b in zip(mine.param_groups, theirs.param_groups, strict=True):
            share = abs(a["lr"] - b["lr"]) / b["initial_lr"]
            exact, between = (max(exact, share), between) if step % 10 == 0 else (exact, max(between, share))
        mine.step(), theirs.step()
        scheduler.step(), reference.step(epoch=step + 1)
    yield "learning rates of three groups at every tenth of 20,000 steps", f"{exact:.1e} of the first rate"
    yield "learning rates at the steps between (there they wait for the tenth)", f"{between:.1e} of the first rate"


def labels(upstream: Any) -> Iterator[tuple[str, str]]:
    """Labels made as small as the logits."""
    rng, other, count = np.random.default_rng(0), 0, 0
    for _ in range(200):
        h, w, gh, gw = (int(v) for v in rng.integers(1, 400, 4))
        given = torch.from_numpy(rng.integers(0, 256, (1, h, w)))
        other += int((nearest(given, (gh, gw)) != upstream.resize_labels(given, (gw, gh))).sum())
        count += gh * gw
    yield f"labels in 200 other sizes, {count:,} pixels", f"{other} differ"


def crops(upstream: Any) -> Iterator[tuple[str, str]]:
    """Scaled, padded, cut and mirrored images and labels, with the reference's draws."""
    from libs.datasets.base import _BaseDataset  # type: ignore[import-not-found]

    look, rng = Look(*CAFFE, bgr=True), np.random.default_rng(0)
    mean = np.array(CAFFE[0][::-1])
    _BaseDataset._set_files = lambda self: None
    data = _BaseDataset("", "", 255, mean, crop_size=161, scales=(0.5, 0.75, 1.0, 1.25, 1.5))
    worst, other = 0.0, 0
    for number in range(40):
        h, w = (int(v) for v in rng.integers(60, 260, 2))
        image = rng.integers(0, 256, (h, w, 3), np.uint8)
        label = rng.integers(0, 21, (h, w)).astype(np.int32)
        random.seed(number)
        theirs, want = data._augmentation(image[..., ::-1].astype(np.float32), label)
        random.seed(number)
        scale = random.choice(data.scales)
        size = [max(161, int(side * scale)) for side in (h, w)]
        starts = [random.randint(0, side - 161) for side in size]
        spot = [(start + 0.5) / (side - 160) for start, side in zip(starts, size, strict=True)]
        mine, got = cut(look(image), torch.from_numpy(label.astype(np.int64)), scale, 161, (spot[0], spot[1]))
        if random.random() < 0.5:
            mine, got = mine.flip(-1), got.flip(-1)
        worst = max(worst, float(np.abs(mine.numpy() - (theirs - mean).transpose(2, 0, 1)).max()))
        other += int((got.numpy() != want).sum())
    yield "40 training crops of 161 x 161, grey levels 0..255", f"{worst:.1e}; {other} label pixels differ"


def crf(upstream: Any) -> Iterator[tuple[str, str]]:
    """Post-processing, on the image and on what the reference gives its CRF."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    guess = torch.from_numpy(rng.normal(size=(1, CLASSES, 9, 12)).astype(np.float32)) * 2
    scores = functional.interpolate(guess, image.shape[:2], mode="bilinear").softmax(1)[0].numpy()
    solve = upstream.DenseCRF(iter_max=10, pos_xy_std=1, pos_w=3, bi_xy_std=67, bi_rgb_std=3, bi_w=4)
    seen = (image[..., ::-1] - np.array(CAFFE[0][::-1])).astype(np.float32).astype(np.uint8)
    other = int((seen != wrapped(image)).sum())
    for kind, theirs in (("raw", image), ("upstream", seen)):
        got = DeepLabV2(crf_image=kind)._crf(CLASSES - 1)(image, scores)
        worst = float(np.abs(got - solve(theirs, scores)).max())
        note = f"; {other} pixels of its image differ" if kind == "upstream" else ""
        yield f"CRF marginals, 21 classes, 72 x 96, crf_image={kind}", f"{worst:.1e}{note}"


def apart(worst: float, scale: float) -> str:
    return f"{worst:.1e} (largest value {scale:.3g})"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
