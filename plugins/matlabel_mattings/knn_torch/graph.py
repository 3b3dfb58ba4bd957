"""The graphs of KNN matting of several images at once: W of `knn_graph`, in two halves.

Row i of the first names the neighbours that i found, always as many, so that it needs no building; a neighbour that
found i as well, in the same search, counts twice there. The second names those that found i but were not found. Two of
three links are mutual, so that less is left to be sorted, and to be read in every iteration. Pixels that find
themselves stand in the first like others: they cancel in D - W.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import torch

from matlabel_mattings.knn_torch.tree import Tree


@dataclass(frozen=True, slots=True)
class Graph:
    """Of b images with n places each, in the order of their first tree, where pixels that are alike lie together."""

    order: torch.Tensor
    """int64 b n: the pixel at each place."""
    links: torch.Tensor
    """int32 b*n k: the places j found by each place, numbered through all images; -1 - j where it counts twice."""
    starts: torch.Tensor
    finders: torch.Tensor
    """int32 b*n+1 and m: place i was found by finders[starts[i]:starts[i + 1]], and did not find them."""
    degree: torch.Tensor
    """float32 b n 1: D, the sums of W's rows."""
    own: torch.Tensor
    """float32 b n 1: W's diagonal."""
    matrices: tuple[torch.Tensor, torch.Tensor] | None
    """The halves as sparse matrices, where torch multiplies."""

    def apply(self, diagonal: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """(diagonal - W) p for each of the c columns; all of them float32 b n c."""
        flat = p.view(-1, p.shape[-1])
        if self.matrices is not None:
            w = torch.addmm(self.matrices[0] @ flat, self.matrices[1], flat).view(p.shape)
            return torch.addcmul(w.neg_(), diagonal, p)
        from matlabel_mattings.knn_torch import multiply

        return multiply.apply(self.links, self.starts, self.finders, diagonal.view(flat.shape), flat).view(p.shape)


def build(trees: list[Tree], neighbours: list[torch.Tensor]) -> Graph:
    """The graph of each search's tree and result (`search.nearest`)."""
    order = trees[0].order.long()
    batch, size = order.shape
    every = torch.arange(batch * size, dtype=torch.int32, device=order.device)
    place = torch.empty_like(every).view(batch, size).scatter_(1, order, every.view(batch, size))
    searches = []
    for found in neighbours:
        rows = found.gather(1, order[:, :, None].expand(found.shape)).view(batch, -1)
        searches.append(place.gather(1, rows.long()).view(batch * size, -1))
    return of_links(searches, order, sparse=engine(order.device) == "torch")


def of_links(searches: list[torch.Tensor], order: torch.Tensor, sparse: bool) -> Graph:
    """The graph of what each search found, int32 b*n k, rows and numbers in the graph's order."""
    batch, size = order.shape
    every = torch.arange(batch * size + 1, dtype=torch.int32, device=order.device)
    found, mutual = torch.cat(searches, 1), torch.cat([_mutual(links, every) for links in searches], 1)
    width = found.shape[1]
    edges = (~mutual).view(-1).nonzero()[:, 0]
    ends, turn = found.view(-1)[edges].sort(stable=True)
    starts = torch.searchsorted(ends, every, out_int32=True)
    finders = (edges[turn] // width).int()
    matrices = None
    if sparse:
        ones = torch.ones(len(finders), device=order.device)
        matrices = _matrix(every * width, found.view(-1), 1.0 + mutual.view(-1)), _matrix(starts, finders, ones)
    degree = (width + mutual.sum(1) + starts.diff()).float().view(batch, size, 1)
    own = (2 * (found == every[:-1, None]).sum(1)).float().view(batch, size, 1)
    return Graph(order, torch.where(mutual, -1 - found, found), starts, finders, degree, own, matrices)


def _mutual(links: torch.Tensor, every: torch.Tensor) -> torch.Tensor:
    """bool of the shape of `links`: whether the place that was found has found the one that found it."""
    out = torch.empty(links.shape, dtype=torch.bool, device=links.device)
    for at in range(links.shape[1]):
        out[:, at] = (links.index_select(0, links[:, at]) == every[:-1, None]).any(1)
    return out


def _matrix(starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    size = len(starts) - 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, columns, values, (size, size), check_invariants=False)


@lru_cache(maxsize=16)
def engine(device: torch.device) -> str:
    """Who multiplies: "triton" on graphics cards, if its kernel is right on a small example; else "torch"."""
    if device.type != "cuda":
        return "torch"
    if reason := trouble(device):
        warnings.warn(f"triton's kernel {reason}; torch multiplies instead", stacklevel=2)
    return "torch" if reason else "triton"


def trouble(device: torch.device) -> str | None:
    """What is wrong with the kernel on a device, tried on a graph in which some places are found by many."""
    generator = torch.Generator().manual_seed(0)
    links = torch.randint(0, 300, (300, 35), generator=generator).square_().div_(300, rounding_mode="floor").int()
    searches, order = [links.to(device)], torch.arange(300, device=device)[None]
    p, diagonal = (torch.rand((1, 300, 3), generator=generator).to(device) for _ in range(2))
    try:
        ours, theirs = (of_links(searches, order, sparse).apply(diagonal, p) for sparse in (False, True))
    except Exception as err:
        return f"does not run ({type(err).__name__}: {err})"
    return None if (ours - theirs).abs().max() < 1e-3 else "multiplies wrongly"
