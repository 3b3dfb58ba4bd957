"""The encoder: a Swin transformer whose blocks also attend to prior tokens made from the trimap."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from matlabel_mattings.matteformer.attention import PriorAttention, from_windows, shift_mask, to_windows
from matlabel_mattings.matteformer.sizes import Size
from matlabel_mattings.matteformer.spectral import SpectralConv

PRIOR_ORDER = (1, 0, 2)
"""Channels of the trimap (background, unknown, foreground) in the order of the tokens.

The reference calls the second token foreground and the third background, but fills them from channel 0, the certain
background, and channel 2, the certain foreground. Its weights are trained so; only the names are the wrong way round.
"""


def priors(patches: torch.Tensor, areas: torch.Tensor) -> torch.Tensor:
    """Means of the patches over the areas, b 3 c; zero for an area without a patch.

    Args:
        patches: b h w c.
        areas: b 3 h w of 0 and 1.
    """
    total = torch.einsum("bkhw,bhwc->bkc", areas, patches)
    return total / (areas.sum((2, 3)) + 1e-9)[:, :, None]


class Skip(nn.Module):
    """Stochastic depth: while training, a share of the images (and of each image's tokens) goes without the block."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor, free: int) -> torch.Tensor:
        """`free`: leading axes along which it is drawn anew."""
        if not self.training or not self.share:
            return x
        shape = [*x.shape[:free], *[1] * (x.ndim - free)]
        return x * (torch.rand(shape, device=x.device) >= self.share) / (1 - self.share)


class Mlp(nn.Module):
    """Two layers, four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Attention and perceptron with residuals, for patches and tokens alike."""

    def __init__(self, width: int, heads: int, window: int, number: int, skip: float) -> None:
        super().__init__()
        self.window, self.shift = window, window // 2 if number % 2 else 0
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = PriorAttention(width, heads, window, number)
        self.mlp, self.skip = Mlp(width), Skip(skip)

    def forward(
        self, x: torch.Tensor, tokens: torch.Tensor, areas: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches b h w c and tokens b t c -> the same, with three tokens more.

        Args:
            tokens: those of the stage's earlier blocks, oldest first.
            areas: b 3 h w, in the order of the tokens.
            mask: for shifted windows.
        """
        tokens = torch.cat([tokens, priors(x, areas)], 1)
        windows = to_windows(self.norm1(x), self.window, self.shift)
        mixed, values = self.attn(windows, self.norm1(tokens), mask if self.shift else None)
        x = x + self.skip(from_windows(mixed, self.window, self.shift, (x.shape[1], x.shape[2])), 1)
        x = x + self.skip(self.mlp(self.norm2(x)), 1)
        tokens = tokens + self.skip(values, 2)
        return x, tokens + self.skip(self.mlp(self.norm2(tokens)), 2)


class Merge(nn.Module):
    """Four patches become one of twice their channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """b 2h 2w c -> b h w 2c; patches in the order (0, 0), (1, 0), (0, 1), (1, 1) of row and column."""
        four = [x[:, row::2, col::2] for col in (0, 1) for row in (0, 1)]
        out: torch.Tensor = self.reduction(self.norm(torch.cat(four, -1)))
        return out


class Stage(nn.Module):
    """Blocks with a memory of prior tokens that begins empty, and the way down to the next stage."""

    def __init__(self, size: Size, number: int, skips: list[float]) -> None:
        super().__init__()
        self.window, width = size.window, size.width(number)
        self.blocks = nn.ModuleList(
            Block(width, size.heads[number], size.window, j, skip) for j, skip in enumerate(skips)
        )
        self.downsample = Merge(width) if number < 3 else None

    def forward(self, x: torch.Tensor, areas: torch.Tensor) -> torch.Tensor:
        """b h w c -> b h w c, before the way down."""
        tokens = x.new_zeros(x.shape[0], 0, x.shape[3])
        mask = shift_mask((x.shape[1], x.shape[2]), self.window, self.window // 2, x.device)
        for block in self.blocks:
            x, tokens = block(x, tokens, areas, mask)
        return x


class Patches(nn.Module):
    """4 x 4 pixels of image and trimap become a patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(6, width, 4, stride=4)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """b 6 4h 4w -> b h w c."""
        out: torch.Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return out


class Encoder(nn.Module):
    """Features for the decoder's six levels, /1, /2, /4, /8, /16 and /32."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.patch_embed = Patches(size.embed)
        skips = [size.drop * i / max(1, sum(size.depths) - 1) for i in range(sum(size.depths))]
        starts = [sum(size.depths[:i]) for i in range(4)]
        self.layers = nn.ModuleList(
            Stage(size, i, skips[start : start + depth])
            for i, (start, depth) in enumerate(zip(starts, size.depths, strict=True))
        )
        for i in range(4):
            self.add_module(f"norm{i}", nn.LayerNorm(size.width(i)))
        inside = [6, size.embed, *(size.width(i) for i in range(4))]
        self.shortcut = nn.ModuleList(
            _shortcut(width, size.base * share) for width, share in zip(inside, (1, 1, 2, 4, 8, 16), strict=True)
        )
        self.apply(_initialise)

    def forward(self, x: torch.Tensor, trimap: torch.Tensor) -> list[torch.Tensor]:
        """Features, finest first.

        Args:
            x: b 6 h w, normalised image and trimap; h and w multiples of 32.
            trimap: b 3 h w of 0 and 1: background, unknown, foreground.
        """
        out = [self.shortcut[0](x)]
        patches = self.patch_embed(x)
        fine = functional.interpolate(
            patches.permute(0, 3, 1, 2), scale_factor=2.0, mode="bilinear", align_corners=True
        )
        out.append(self.shortcut[1](fine))
        areas = trimap[:, PRIOR_ORDER, ::4, ::4]  # nearest: the top left pixel of each patch
        for i, stage in enumerate(self.layers):
            patches = stage(patches, areas[:, :, :: 2**i, :: 2**i])
            level = getattr(self, f"norm{i}")(patches).permute(0, 3, 1, 2)
            out.append(self.shortcut[i + 2](level))
            patches = stage.downsample(patches) if stage.downsample else patches
        return out


def _shortcut(inside: int, outside: int) -> nn.Sequential:
    first, second = SpectralConv(inside, outside), SpectralConv(outside, outside)
    return nn.Sequential(first, nn.ReLU(), nn.BatchNorm2d(outside), second, nn.ReLU(), nn.BatchNorm2d(outside))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
