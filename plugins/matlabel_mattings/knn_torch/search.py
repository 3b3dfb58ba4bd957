"""Exact nearest neighbours of all pixels among those of their image, the same on every device.

Of a pixel's neighbours, those with the k smallest (distance, index of the pixel) are taken. Distances are sums of
squares in float32, one operation after the other, none fused; so it does not matter who finds them, or in which order.
PyMatting settles ties by the order of its tree. Where colours have 8 bits ties are common: on photographs of 256 x 256
alphas differ by up to 0.02, by 3e-4 in the mean of unknown pixels, and labels at one pixel in 15,000.

A leaf's points search together, and meet the leaves whose boxes are no farther than the farthest of their candidates.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch

from matlabel_mattings.knn_torch.tree import LEAF, Tree, grow, places

NONE = 0x7F7FFFFF7FFFFF00
"""Key of a neighbour not found yet: distance 3.4e38, nearer only than the box of a node without points."""
TOGETHER = 4
"""Leaves that a leaf meets at a time."""
ROOM = 1 << 25
"""Numbers of a temporary array, roughly."""


def nearest(tree: Tree, k: int) -> torch.Tensor:
    """int32 b n k: the neighbours of each pixel, itself or its equals included, as pixels, in any order.

    Rows of places without a pixel name themselves. Every image must have at least k pixels.
    """
    if engine(tree.points.device, k) == "triton":
        from matlabel_mattings.knn_torch import walk

        return walk.nearest(tree, k)
    return by_torch(tree, k)


@lru_cache(maxsize=16)
def engine(device: torch.device, k: int) -> str:
    """Who searches: "triton" on graphics cards, if its kernel is right on a small example; else "torch"."""
    if device.type != "cuda":
        return "torch"
    if reason := trouble(device, k):
        warnings.warn(f"triton's kernel {reason}; torch searches instead", stacklevel=2)
    return "torch" if reason else "triton"


def trouble(device: torch.device, k: int) -> str | None:
    """What is wrong with the kernel on a device, tried on colours of few values."""
    size = places(max(500, k))
    points = torch.randint(0, 6, (1, 5, size), generator=torch.Generator().manual_seed(0)).to(device) / 255.0
    tree = grow(points, torch.full((1,), size, dtype=torch.int32, device=device))
    try:
        from matlabel_mattings.knn_torch import walk

        found = walk.nearest(tree, k)
    except Exception as err:
        return f"does not run ({type(err).__name__}: {err})"
    equal = torch.equal(found.sort(-1).values, by_torch(tree, k).sort(-1).values)
    return None if equal else "finds other neighbours"


def fresh(tree: Tree, k: int) -> torch.Tensor:
    """int32 b n k in which every row names itself."""
    batch, size = tree.order.shape
    own = torch.arange(size, dtype=torch.int32, device=tree.order.device)
    return own[None, :, None].expand(batch, size, k).contiguous()


def by_torch(tree: Tree, k: int) -> torch.Tensor:
    """`nearest` in torch alone."""
    found = fresh(tree, k)
    leaves = tree.order.shape[1] // LEAF
    some = max(1, ROOM // max(leaves, LEAF * LEAF * TOGETHER))
    for image in range(len(found)):
        used = -(-int(tree.counts[image]) // LEAF)
        for start in range(0, used, some):
            tiles = torch.arange(start, min(start + some, used), device=found.device)
            _search(tree, image, tiles, found[image])
    return found


def _search(tree: Tree, image: int, tiles: torch.Tensor, found: torch.Tensor) -> None:
    """Fill the rows of `found` whose pixels lie in the leaves `tiles`."""
    k, leaves = found.shape[1], tree.order.shape[1] // LEAF
    points = tree.points[image].view(5, leaves, LEAF)
    pixels = tree.order[image].view(leaves, LEAF).long()
    boxes = tree.boxes[image, leaves:]
    gaps, near = _gaps(boxes[tiles], boxes).sort(1)
    best = NONE + torch.arange(k, device=found.device).repeat(len(tiles), LEAF, 1)
    best[pixels[tiles] >= tree.counts[image]] = 0  # nothing is nearer, so these do not search
    active = torch.arange(len(tiles), device=found.device)
    for turn in range(0, leaves, TOGETHER):
        reach = (best[active].amax((1, 2)) >> 32).int().view(torch.float32)
        active = active[gaps[active, turn] <= reach]
        if not len(active):
            break
        others = near[active, turn : turn + TOGETHER]
        far = torch.zeros((), device=found.device)
        for p in points:
            apart = p[tiles[active]][:, :, None] - p[others].flatten(1)[:, None, :]
            far = far + apart * apart
        keys = (far.view(torch.int32).long() << 32) | pixels[others].flatten(1)[:, None, :]
        best[active] = torch.cat([best[active], keys], 2).topk(k, 2, largest=False, sorted=False).values
    here = pixels[tiles].flatten()
    rows = best.flatten(0, 1)[here < tree.counts[image]]
    found[here[here < tree.counts[image]]] = (rows & 0xFFFFFFFF).int()


def _gaps(some: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Squared distances of boxes: rounded as those of points, so never above that of two points in them."""
    total = torch.zeros((), device=boxes.device)
    for d in range(5):
        apart = torch.maximum(boxes[None, :, d] - some[:, None, d + 5], some[:, None, d] - boxes[None, :, d + 5])
        apart = apart.clamp(min=0)
        total = total + apart * apart
    return total
