"""What MatteFormer is trained on: distance to alpha and to the composite, and between Laplacian pyramids of alphas.

Each is summed over the three alphas with weights 2 : 1 : 1 (full, quarter, eighth size) and divided by 5. The alpha of
1/8 counts everywhere, the finer ones where they are asked: in the trimap's unknown area at first, later in the area
where the coarser one is uncertain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from matlabel_mattings.matteformer.decoder import Alphas
from matlabel_mattings.matteformer.fusion import uncertain
from matlabel_mattings.matteformer.network import Network

LEVELS = 5
"""Of the Laplacian pyramid; level i counts 2^i. Sides must be multiples of 2^LEVELS, and 4 at least in the last."""
SHARES = (2 / 5, 1 / 5, 1 / 5)

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(alpha b 1 h w, weight b 1 h w) -> scalar."""


class Trainee(Network):
    """The network with its losses; parameters by the same names."""

    def losses(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses by name, for a batch of `composites.Composites`."""
        alphas, weights = asked(
            self(batch["image"], batch["trimap"]), batch["trimap"][:, 1:2], batch["refine"], batch["radii"]
        )
        return objective(alphas, weights, batch)

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """All parameters but the singular vectors, which follow by power iteration."""
        return [([p for p in self.parameters() if p.requires_grad], 1.0)]


def asked(alphas: Alphas, unknown: torch.Tensor, refine: torch.Tensor, radii: torch.Tensor) -> tuple[Alphas, Alphas]:
    """The alphas, each finer one replaced by the coarser where it is not asked, and the weights of their pixels.

    Args:
        unknown: b 1 h w of 0 and 1, the trimap's.
        refine: b of 0 and 1: ask where the coarser alpha is uncertain; else where the trimap is, replacing nothing.
        radii: b 2, by how much the uncertain areas of the alphas of 1/8 and 1/4 are widened.
    """
    late = refine.bool()[:, None, None, None]
    near, full = (column.tolist() for column in radii.T)
    at4 = torch.where(late, uncertain(alphas.os8, near), unknown.bool())
    os4 = torch.where(late & ~at4, alphas.os8, alphas.os4)
    at1 = torch.where(late, uncertain(os4, full), unknown.bool())
    os1 = torch.where(late & ~at1, os4, alphas.os1)
    return Alphas(os1, os4, alphas.os8), Alphas(at1.float(), at4.float(), torch.ones_like(alphas.os8))


def objective(alphas: Alphas, weights: Alphas, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The three losses.

    Args:
        batch: `alpha` b 1 h w in [0, 1], and the normalised colours `foreground`, `background`, `image`, b 3 h w.
    """
    alpha, fg, bg, image = (batch[name] for name in ("alpha", "foreground", "background", "image"))
    return {
        "loss_alpha": _over(alphas, weights, lambda a, w: mean_distance(a, alpha, w)),
        "loss_composite": _over(alphas, weights, lambda a, w: mean_distance(fg * a + bg * (1 - a), image, w)),
        "loss_laplacian": _over(alphas, weights, lambda a, w: laplacian(a, alpha, w)),
    }


def _over(alphas: Alphas, weights: Alphas, loss: Loss) -> torch.Tensor:
    total = torch.zeros((), device=alphas.os8.device)
    for share, alpha, weight in zip(SHARES, alphas, weights, strict=True):
        total = total + share * loss(alpha, weight)
    return total


def mean_distance(got: torch.Tensor, want: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted sum of |got - want| over images, channels and pixels, by the sum of the weights of one channel."""
    return ((got - want).abs() * weight).sum() / (weight.sum() + 1e-8)


def laplacian(got: torch.Tensor, want: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Distance between Laplacian pyramids, the weight of a level being every second pixel of the level before."""
    total = torch.zeros((), device=got.device)
    for level, (a, b) in enumerate(zip(pyramid(got), pyramid(want), strict=True)):
        step = 2**level
        total = total + step * mean_distance(a, b, weight[:, :, ::step, ::step])
    return total


def pyramid(x: torch.Tensor) -> list[torch.Tensor]:
    """LEVELS differences between b 1 h w and its blurred, halved and re-enlarged self, finest first."""
    out = []
    for _ in range(LEVELS):
        down = _blurred(x)[:, :, ::2, ::2]
        up = torch.zeros_like(x)
        up[:, :, ::2, ::2] = down
        out.append(x - 4 * _blurred(up))
        x = down
    return out


def _blurred(x: torch.Tensor, line: Sequence[float] = (1, 4, 6, 4, 1)) -> torch.Tensor:
    row = torch.tensor(line, dtype=x.dtype, device=x.device) / sum(line)
    return functional.conv2d(functional.pad(x, (2, 2, 2, 2), mode="reflect"), torch.outer(row, row)[None, None])
