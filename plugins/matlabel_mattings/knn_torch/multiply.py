"""(diagonal - W) p as one kernel: rows of both halves of W are read side by side, and all columns of p at once.

Unlike cuSPARSE's product, the same bytes come out of every run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

SIDE = 32
"""Links of a row that are followed at a time."""
TILE = 2048
"""Numbers that a block of threads adds up at a time."""


def apply(
    links: torch.Tensor, starts: torch.Tensor, finders: torch.Tensor, diagonal: torch.Tensor, p: torch.Tensor
) -> torch.Tensor:
    """As `graph.Graph.apply`, for float32 n c."""
    out = torch.empty_like(p)
    rows, columns = p.shape
    wide = triton.next_power_of_2(columns)
    block = max(1, TILE // (SIDE * wide))
    with torch.cuda.device_of(p):
        _apply[(triton.cdiv(rows, block),)](
            links, starts, finders, diagonal, p, out, rows, links.shape[1], columns, BLOCK=block, SIDE=SIDE, WIDE=wide
        )
    return out


@triton.jit(do_not_specialize=["rows", "width", "columns"])
def _apply(
    links, starts, finders, diagonal, p, out, rows, width, columns,
    BLOCK: tl.constexpr, SIDE: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    side = tl.arange(0, SIDE)
    column = tl.arange(0, WIDE)
    inside = row < rows
    held = (column < columns)[None, None, :]
    total = tl.zeros((BLOCK, WIDE), tl.float32)
    first = row.to(tl.int64) * width
    at = width * 0
    while at < width:
        here = inside[:, None] & (at + side < width)[None, :]
        link = tl.load(links + first[:, None] + at + side[None, :], mask=here, other=0)
        twice = link < 0
        to = tl.where(twice, -1 - link, link).to(tl.int64)
        found = tl.load(p + to[:, :, None] * columns + column[None, None, :], mask=here[:, :, None] & held, other=0.0)
        total += tl.sum(tl.where(twice[:, :, None], 2 * found, found), axis=1)
        at += SIDE
    begin = tl.load(starts + row, mask=inside, other=0)
    count = tl.load(starts + row + 1, mask=inside, other=0) - begin
    most = tl.max(count, axis=0)
    at = width * 0
    while at < most:
        here = at + side[None, :] < count[:, None]
        to = tl.load(finders + begin[:, None].to(tl.int64) + at + side[None, :], mask=here, other=0).to(tl.int64)
        found = tl.load(p + to[:, :, None] * columns + column[None, None, :], mask=here[:, :, None] & held, other=0.0)
        total += tl.sum(found, axis=1)
        at += SIDE
    place = row.to(tl.int64)[:, None] * columns + column[None, :]
    mask = inside[:, None] & (column < columns)[None, :]
    own = tl.load(diagonal + place, mask=mask, other=0.0) * tl.load(p + place, mask=mask, other=0.0)
    tl.store(out + place, own - total, mask=mask)
