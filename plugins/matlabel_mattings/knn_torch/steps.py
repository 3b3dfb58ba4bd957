"""What an iteration of conjugate gradients does besides multiplying, in torch. Arrays are float32 b m c, sums b c."""

from __future__ import annotations

import torch


def turn(p: torch.Tensor, r: torch.Tensor, inverse: torch.Tensor, now: torch.Tensor, before: torch.Tensor) -> None:
    """p = r inverse + now / before p, in place; where `before` is 0, it is the first direction."""
    p.mul_(torch.where(before > 0, now / before, 0).float()[:, None]).addcmul_(r, inverse)


def advance(
    x: torch.Tensor, r: torch.Tensor, p: torch.Tensor, q: torch.Tensor, inverse: torch.Tensor, step: torch.Tensor
) -> torch.Tensor:
    """x += step p and r -= step q, in place; r . r inverse, float64."""
    x.addcmul_(p, step[:, None])
    r.addcmul_(q, step[:, None], value=-1)
    return dot(r, r * inverse)


def dot(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """The sums of products over rows, float64."""
    return (p * q).sum(1, dtype=torch.float64)
