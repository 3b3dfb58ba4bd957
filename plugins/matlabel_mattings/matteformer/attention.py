"""Prior-attentive windows: attention among the patches of a window and the prior tokens of the whole image.

Shapes: b images, h w patches, c channels, t prior tokens, n windows of s x s patches.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from matlabel_mattings.matteformer.sizes import PRIORS

BLOCKED = -100.0
"""Added to the attention between patches that the shift brought together from opposite sides of the image."""


class PriorAttention(nn.Module):
    """Multi-head attention of each window's patches to themselves and to t = 3 (j + 1) prior tokens, block j.

    The bias of patch p for patch q depends on their offset; that for token i is row 169 + i, for every patch (with
    windows of 7: 13 x 13 offsets come first). Patches alone ask; the tokens' new values are their own projections.
    """

    relative_position_index: torch.Tensor

    def __init__(self, width: int, heads: int, window: int, block: int) -> None:
        super().__init__()
        self.heads, self.tokens = heads, PRIORS * (block + 1)
        offsets = (2 * window - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.empty(offsets + self.tokens, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        apart = place[:, :, None] - place[:, None, :] + window - 1
        own = apart[0] * (2 * window - 1) + apart[1]
        prior = torch.arange(offsets, offsets + self.tokens).expand(window**2, -1)
        self.register_buffer("relative_position_index", torch.cat([own, prior], 1))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, windows: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """New patches and new tokens.

        Args:
            windows: b n s² c.
            tokens: b t c.
            mask: n s² s² of 0 and BLOCKED, or None.
        """
        b, n, size, c = windows.shape
        query, key, value = self._split(windows)  # b n heads s² c/heads
        _, prior_key, prior_value = self._split(tokens[:, None])
        key = torch.cat([key, prior_key.expand(-1, n, -1, -1, -1)], 3)
        value = torch.cat([value, prior_value.expand(-1, n, -1, -1, -1)], 3)
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.view(size, size + self.tokens, self.heads).permute(2, 0, 1)
        weight = (query * (c // self.heads) ** -0.5) @ key.transpose(-2, -1) + bias
        if mask is not None:
            weight = weight + functional.pad(mask, (0, self.tokens))[:, None]
        mixed = (weight.softmax(-1) @ value).transpose(2, 3).reshape(b, n, size, c)
        return self.proj(mixed), self.proj(prior_value[:, 0].transpose(1, 2).reshape(b, self.tokens, c))

    def _split(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """b n m c -> queries, keys and values, each b n heads m c/heads."""
        b, n, m, c = x.shape
        return self.qkv(x).view(b, n, m, 3, self.heads, c // self.heads).permute(3, 0, 1, 4, 2, 5).unbind(0)


def to_windows(x: torch.Tensor, window: int, shift: int) -> torch.Tensor:
    """b h w c -> b n s² c: zeros at right and bottom up to whole windows, then rolled by `shift` to top and left."""
    b, h, w, c = x.shape
    x = functional.pad(x, (0, 0, 0, -w % window, 0, -h % window))
    if shift:
        x = x.roll((-shift, -shift), (1, 2))
    rows, cols = x.shape[1] // window, x.shape[2] // window
    return x.reshape(b, rows, window, cols, window, c).transpose(2, 3).reshape(b, rows * cols, window**2, c)


def from_windows(x: torch.Tensor, window: int, shift: int, size: tuple[int, int]) -> torch.Tensor:
    """The inverse of `to_windows` for patches h w = `size`."""
    b, c = x.shape[0], x.shape[3]
    rows, cols = (-(-side // window) for side in size)
    x = x.view(b, rows, cols, window, window, c).transpose(2, 3).reshape(b, rows * window, cols * window, c)
    if shift:
        x = x.roll((shift, shift), (1, 2))
    return x[:, : size[0], : size[1]]


def shift_mask(size: tuple[int, int], window: int, shift: int, device: torch.device) -> torch.Tensor:
    """n s² s²: BLOCKED between patches of one shifted window that are no neighbours in the image, else 0.

    After the shift, the last window of an axis holds patches from both of its ends. Three stretches are told apart,
    also where the axis has one window only: before the last window, its unshifted patches, and those rolled in.
    """
    stretch = []
    for side in size:
        number = torch.zeros(-(-side // window) * window, device=device)
        number[-window:] = 1
        number[-shift:] = 2
        stretch.append(number)
    region = to_windows((3 * stretch[0][:, None] + stretch[1])[None, :, :, None], window, 0)[0, :, :, 0]
    return (region[:, :, None] != region[:, None, :]) * BLOCKED
