"""What an iteration of conjugate gradients does, as three kernels: see `steps.py` for the same in torch.

Sums are taken by block of rows in float32, in a fixed order, and over blocks in float64: unlike with cuSPARSE, the same
bytes come out of every run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

SIDE = 32
"""Links of a row that are followed at a time; of its finders, some six on photographs, half as many."""
TILE = 2048
"""Numbers that a block of threads holds at a time."""


def apply(
    links: torch.Tensor, starts: torch.Tensor, finders: torch.Tensor, diagonal: torch.Tensor, p: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """q = (diagonal - W) p, and p . q, float64 b c. As `graph.Graph.apply`."""
    q, (batch, rows, columns) = torch.empty_like(p), p.shape
    wide = triton.next_power_of_2(columns)
    block = max(1, TILE // (SIDE * wide))
    sums = p.new_empty((batch, triton.cdiv(rows, block), columns))
    with torch.cuda.device_of(p):
        _apply[(sums.shape[1], batch)](
            links, starts, finders, diagonal, p, q, sums, rows, links.shape[1], columns,
            BLOCK=block, SIDE=SIDE, WIDE=wide,
        )  # fmt: skip
    return q, sums.sum(1, dtype=torch.float64)


def turn(p: torch.Tensor, r: torch.Tensor, inverse: torch.Tensor, now: torch.Tensor, before: torch.Tensor) -> None:
    """As `steps.turn`."""
    batch, rows, columns = p.shape
    wide = triton.next_power_of_2(columns)
    block = max(1, TILE // wide)
    with torch.cuda.device_of(p):
        _turn[(triton.cdiv(rows, block), batch)](p, r, inverse, now, before, rows, columns, BLOCK=block, WIDE=wide)


def advance(
    x: torch.Tensor, r: torch.Tensor, p: torch.Tensor, q: torch.Tensor, inverse: torch.Tensor, step: torch.Tensor
) -> torch.Tensor:
    """As `steps.advance`."""
    batch, rows, columns = p.shape
    wide = triton.next_power_of_2(columns)
    block = max(1, TILE // wide)
    sums = p.new_empty((batch, triton.cdiv(rows, block), columns))
    with torch.cuda.device_of(p):
        _advance[(sums.shape[1], batch)](x, r, p, q, inverse, step, sums, rows, columns, BLOCK=block, WIDE=wide)
    return sums.sum(1, dtype=torch.float64)


@triton.jit(do_not_specialize=["rows", "width", "columns"])
def _apply(
    links, starts, finders, diagonal, p, q, sums, rows, width, columns,
    BLOCK: tl.constexpr, SIDE: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = here < rows
    row = here + image.to(tl.int64) * rows
    side = tl.arange(0, SIDE)
    column = tl.arange(0, WIDE)
    held = (column < columns)[None, None, :]
    total = tl.zeros((BLOCK, WIDE), tl.float32)
    first = row * width
    at = width * 0
    while at < width:
        some = inside[:, None] & (at + side < width)[None, :]
        link = tl.load(links + first[:, None] + at + side[None, :], mask=some, other=0)
        twice = link < 0
        to = tl.where(twice, -1 - link, link).to(tl.int64)
        found = tl.load(p + to[:, :, None] * columns + column[None, None, :], mask=some[:, :, None] & held, other=0.0)
        total += tl.sum(tl.where(twice[:, :, None], 2 * found, found), axis=1)
        at += SIDE
    begin = tl.load(starts + row, mask=inside, other=0)
    count = tl.load(starts + row + 1, mask=inside, other=0) - begin
    most = tl.max(count, axis=0)
    few = tl.arange(0, SIDE // 2)
    at = width * 0
    while at < most:
        some = at + few[None, :] < count[:, None]
        to = tl.load(finders + begin[:, None].to(tl.int64) + at + few[None, :], mask=some, other=0).to(tl.int64)
        found = tl.load(p + to[:, :, None] * columns + column[None, None, :], mask=some[:, :, None] & held, other=0.0)
        total += tl.sum(found, axis=1)
        at += SIDE // 2
    place = row[:, None] * columns + column[None, :]
    mask = inside[:, None] & (column < columns)[None, :]
    own = tl.load(p + place, mask=mask, other=0.0)
    out = tl.load(diagonal + place, mask=mask, other=0.0) * own - total
    tl.store(q + place, out, mask=mask)
    block = image.to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    tl.store(sums + block * columns + column, tl.sum(own * out, axis=0), mask=column < columns)


@triton.jit(do_not_specialize=["rows", "columns"])
def _turn(p, r, inverse, now, before, rows, columns, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    image = tl.program_id(1)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.arange(0, WIDE)
    mask = (here < rows)[:, None] & (column < columns)[None, :]
    place = (here + image.to(tl.int64) * rows)[:, None] * columns + column[None, :]
    new = tl.load(now + image * columns + column, mask=column < columns, other=0.0)
    old = tl.load(before + image * columns + column, mask=column < columns, other=0.0)
    share = tl.where(old > 0, new / tl.where(old > 0, old, 1.0), 0.0).to(tl.float32)[None, :]
    z = tl.load(r + place, mask=mask, other=0.0) * tl.load(inverse + place, mask=mask, other=0.0)
    tl.store(p + place, z + share * tl.load(p + place, mask=mask, other=0.0), mask=mask)


@triton.jit(do_not_specialize=["rows", "columns"])
def _advance(x, r, p, q, inverse, step, sums, rows, columns, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    image = tl.program_id(1)
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = tl.arange(0, WIDE)
    mask = (here < rows)[:, None] & (column < columns)[None, :]
    place = (here + image.to(tl.int64) * rows)[:, None] * columns + column[None, :]
    length = tl.load(step + image * columns + column, mask=column < columns, other=0.0)[None, :]
    moved = tl.load(x + place, mask=mask, other=0.0) + length * tl.load(p + place, mask=mask, other=0.0)
    tl.store(x + place, moved, mask=mask)
    left = tl.load(r + place, mask=mask, other=0.0) - length * tl.load(q + place, mask=mask, other=0.0)
    tl.store(r + place, left, mask=mask)
    part = left * left * tl.load(inverse + place, mask=mask, other=0.0)
    block = image.to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    tl.store(sums + block * columns + column, tl.sum(part, axis=0), mask=column < columns)
