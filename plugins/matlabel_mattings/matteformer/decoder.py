"""The decoder: residual blocks from 1/32 up to full size, with an alpha at 1/8, 1/4 and full size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from matlabel_mattings.matteformer.sizes import Size
from matlabel_mattings.matteformer.spectral import SpectralConv

SLOPE = 0.2
"""Of the leaky rectifiers."""


class Alphas(NamedTuple):
    """Alpha, b 1 h w in [0, 1], as seen at full, quarter and eighth size, each enlarged to the image."""

    os1: torch.Tensor
    os4: torch.Tensor
    os8: torch.Tensor


class Residual(nn.Module):
    """Two spectral convolutions; `enlarging`: the first doubles the size, and the skip does by repeating pixels."""

    def __init__(self, inside: int, outside: int, enlarging: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = SpectralConv(inside, inside, enlarging=enlarging), nn.BatchNorm2d(inside)
        self.conv2, self.bn2 = SpectralConv(inside, outside), nn.BatchNorm2d(outside)
        nn.init.zeros_(self.bn2.weight)  # the block begins as its skip
        self.upsample: nn.Sequential | None = None
        if enlarging:
            skip = SpectralConv(inside, outside, 1)
            self.upsample = nn.Sequential(nn.UpsamplingNearest2d(scale_factor=2), skip, nn.BatchNorm2d(outside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """b c h w -> b c' h w, or b c' 2h 2w."""
        y = self.bn2(self.conv2(functional.leaky_relu(self.bn1(self.conv1(x)), SLOPE)))
        return functional.leaky_relu(y + (self.upsample(x) if self.upsample else x), SLOPE)


class Decoder(nn.Module):
    """Begins with the coarsest features; after each step the encoder's features of that size are added."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        widths = [size.base * share for share in (16, 8, 4, 2, 1)]
        for i, blocks in enumerate(size.blocks):
            rest = [Residual(widths[i + 1], widths[i + 1], False) for _ in range(blocks - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(Residual(widths[i], widths[i + 1], True), *rest))
        self.conv1, self.bn1 = SpectralConv(size.base, size.base, enlarging=True), nn.BatchNorm2d(size.base)
        self.refine_OS8 = _head(widths[2], size.base)
        self.refine_OS4 = _head(widths[3], size.base)
        self.refine_OS1 = _head(size.base, size.base)

    def forward(self, features: list[torch.Tensor]) -> Alphas:
        """`features`: the encoder's, finest first."""
        full, half, quarter, eighth, sixteenth, x = features
        x = self.layer1(x) + sixteenth
        x = self.layer2(x) + eighth
        os8 = self.refine_OS8(x)
        x = self.layer3(x) + quarter
        os4 = self.refine_OS4(x)
        x = self.layer4(x) + half
        os1 = self.refine_OS1(functional.leaky_relu(self.bn1(self.conv1(x)), SLOPE) + full)
        return Alphas(*(_alpha(score, scale) for score, scale in ((os1, 1), (os4, 4), (os8, 8))))


def _head(inside: int, width: int) -> nn.Sequential:
    first, last = nn.Conv2d(inside, width, 3, padding=1, bias=False), nn.Conv2d(width, 1, 3, padding=1)
    nn.init.xavier_uniform_(first.weight)
    nn.init.xavier_uniform_(last.weight)
    return nn.Sequential(first, nn.BatchNorm2d(width), nn.LeakyReLU(SLOPE), last)


def _alpha(score: torch.Tensor, scale: int) -> torch.Tensor:
    """b 1 h w of any value -> b 1 scale·h scale·w in [0, 1]; enlarged before the sigmoid-like curve, as in training."""
    if scale > 1:
        score = functional.interpolate(score, scale_factor=float(scale), mode="bilinear", align_corners=False)
    return (score.tanh() + 1) / 2
