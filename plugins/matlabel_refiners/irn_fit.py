"""IRN's training and its live refiner: what `irn.py` calls once torch may be imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from matlabel_bench.errors import ContractError
from matlabel_bench.fields import key_fields
from matlabel_bench.recipe import WEIGHTS, Recipe, load, ranks, save
from matlabel_bench.train import run
from matlabel_bench.types import Cams, Image, Label, Split, Tags
from matlabel_cams.backbones import Backbone, channel_constants, make
from matlabel_cams.classifier import backbone_with_weights
from matlabel_cams.crops import normalised
from matlabel_refiners import irn_walk, irn_walk_torch
from matlabel_refiners.irn_crops import LabelledCrops
from matlabel_refiners.irn_mining import mine_split
from matlabel_refiners.irn_network import STRIDE, Irn
from matlabel_refiners.irn_paths import grid

if TYPE_CHECKING:
    from matlabel_refiners import irn

LABELS = "labels"
"""Folder of the mined labels, beside the weights."""
MEAN_OVER = 16
"""Images whose displacements are averaged, the first of the split."""


def network_of(part: irn.Irn, backbone: Backbone) -> Irn:
    """The network that a part's fields describe."""
    return Irn(
        part.backbone,
        backbone,
        radius=radius_of(part.train_radius, part.crop),
        train_trunk=part.train_trunk or not backbone.pretrained,
        displacement_multiple=part.displacement_multiple,
    )


def radius_of(radius: int, crop: int) -> int:
    """The radius of the pairs in training: not above a quarter of the grid, so that half of each row are sources."""
    return min(radius, max(2, grid(crop) // 4))


def fit(part: irn.Irn, train: Split, maps: Mapping[str, Cams], out: Path, seed: int) -> None:
    """Mine labels, train the branches, store the mean displacement."""
    backbone = backbone_with_weights(part.backbone, STRIDE, part.weights, seed)
    network = network_of(part, backbone)
    labels = out / LABELS
    if not (out / WEIGHTS).is_file():
        mine_split(train, maps, labels, part.conf_fg, part.conf_bg, out)
    crops = LabelledCrops(train, labels, backbone, (part.scale_low, part.scale_high), part.crop, seed)
    about = {"part": "Irn", "classes": list(train.classes), "fields": key_fields(part, training=True)}
    run(network, crops, Recipe.of(part), out, seed, about)
    if ranks()[0] == 0:
        _store_mean(network, crops, part, out)


@torch.inference_mode()
def _store_mean(network: Irn, crops: LabelledCrops, part: irn.Irn, out: Path) -> None:
    """The mean displacement of some images, into the weights that `run` left; nothing where it is there already."""
    load(network, out)
    if network.mean_displacement.any():
        return
    # In the layout of memory in which `run` leaves it: the same last bits, whether it has just ended or long ago.
    network = network.eval().to(part.device, memory_format=torch.channels_last)
    means = [
        network(crops.top_left(index)[None].to(part.device))[1].mean((0, 2, 3))
        for index in range(min(MEAN_OVER, len(crops)))
    ]
    network.mean_displacement.copy_(torch.stack(means).mean(0))
    save(network, out)


def refiner(part: irn.Irn, out: Path) -> Callable[[Image, Tags, Cams], Label]:
    """The live refiner from the weights in `out`."""
    backbone = make(part.backbone, STRIDE)
    network = network_of(part, backbone)
    load(network, out)
    network = network.eval().to(part.device, memory_format=torch.channels_last)
    mean, std = channel_constants(backbone)

    @torch.inference_mode()
    def walked(image: Image, planes: irn_walk.Planes) -> irn_walk.Planes:
        height, width = image.shape[:2]
        pixels = normalised(image, mean, std)
        both = torch.stack([pixels, pixels.flip(-1)])
        both = functional.pad(both, (0, max(0, part.crop - width), 0, max(0, part.crop - height)))
        both = both.to(part.device, memory_format=torch.channels_last)
        found = network.boundaries(both, (height, width))
        if found.device.type == "cpu":
            return irn_walk.walk(found.numpy(), planes, part.radius, part.beta, 2**part.exp_times)
        return irn_walk_torch.walk(found, planes, part.radius, part.beta, 2**part.exp_times)

    def refine(image: Image, tags: Tags, maps: Cams) -> Label:
        size = (image.shape[0], image.shape[1])
        if maps.shape != (len(tags), *size):
            raise ContractError(
                f"maps of {len(tags)} planes, {size[0]} x {size[1]}",
                " x ".join(map(str, maps.shape)),
                "give the maps of this image at its size, one plane a tag",
            )
        planes = irn_walk.cells(maps)
        if planes.any():
            planes = walked(image, planes)
        return irn_walk.label(planes, size, part.threshold, tags)

    return refine
