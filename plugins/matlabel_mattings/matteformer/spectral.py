"""Convolutions divided by their largest singular value (Miyato et al., ICLR 2018), which follows by power iteration."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

TINY = 1e-12


class Direction(nn.Module):
    """A weight and the singular vectors that belong to its largest singular value.

    The matrix is the weight with all axes but the first flattened, also where that first axis is a transposed
    convolution's input. The vectors are parameters without gradient, as in the reference, so that files fit.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight_u = nn.Parameter(_unit(torch.randn(shape[0])), requires_grad=False)
        self.weight_v = nn.Parameter(_unit(torch.randn(shape[1] * shape[2] * shape[3])), requires_grad=False)
        self.weight_bar = nn.Parameter(torch.empty(shape))
        nn.init.xavier_uniform_(self.weight_bar)

    def forward(self) -> torch.Tensor:
        """The weight divided by u' W v; one power iteration before, while training."""
        matrix = self.weight_bar.flatten(1)
        if self.training:
            with torch.no_grad():
                self.weight_v.copy_(_unit(matrix.T @ self.weight_u))
                self.weight_u.copy_(_unit(matrix @ self.weight_v))
        return self.weight_bar / (self.weight_u @ (matrix @ self.weight_v))


class SpectralConv(nn.Module):
    """A convolution without bias that keeps the size, or, `enlarging`, a transposed one of 4 x 4 that doubles it."""

    def __init__(self, inside: int, outside: int, kernel: int = 3, *, enlarging: bool = False) -> None:
        super().__init__()
        self.enlarging = enlarging
        shape = (inside, outside, 4, 4) if enlarging else (outside, inside, kernel, kernel)
        self.module = Direction(*shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """b c h w -> b c' h w, or b c' 2h 2w."""
        weight = self.module()
        if self.enlarging:
            return functional.conv_transpose2d(x, weight, stride=2, padding=1)
        return functional.conv2d(x, weight, padding=weight.shape[-1] // 2)


def _unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / (vector.norm() + TINY)
