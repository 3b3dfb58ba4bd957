"""IRN beside its public implementation: one Markdown row a comparison.

    git clone https://github.com/jiwoon-ahn/irn && git -C irn checkout a2ece00
    python docs/equivalence/irn.py --reference irn

Both sides get the same random ResNet-50, where the reference would download one, and the same random branches. The
reference's own steps run on the CPU: what they read and write is handed to them, and what would move to a GPU stays
where it is. Differences are shares of the largest magnitude on the reference's side, where they are no counts. A minute
on one core.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from irn_reference import (
    PART,
    STEPS,
    TAGS,
    Fixed,
    blotches,
    large,
    random_branches,
    random_trunk,
    reference,
    their_labels,
    their_training,
)
from torch.nn import functional

from matlabel_bench.images import Resampling, resize_image
from matlabel_bench.recipe import Recipe, save
from matlabel_bench.train import run
from matlabel_cams.classifier import backbone_with_weights
from matlabel_refiners import irn_fit, irn_walk
from matlabel_refiners.crf import Crf
from matlabel_refiners.irn import Irn
from matlabel_refiners.irn_losses import affinities
from matlabel_refiners.irn_mining import mine
from matlabel_refiners.irn_network import Irn as Network
from matlabel_refiners.irn_paths import paths, shifted, sources

NAMES = (
    (r"^trunk\.(stem|layer\d)\.", "resnet50."),
    (r"^boundary\.head", "fc_edge6"),
    (r"^displacement\.head", "fc_dp7.3"),
    (r"^displacement\.coarse", "fc_dp6"),
    (r"^displacement\.fine", "fc_dp7"),
    (
        r"^(boundary|displacement)\.levels\.(\d)",
        lambda m: f"fc_{'edge' if m[1] == 'boundary' else 'dp'}{int(m[2]) + 1}",
    ),
    (r"(?<=\d)\.conv\.", ".0."),
    (r"(?<=\d)\.norm\.", ".1."),
    (r"^mean_displacement", "mean_shift.running_mean"),
)
"""How our names become the reference's."""
Row = tuple[str, float]


def their_name(name: str) -> str:
    """The reference's name of one of our parameters."""
    for pattern, by in NAMES:
        name = re.sub(pattern, by, name)
    return name


def copied(theirs: torch.nn.Module, file: str) -> Network:
    """Our network, its trunk from the file as a user's would be, its branches from the reference."""
    ours = irn_fit.network_of(PART, backbone_with_weights("resnet50", 16, file, 0))
    state = theirs.state_dict()
    for name, value in ours.state_dict().items():
        if not name.startswith("trunk"):
            value.copy_(state[their_name(name)])
        elif not name.endswith("tracked") and not torch.equal(value, state[their_name(name)]):
            raise SystemExit(f"{name} is not {their_name(name)}")
    return ours


def apart(ours: Any, theirs: Any) -> float:
    """The largest difference, as a share of the largest magnitude."""
    ours, theirs = (torch.as_tensor(v).detach().double() for v in (ours, theirs))
    return float((ours - theirs).abs().max() / theirs.abs().max())


def geometry(ref: SimpleNamespace) -> Iterator[Row]:
    """Paths, sources and affinities on the grid of a crop of 512 pixels."""
    theirs, places = ref.indexing.PathIndex(10, (128, 128)), torch.arange(128 * 128).view(128, 128)
    window, at, wrong = sources(128, 128, 10), 0, 0
    tables = [table for bucket in theirs.path_indices for table in bucket]
    for path, table in zip(paths(10), tables, strict=True):
        ours = torch.stack([places[shifted(window, *cell)].flatten() for cell in path])
        wrong, at = wrong + int((ours != torch.from_numpy(table)).sum()), at + table.size
    yield f"indices on all paths, 128 x 128 cells, radius 10: number that differ of {at:,}", wrong
    boundary = torch.rand(1, 128, 128)
    theirs_too = ref.indexing.edge_to_affinity(boundary, theirs.path_indices)
    yield "affinities of all pairs on that grid", apart(affinities(boundary, 10), theirs_too)
    label = np.random.default_rng(0).integers(0, 21, (512, 512)).astype(np.uint8)
    reduced = ref.imutils.pil_rescale(label, 0.25, 0)
    yield (
        "label at a quarter: cells that differ",
        float((resize_image(label, (128, 128), Resampling.NEAREST) != reduced).sum()),
    )


def outputs(theirs: Any, ours: Network) -> Iterator[Row]:
    """What both networks say about images of an odd size."""
    images = blotches(2, 161, 243)
    theirs.eval()
    with torch.no_grad():
        found, wanted = ours.eval()(images), theirs(images, False)
    for name, one, other in zip(("boundary logits", "displacements, evaluation"), found, wanted, strict=True):
        yield f"{name}, 161 x 243 pixels", apart(one, other)


