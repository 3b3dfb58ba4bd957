"""IRN's network: a trunk, a branch for class boundaries and one for displacements, on a grid of a quarter of the image.

Compared with jiwoon-ahn/irn at a2ece00 (MIT), net/resnet50_irn.py: the same branches, 125,409 and 1,269,120 parameters
on ResNet-50. Their five inputs are the maps behind the stem and the four stages, at strides 4, 4, 8, 16, 16. The other
backbones give five maps of these strides too; a stem that ends at stride 2 is brought to 4 as ResNet's is, by 3 x 3
max-pooling.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from matlabel_cams.backbones import Backbone
from matlabel_refiners.irn_losses import pair_losses
from matlabel_refiners.irn_paths import grid

STRIDE = 16
STRIDES = (4, 4, 8, 16, 16)
LEVELS = {
    "resnet50": ("stem", "layer1", "layer2", "layer3", "layer4"),
    "mobilenet_v2": ("conv1", "layer2", "layer3", "layer5", "layer7"),
    "small": ("stem", "layer1", "layer2", "layer3", "layer4"),
}
"""The stages of each backbone whose maps the branches see."""


class Irn(nn.Module):
    """Trunk and branches.

    Args:
        name: of the backbone, with `STRIDE`.
        radius: of the pairs of cells in the losses.
        train_trunk: whether the losses reach the trunk; its batch normalisation keeps its statistics in any case.
        displacement_multiple: learning rate of the displacement branch, relative to the boundary branch's.
    """

    def __init__(
        self, name: str, backbone: Backbone, *, radius: int, train_trunk: bool, displacement_multiple: float
    ) -> None:
        super().__init__()
        self.levels, stages = LEVELS[name], list(backbone.stages)
        used = stages[: stages.index(self.levels[-1]) + 1]
        self.trunk = nn.ModuleDict({stage: backbone.stages[stage] for stage in used}).requires_grad_(train_trunk)
        self.pool = nn.Identity() if name == "resnet50" else nn.MaxPool2d(3, 2, 1)
        widths = [backbone.widths[stage] for stage in self.levels]
        self.boundary, self.displacement = Boundary(widths), Displacement(widths)
        self.register_buffer("mean_displacement", torch.zeros(2))
        self.radius, self.train_trunk, self.displacement_multiple = radius, train_trunk, displacement_multiple

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Five maps, b C gh gw each, finest first: gh = ceil(h / stride)."""
        found: list[torch.Tensor] = []
        with torch.set_grad_enabled(self.train_trunk and torch.is_grad_enabled()):
            for name, stage in self.trunk.items():
                images = stage(images)
                if name in self.levels:
                    found.append(images if found else self.pool(images))
        return found

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boundary logits b 1 gh gw and displacements b 2 gh gw in cells, (row, column); gh = ceil(h / 4).

        Displacements are relative to their mean over images, once that is known, in evaluation mode only.
        """
        levels = self.features(images)
        field = self.displacement(levels)
        return self.boundary(levels), field if self.training else field - self.mean_displacement.view(1, 2, 1, 1)

    def boundaries(self, images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Class boundaries of an image and its mirror image, gh gw in [0, 1].

        Args:
            images: 2 3 h w, normalised; the image and its mirror image, both padded below and on the right alike.
            size: of the image without padding.
        """
        logits = self.boundary(self.features(images))[:, 0, : grid(size[0]), : grid(size[1])]
        return torch.sigmoid(logits[0] / 2 + logits[1].flip(-1) / 2)

    def losses(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses of pairs of cells; `labels` b gh gw of 0, classes and 255 (`irn_losses.py`)."""
        boundary, field = self(images)
        # float32 from here on, also under mixed precision: the losses tell 1 from 1 + 1e-5
        return pair_losses(torch.sigmoid(boundary.float())[:, 0], field.float(), labels, self.radius)

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Boundary branch, and the trunk if it is trained, at the learning rate; displacements at their multiple."""
        body = [p for p in [*self.boundary.parameters(), *self.trunk.parameters()] if p.requires_grad]
        return [(body, 1.0), (list(self.displacement.parameters()), self.displacement_multiple)]

    def train(self, mode: bool = True) -> Irn:
        """The trunk stays in evaluation mode."""
        super().train(mode)
        self.trunk.eval()
        return self


class Boundary(nn.Module):
    """32 channels from each level, side by side, to one logit a cell."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            _layer(width, 32, 4, stride // STRIDES[0]) for width, stride in zip(widths, STRIDES, strict=True)
        )
        self.head = nn.Conv2d(32 * len(widths), 1, 1)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.head(torch.cat(list(_cut(self.levels, levels, levels[0])), dim=1))


class Displacement(nn.Module):
    """The three coarser levels are joined at stride 8, then with the two finer ones at stride 4."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        shapes = ((64, 8, 1), (128, 16, 1), (256, 16, 1), (256, 16, 2), (256, 16, 2))
        self.levels = nn.ModuleList(_layer(w, *shape) for w, shape in zip(widths, shapes, strict=True))
        self.coarse = _layer(768, 256, 16, 2)
        self.fine = _layer(448, 256, 16, 1)
        self.head = nn.Conv2d(256, 2, 1, bias=False)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        fine = [layer(level) for layer, level in zip(self.levels[:2], levels[:2], strict=True)]
        joined = torch.cat(list(_cut(self.levels[2:], levels[2:], levels[2])), dim=1)
        rows, columns = levels[0].shape[2:]
        return self.head(self.fine(torch.cat([*fine, self.coarse(joined)[..., :rows, :columns]], dim=1)))


def _layer(channels: int, width: int, groups: int, up: int) -> nn.Sequential:
    layers = OrderedDict(conv=nn.Conv2d(channels, width, 1, bias=False), norm=nn.GroupNorm(groups, width))
    if up > 1:
        layers["up"] = nn.Upsample(scale_factor=up, mode="bilinear", align_corners=False)
    return nn.Sequential(OrderedDict([*layers.items(), ("relu", nn.ReLU(inplace=True))]))


def _cut(layers: nn.ModuleList, levels: Sequence[torch.Tensor], like: torch.Tensor) -> Iterator[torch.Tensor]:
    """Each level through its layer, cut to the grid of `like`: enlarging a rounded-up grid gives a cell too many."""
    rows, columns = like.shape[2:]
    for layer, level in zip(layers, levels, strict=True):
        yield layer(level)[..., :rows, :columns]
