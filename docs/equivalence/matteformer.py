"""MatteFormer beside its public implementation: one Markdown row a comparison, in about two minutes on one core.

    git clone https://github.com/webtoon/matteformer && git -C matteformer checkout f09f090
    python docs/equivalence/matteformer.py --reference matteformer

The reference's files are imported as they are. What they need of timm, easydict and toml is stood in for, `np.float`
(gone since NumPy 1.24) is put back, and `.cuda()` stays on the CPU. Weights are random; a few passes in training mode
let batch normalisation and power iteration settle first, so that numbers have the size of a trained network's.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from matlabel_bench import recipe
from matlabel_bench.types import BACKGROUND, FOREGROUND, UNKNOWN
from matlabel_mattings.matteformer.fusion import dilate, uncertain
from matlabel_mattings.matteformer.inference import live
from matlabel_mattings.matteformer.losses import laplacian, mean_distance
from matlabel_mattings.matteformer.network import Network
from matlabel_mattings.matteformer.sizes import SIZES
from matlabel_mattings.matteformer.weights import begin

SOURCE = "webtoon/matteformer@f09f090"
SIZES_TRIED = ((33, 47), (96, 128), (61, 83), (20, 300))
"""Rows and columns of images; the reference pads them as ours are padded."""


class Settings(dict[str, Any]):
    """What easydict is: a dict whose keys are attributes."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__  # type: ignore[assignment]


class Whole(torch.nn.Module):
    """In place of timm's DropPath: nothing is dropped, so that training passes can be compared, too."""

    def __init__(self, share: float) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The same."""
        return x


def reference(folder: Path) -> SimpleNamespace:
    """The reference's modules, from a checkout."""
    for name in ("timm", "timm.models", "timm.models.layers", "easydict", "toml"):
        sys.modules[name] = ModuleType(name)
    stands: dict[str, Any] = {"DropPath": Whole, "trunc_normal_": torch.nn.init.trunc_normal_}
    stands["to_2tuple"] = lambda side: (side, side)
    vars(sys.modules["timm.models.layers"]).update(stands)
    vars(sys.modules["easydict"]).update({"EasyDict": Settings})
    vars(np).update({"float": float})
    torch.Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign, assignment]
    sys.path.insert(0, str(folder.resolve()))
    import inference
    import networks
    import utils
    from trainers.trainer import Trainer

    return SimpleNamespace(inference=inference, networks=networks, utils=utils, trainer=Trainer)


def settled(theirs: SimpleNamespace) -> torch.nn.Module:
    """The reference's network with random weights, after four passes in training mode."""
    network: torch.nn.Module = theirs.networks.get_generator(is_train=False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1, 0.2)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    with torch.no_grad():
        for _ in range(4):
            network.train()(*batch(2, 128, 96))
        for scale in (1, 4, 8):  # alphas from 0 to 1, so that fusion has something to choose
            network.decoder.get_submodule(f"refine_OS{scale}")[3].weight.mul_(20)  # type: ignore[operator, index, union-attr]
    return network.eval()


