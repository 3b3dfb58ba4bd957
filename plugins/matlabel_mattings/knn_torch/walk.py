"""The search as one kernel: a warp for each leaf, a thread for each of its points, no stack.

Leaves are met in the order of (their number XOR one's own): itself, its sibling, the two of its parent's sibling, and
so on, which are ever farther parts of the tree. Of each part the box is asked first, and its halves where that is near.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from matlabel_mattings.knn_torch.search import NONE, fresh
from matlabel_mattings.knn_torch.tree import LEAF, Tree

LAST = tl.constexpr(0x7FFFFFFFFFFFFFFF)


def nearest(tree: Tree, k: int) -> torch.Tensor:
    """As `search.nearest`."""
    found = fresh(tree, k)
    batch, size = tree.order.shape
    grid = (size // LEAF, batch)
    with torch.cuda.device_of(found):
        _walk[grid](
            tree.points, tree.order, tree.boxes, tree.counts, found, size, size // LEAF,
            K=k, SLOTS=triton.next_power_of_2(k), LEAF=LEAF, NONE=NONE, num_warps=1, enable_fp_fusion=False,
        )  # fmt: skip
    return found


@triton.jit(do_not_specialize=["size", "leaves"])
def _walk(
    points, order, boxes, counts, found, size, leaves,
    K: tl.constexpr, SLOTS: tl.constexpr, LEAF: tl.constexpr, NONE: tl.constexpr,
):  # fmt: skip
    own = tl.program_id(0)
    image = tl.program_id(1)
    count = tl.load(counts + image)
    points += image.to(tl.int64) * size * 5
    order += image.to(tl.int64) * size
    boxes += image.to(tl.int64) * leaves * 20
    found += image.to(tl.int64) * size * K

    lane = tl.arange(0, LEAF)
    slot = tl.arange(0, SLOTS)
    here = own * LEAF + lane
    pixel = tl.load(order + here)
    real = pixel < count
    q0 = tl.load(points + here)[None, :]
    q1 = tl.load(points + size + here)[None, :]
    q2 = tl.load(points + 2 * size + here)[None, :]
    q3 = tl.load(points + 3 * size + here)[None, :]
    q4 = tl.load(points + 4 * size + here)[None, :]
    box = boxes + (leaves + own) * 10
    l0 = tl.load(box)
    l1 = tl.load(box + 1)
    l2 = tl.load(box + 2)
    l3 = tl.load(box + 3)
    l4 = tl.load(box + 4)
    h0 = tl.load(box + 5)
    h1 = tl.load(box + 6)
    h2 = tl.load(box + 7)
    h3 = tl.load(box + 8)
    h4 = tl.load(box + 9)

    # Keys of the neighbours; slots beyond the k-th, and places without a pixel, hold 0, which nothing replaces.
    best = tl.where((slot < K)[:, None] & real[None, :], slot[:, None].to(tl.int64) + NONE, 0)
    worst = tl.max(best, axis=0)
    far = (worst >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    reach = tl.max(far, axis=0)
    at = own * 0  # the first leaf of the part, XOR own
    level = own * 0  # the part has 2^level leaves
    end = tl.where(own * LEAF < count, leaves, 0)
    while at < end:
        node = boxes + (((at ^ own) >> level) + (leaves >> level)) * 10
        apart = tl.maximum(tl.maximum(tl.load(node) - h0, l0 - tl.load(node + 5)), 0.0)
        gap = apart * apart
        apart = tl.maximum(tl.maximum(tl.load(node + 1) - h1, l1 - tl.load(node + 6)), 0.0)
        gap = gap + apart * apart
        apart = tl.maximum(tl.maximum(tl.load(node + 2) - h2, l2 - tl.load(node + 7)), 0.0)
        gap = gap + apart * apart
        apart = tl.maximum(tl.maximum(tl.load(node + 3) - h3, l3 - tl.load(node + 8)), 0.0)
        gap = gap + apart * apart
        apart = tl.maximum(tl.maximum(tl.load(node + 4) - h4, l4 - tl.load(node + 9)), 0.0)
        gap = gap + apart * apart
        inside = gap <= reach
        if inside & (level == 0):
            there = (at ^ own) * LEAF + lane
            side = q0 - tl.load(points + there)[:, None]
            total = side * side
            side = q1 - tl.load(points + size + there)[:, None]
            total = total + side * side
            side = q2 - tl.load(points + 2 * size + there)[:, None]
            total = total + side * side
            side = q3 - tl.load(points + 3 * size + there)[:, None]
            total = total + side * side
            side = q4 - tl.load(points + 4 * size + there)[:, None]
            total = total + side * side
            some = tl.max(tl.max((total <= far[None, :]).to(tl.int32), axis=0), axis=0)
            if some > 0:
                who = tl.load(order + there)[:, None].to(tl.int64)
                key = (total.to(tl.int32, bitcast=True).to(tl.int64) << 32) | who
                key = tl.where(key < worst[None, :], key, LAST)
                near = tl.min(key, axis=0)
                more = tl.max((near < worst).to(tl.int32), axis=0)
                while more > 0:  # each thread's nearest candidate takes the place of its farthest neighbour
                    best = tl.where((best == worst[None, :]) & (near < worst)[None, :], near[None, :], best)
                    worst = tl.max(best, axis=0)
                    key = tl.where(key == near[None, :], LAST, key)
                    near = tl.min(key, axis=0)
                    more = tl.max((near < worst).to(tl.int32), axis=0)
                far = (worst >> 32).to(tl.int32).to(tl.float32, bitcast=True)
                reach = tl.max(far, axis=0)
        down = inside & (level > 0)
        following = at + (1 << level)
        lowest = (following & -following).to(tl.float32).to(tl.int32, bitcast=True)  # its exponent counts the zeros
        level = tl.where(down, level - 1, (lowest >> 23) - 127)
        at = tl.where(down, at, following)

    rows = found + pixel[None, :].to(tl.int64) * K + slot[:, None]
    tl.store(rows, best.to(tl.int32), mask=(slot < K)[:, None] & real[None, :])