def training(ref: SimpleNamespace, trunk: str, out: Path) -> Iterator[Row]:
    """The reference's training and ours, from the same random branches on the same images."""
    out.mkdir()
    torch.manual_seed(4)
    ours = copied(ref.resnet50_irn.AffinityDisplacementLoss(ref.indexing.PathIndex(10, (40, 40))), trunk)
    before, fixed = {k: v.clone() for k, v in ours.state_dict().items()}, Fixed()
    torch.manual_seed(4)
    said, gradients = their_training(ref, out / "theirs.pth")
    batch = [fixed[0, index] for index in range(len(fixed))]
    first = ours.train().losses(**{k: torch.stack([pack[k] for pack in batch]) for k in batch[0]})
    names = ("loss_attract", "loss_repel", "loss_displacement", "loss_still")
    titles = ("attraction", "repulsion", "displacement on objects", "displacement on background")
    for number, (name, title) in enumerate(zip(names, titles, strict=True), start=1):
        yield f"loss of {title} ({said[f'loss{number}']:.2f})", apart(2 * first[name], said[f"loss{number}"])
    torch.stack(list(first.values())).sum().backward()
    found = torch.cat([p.grad.flatten() for group, _ in ours.groups() for p in group if p.grad is not None])
    yield "gradients of all branches", apart(found, gradients)
    ours.zero_grad()
    run(ours, fixed, Recipe.of(PART), out, 0, {})
    crops: Any = fixed
    irn_fit._store_mean(ours, crops, PART, out)
    theirs, state = torch.load(out / "theirs.pth", weights_only=True), ours.state_dict()
    branches = [name for name in state if name.startswith(("boundary", "displacement"))]
    moved = torch.cat([(state[name] - before[name]).flatten() for name in branches])
    wanted = torch.cat([(theirs[their_name(name)] - before[name]).flatten() for name in branches])
    what = f"change of all weights by {STEPS} steps of training (in another layout of memory, which turns single ReLUs)"
    yield what, apart(moved, wanted)
    yield "mean displacement after them", apart(state["mean_displacement"], theirs["mean_shift.running_mean"])


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of patches with noise, and maps that are smooth hills, at a quarter of its size."""
    rng = np.random.default_rng(5)
    patches = resize_image(rng.integers(0, 5, (5, 6)).astype(np.uint8), (height, width), Resampling.NEAREST)
    image = np.clip(rng.integers(0, 256, (5, 3))[patches] + rng.normal(0, 6, (height, width, 3)), 0, 255)
    hills = functional.interpolate(torch.rand(1, 2, 4, 5), (-(-height // 4), -(-width // 4)), mode="bicubic")[0]
    hills = (hills - 0.45).clamp(0)
    return image.astype(np.uint8), (hills / hills.amax((1, 2), keepdim=True)).numpy()


def labels(ref: SimpleNamespace, theirs: Any, ours: Network, out: Path) -> Iterator[Row]:
    """Mined labels, and those of the random walk, of one image."""
    size = (121, 163)
    image, maps = scene(*size)
    mined, final = their_labels(ref, theirs, image, maps)
    shares = " ".join(f"{(mined == c).mean():.0%}" for c in (0, *TAGS, 255))
    found = mine(image, TAGS, large(maps, size), PART.conf_fg, PART.conf_bg, Crf().open(None))
    yield f"mined label ({shares} of 0, two classes, 255): pixels that differ of {found.size:,}", (found != mined).sum()
    boundary = ref.boundary.numpy()
    moved = irn_walk.walk(boundary, maps, PART.radius, PART.beta, 2**PART.exp_times)
    what = f"random walk, dense there, sparse here, same boundaries ({boundary.min():.2f} to {boundary.max():.2f})"
    yield what, apart(moved, ref.walked[:, 0])
    out.mkdir()
    save(ours, out)
    refined = irn_fit.refiner(Irn(), out)(image, TAGS, large(maps, size))
    shares = " ".join(f"{(final == c).mean():.0%}" for c in (0, *TAGS))
    yield f"label from the image on ({shares}): pixels that differ of {final.size:,}", (refined != final).sum()


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of irn at a2ece00")
    ref = reference(parser.parse_args().reference)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "resnet50.pth")
        random_trunk(ref, file)
        theirs = ref.resnet50_irn.AffinityDisplacementLoss(ref.indexing.PathIndex(10, (40, 40)))
        random_branches(theirs)
        ours = copied(theirs, file)
        rows = (geometry(ref), outputs(theirs, ours), labels(ref, theirs, ours, Path(folder) / "labels"))
        for group in (*rows, training(ref, file, Path(folder) / "training")):
            for what, difference in group:
                print(f"| irn | jiwoon-ahn/irn@a2ece00 | {what} | {difference:.1e} |", flush=True)


if __name__ == "__main__":
    main()