def batch(count: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of noise, and trimaps of blocks of 8 pixels."""
    blocks = torch.nn.functional.one_hot(torch.randint(0, 3, (count, height // 8, width // 8)), 3)
    trimap = blocks.permute(0, 3, 1, 2).float().repeat_interleave(8, 2).repeat_interleave(8, 3)
    return torch.randn(count, 3, height, width), trimap


def rows(theirs: SimpleNamespace) -> Iterator[tuple[str, float | str]]:
    """What was compared, and the largest difference."""
    network = settled(theirs)
    state, own = network.state_dict(), Network(SIZES["swin_t"]).state_dict()
    apart = sum(1 for k in state.keys() | own.keys() if k not in state or own.get(k, None) is None)
    apart += sum(1 for k in state.keys() & own.keys() if own[k].shape != state[k].shape)
    yield f"names and shapes of the {len(state)} entries of the state dict", f"{apart} differ"
    ours = Network(replace(SIZES["swin_t"], drop=0.0))
    ours.load_state_dict(state)
    yield from forward(network, ours.eval())
    yield from fusion(theirs)
    yield from whole(theirs, network)
    yield from losses(theirs)
    yield from beginning(theirs, network)
    yield from training(network, ours)


def forward(network: torch.nn.Module, ours: Network) -> Iterator[tuple[str, float]]:
    """The encoder's six levels and the three alphas."""
    levels, alphas = [], []
    for shape in ((1, 96, 128), (2, 224, 160), (1, 320, 64)):
        image, trimap = batch(*shape)
        if shape[0] == 1:
            trimap[:, 1] += trimap[:, 2]  # an image without foreground: an empty mean
            trimap[:, 2] = 0
        with torch.inference_mode():
            joined = torch.cat([image, trimap], 1)
            pairs = zip(network.encoder(joined, trimap), ours.encoder(joined, trimap), strict=True)  # type: ignore[operator]
            levels += [float(((a - b).abs().max()) / a.abs().max()) for a, b in pairs]
            want, got = network(image, trimap), ours(image, trimap)
        alphas += [farthest(want[f"alpha_{name}"], value) for name, value in got._asdict().items()]
    yield "features of the encoder's six levels, relative to their largest value", max(levels)
    yield "alphas of full, quarter and eighth size", max(alphas)


def fusion(theirs: SimpleNamespace) -> Iterator[tuple[str, float]]:
    """The ellipses, and the uncertain areas."""
    spot = np.zeros((41, 41), bool)
    spot[20, 20] = True
    ellipses = [
        cv2.dilate(spot.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1,) * 2))
        != dilate(spot, r)
        for r in range(15)
    ]
    yield "pixels of OpenCV's ellipses of 1 to 29 pixels", float(np.sum(ellipses))
    differ = 0.0
    for height, width in ((96, 128), (416, 672), (1024, 736)):
        alpha = (torch.randn(1, 1, height // 16, width // 16).repeat_interleave(16, 2).repeat_interleave(16, 3)).clamp(
            0, 1
        )
        for diameter, radius in ((30, 7), (15, 3)):
            want = theirs.utils.get_unknown_tensor_from_pred(alpha, rand_width=diameter, train_mode=False)
            differ += float(((want > 0) != uncertain(alpha, [radius])).sum())
    yield "pixels of the uncertain areas", differ


def whole(theirs: SimpleNamespace, network: torch.nn.Module) -> Iterator[tuple[str, float]]:
    """From files to alpha: reading, padding, trimap, network, fusion, crop; ours cut to 8 bits as theirs is."""
    apart, rng = 0.0, np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe.save(network, folder)
        matte = live(folder, "swin_t", 0, "cpu")
        for height, width in SIZES_TRIED:
            image = rng.integers(0, 256, (height, width, 3), np.uint8)
            levels = np.array([BACKGROUND, UNKNOWN, UNKNOWN, FOREGROUND], np.uint8)
            trimap = np.kron(rng.choice(levels, (height // 8 + 1, width // 8 + 1)), np.ones((8, 8), np.uint8))
            trimap = trimap[:height, :width]
            cv2.imwrite(str(folder / "image.png"), image[:, :, ::-1])
            cv2.imwrite(str(folder / "trimap.png"), trimap)
            given = theirs.inference.generator_tensor_dict(str(folder / "image.png"), str(folder / "trimap.png"))
            want = theirs.inference.single_inference(network, given).astype(int)
            got = (matte(image, trimap[None])[0] * 255).astype(np.uint8)
            apart = max(apart, float(np.abs(want - got).max()))
    sizes = ", ".join(f"{h} x {w}" for h, w in SIZES_TRIED)
    yield f"alpha of whole images ({sizes}), grey levels of 255", apart


def losses(theirs: SimpleNamespace) -> Iterator[tuple[str, float]]:
    """Of random alphas with random weights, relative."""
    got, want = torch.rand(2, 1, 128, 128), torch.rand(2, 1, 128, 128)
    weight = (torch.rand(2, 1, 128, 128) > 0.5).float()
    colours = [torch.randn(2, 3, 128, 128) for _ in range(3)]
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0])
    blur = (torch.outer(line, line) / 256)[None, None]
    trainer = theirs.trainer
    fg, bg, image = colours
    pairs = [
        (trainer.regression_loss(got, want, weight=weight), mean_distance(got, want, weight)),
        (
            trainer.composition_loss(got, *colours, weight=weight),
            mean_distance(fg * got + bg * (1 - got), image, weight),
        ),
        (trainer.lap_loss(got, want, blur, weight=weight), laplacian(got, want, weight)),
    ]
    yield "losses of alpha, composite and Laplacian pyramid, relative", max(float(abs(a - b) / a) for a, b in pairs)


def beginning(theirs: SimpleNamespace, network: torch.nn.Module) -> Iterator[tuple[str, float]]:
    """A file such as Swin's, made of the network's own encoder, and what both take from it."""
    taken = {}
    for name, value in network.encoder.state_dict().items():  # type: ignore[union-attr, operator]
        part = value[:, :3] if name == "patch_embed.proj.weight" else value
        part = part[:169] if name.endswith("bias_table") else part[:, :49] if name.endswith("index") else part
        if name.startswith(("patch_embed.", "layers.")):
            taken[name] = part.clone()
    other, ours = theirs.networks.get_generator(is_train=False), Network(SIZES["swin_t"])
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "swin.pth")
        torch.save({"model": taken}, file)
        with contextlib.redirect_stdout(io.StringIO()):
            other.init_pretrained_weight(file)
        begin(ours, file)
    want, got = other.encoder.state_dict(), ours.encoder.state_dict()
    apart = [
        farthest(*(state[k][tuple(map(slice, v.shape))].float() for state in (want, got))) for k, v in taken.items()
    ]
    yield "weights taken from a Swin transformer's file", max(apart)


def training(network: torch.nn.Module, ours: Network) -> Iterator[tuple[str, float]]:
    """One pass in training mode without stochastic depth: power iteration, batch normalisation, gradients."""
    image, trimap = (x.double() for x in batch(2, 128, 160))
    want, got = network.double().train()(image, trimap), ours.double().train()(image, trimap)
    yield (
        "alphas of a pass in training mode, float64",
        max(farthest(want[f"alpha_{n}"], v) for n, v in got._asdict().items()),
    )
    state = ours.state_dict()
    moved = [farthest(v, state[k]) for k, v in network.state_dict().items() if k.endswith(("_u", "_v"))]
    yield "singular vectors after that pass, float64", max(moved)
    for alphas in (want.values(), got):
        sum(alpha.mean() for alpha in alphas).backward()
    slopes = {k: p.grad for k, p in network.named_parameters() if p.grad is not None}
    scale = max(float(g.abs().max()) for g in slopes.values())
    parts = dict(ours.named_parameters())
    yield (
        "gradients of that pass, relative to the largest, float64",
        max(farthest(g, parts[k].grad) for k, g in slopes.items()) / scale,
    )


def farthest(a: torch.Tensor, b: torch.Tensor | None) -> float:
    """The largest absolute difference."""
    return float("inf") if b is None else float((a - b).detach().abs().max())


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--reference", type=Path, required=True, help=f"a checkout of {SOURCE}")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for what, difference in rows(reference(parser.parse_args().reference)):
        shown = difference if isinstance(difference, str) else f"{difference:.2g}"
        print(f"| matteformer | {SOURCE} | {what} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
