"""The graphs of KNN matting of several images at once: W of `knn_graph`, in two halves, as far as it is needed.

Row i of the first half names the neighbours that i found, always as many, so that it needs no building; a neighbour
that found i as well, in the same search, counts twice there. The second names those that found i but were not found.
Two of three links are mutual, so that less is left to be sorted, and to be read in every iteration. Pixels that find
themselves stand in the first like others: they cancel in D - W.

A known pixel whose neighbours are all known, and as it is, has that value: it gets no row.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from matlabel_mattings.knn_torch import steps
from matlabel_mattings.knn_torch.tree import Tree


@dataclass(frozen=True, slots=True)
class Graph:
    """Of b images with m rows each, of which the last has no place, as others at the end may have none."""

    places: torch.Tensor
    """int64 b m: the place in the order of the first tree, ascending; -1 where there is none."""
    rank: torch.Tensor
    """int64 b n: the row of each place; -1 where there is none."""
    links: torch.Tensor
    """int32 b*m k: the rows j found by each, numbered through all images; -1 - j where it counts twice. In the stead of
    a pixel without row stands the image's last, which is always 0."""
    starts: torch.Tensor
    finders: torch.Tensor
    """int32 b*m+1 and e: row i was found by finders[starts[i]:starts[i + 1]], and did not find them."""
    degree: torch.Tensor
    """float32 b m 1: D, the sums of W's rows, those without a row here among them."""
    inner: torch.Tensor
    """float32 b m 1: the sums of what is here."""
    own: torch.Tensor
    """float32 b m 1: W's diagonal."""
    matrices: tuple[torch.Tensor, torch.Tensor] | None
    """The halves as sparse matrices, where torch multiplies."""

    def apply(self, diagonal: torch.Tensor, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """q = (diagonal - W) p for each of the c columns, and p . q, float64 b c.

        The arrays are float32 b m c, and p is 0 where there is no place.
        """
        if self.matrices is None:
            from matlabel_mattings.knn_torch import multiply

            return multiply.apply(self.links, self.starts, self.finders, diagonal, p)
        flat = p.view(-1, p.shape[-1])
        w = torch.addmm(self.matrices[0] @ flat, self.matrices[1], flat).view(p.shape)
        q = torch.addcmul(w.neg_(), diagonal, p)
        return q, steps.dot(p, q)

    def turn(self, p: torch.Tensor, *others: torch.Tensor) -> None:
        """`steps.turn`, by whoever multiplies."""
        self._steps().turn(p, *others)

    def advance(self, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        """`steps.advance`, by whoever multiplies."""
        result: torch.Tensor = self._steps().advance(x, *others)
        return result

    def _steps(self) -> Any:
        if self.matrices is not None:
            return steps
        from matlabel_mattings.knn_torch import multiply

        return multiply

    def rows(self, values: torch.Tensor) -> torch.Tensor:
        """b n c by place -> b m c by row, 0 where there is no place."""
        at = self.places[..., None].expand(-1, -1, values.shape[2])
        return torch.where(at >= 0, values.gather(1, at.clamp(min=0)), 0)

    def fill(self, values: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
        """b m c by row -> b n c by place, `into` where a place has no row."""
        at = self.rank[..., None].expand(-1, -1, values.shape[2])
        return torch.where(at >= 0, values.gather(1, at.clamp(min=0)), into)


def build(trees: list[Tree], neighbours: list[torch.Tensor], planes: torch.Tensor | None, unknown: int) -> Graph:
    """The graph of each search's tree and result (`search.nearest`).

    Args:
        planes: uint8 b n c, trimaps by place, `unknown` where they are; None: all pixels get a row.
    """
    order = trees[0].order.long()
    batch, size = order.shape
    every = torch.arange(batch * size, dtype=torch.int32, device=order.device)
    place = torch.empty_like(every).view(batch, size).scatter_(1, order, every.view(batch, size))
    searches = []
    for found in neighbours:
        rows = found.gather(1, order[:, :, None].expand(found.shape)).view(batch, -1)
        searches.append(place.gather(1, rows.long()).view(batch * size, -1))
    real = order < trees[0].counts[:, None]
    wanted = real if planes is None else real & _unsettled(searches, planes, unknown)
    return of_links(searches, wanted, sparse=engine(order.device) == "torch")


def _unsettled(searches: list[torch.Tensor], planes: torch.Tensor, unknown: int) -> torch.Tensor:
    """bool b n: whether a place is unknown in any plane, or any plane of a neighbour is unlike its own."""
    wanted = (planes == unknown).any(2).view(-1)
    for some in planes.split(3, 2):
        values = (some.int() << 8 * torch.arange(some.shape[2], device=some.device)).sum(2, dtype=torch.int32).view(-1)
        for links in searches:
            unlike = values.index_select(0, links.view(-1)).view(links.shape) != values[:, None]
            wanted |= unlike.any(1)
            wanted[links[unlike].long()] = True
    return wanted.view(planes.shape[:2])


def of_links(searches: list[torch.Tensor], wanted: torch.Tensor, sparse: bool) -> Graph:
    """The graph of what each search found, int32 b*n k, rows and numbers by place, for the places bool b n `wanted`."""
    batch, size = wanted.shape
    every = torch.cat(searches, 1)
    width = every.shape[1]
    degree = torch.full((batch * size,), width, dtype=torch.int32, device=wanted.device)
    degree.index_add_(0, every.view(-1), degree.new_ones(1).expand(every.numel()))
    rank = torch.where(wanted, wanted.cumsum(1) - 1, -1)
    length = int(wanted.sum(1).max()) + 1
    places = rank.new_full((batch, length), -1)
    image, place = wanted.nonzero(as_tuple=True)
    places[image, rank[image, place]] = place
    first = torch.arange(batch, device=wanted.device)[:, None] * length
    number = torch.where(wanted, rank + first, first + length - 1).int().view(-1)
    from_ = (places.clamp(min=0) + torch.arange(batch, device=wanted.device)[:, None] * size).view(-1)
    last = (first + length - 1).expand(batch, length).reshape(-1, 1).int()
    no_place = places.view(-1, 1) < 0
    searches = [links.index_select(0, from_) for links in searches]
    searches = [torch.where(no_place, last, number.index_select(0, s.view(-1)).view(s.shape)) for s in searches]
    degree = torch.where(no_place, 1, degree[from_][:, None]).view(batch, length, 1)
    return _joined(searches, last, places, rank, degree.float(), sparse)


def _joined(
    searches: list[torch.Tensor], last: torch.Tensor, places: torch.Tensor, rank: torch.Tensor, degree: torch.Tensor,
    sparse: bool,
) -> Graph:  # fmt: skip
    """The graph of links between rows; those to the image's `last` are none."""
    every = torch.arange(len(last) + 1, dtype=torch.int32, device=last.device)
    found, mutual = torch.cat(searches, 1), torch.cat([_mutual(links, every) for links in searches], 1)
    some = found != last
    mutual &= some
    edges = (some & ~mutual).view(-1).nonzero()[:, 0]
    ends, turn = found.view(-1)[edges].sort(stable=True)
    starts = torch.searchsorted(ends, every, out_int32=True)
    finders = (edges[turn] // found.shape[1]).int()
    matrices = None
    if sparse:
        ones = torch.ones(len(finders), device=last.device)
        halves = _matrix(every * found.shape[1], found.view(-1), 1.0 + mutual.view(-1))
        matrices = halves, _matrix(starts, finders, ones)
    inner = (some.sum(1) + mutual.sum(1) + starts.diff()).float().view(degree.shape)
    own = (2 * (some & (found == every[:-1, None])).sum(1)).float().view(degree.shape)
    links = torch.where(mutual, -1 - found, found)
    return Graph(places, rank, links, starts, finders, degree, inner, own, matrices)


def _mutual(links: torch.Tensor, every: torch.Tensor) -> torch.Tensor:
    """bool of the shape of `links`: whether the place that was found has found the one that found it."""
    out = torch.empty(links.shape, dtype=torch.bool, device=links.device)
    for at in range(links.shape[1]):
        out[:, at] = (links.index_select(0, links[:, at]) == every[:-1, None]).any(1)
    return out


def _matrix(starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    size = len(starts) - 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR tensor support|invariant checks)")
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
    """What is wrong with the kernels on a device, tried on a graph in which some places are found by many."""
    generator = torch.Generator().manual_seed(0)
    links = torch.randint(0, 300, (300, 35), generator=generator).square_().div_(300, rounding_mode="floor").int()
    arrays = torch.rand((5, 1, 301, 3), generator=generator)
    arrays[:, :, -1] = 0
    sums = torch.rand((3, 1, 3), generator=generator)
    sums[1, 0, 0] = 0
    theirs = _iteration(links, arrays.clone(), sums, sparse=True)
    try:
        ours = [o.cpu() for o in _iteration(links.to(device), arrays.to(device), sums.to(device), sparse=False)]
    except Exception as err:
        return f"does not run ({type(err).__name__}: {err})"
    near = all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(ours, theirs, strict=True))
    return None if near else "multiplies wrongly"


def _iteration(links: torch.Tensor, arrays: torch.Tensor, sums: torch.Tensor, sparse: bool) -> tuple[torch.Tensor, ...]:
    """All that an iteration computes, of any numbers."""
    graph = of_links([links], torch.ones((1, len(links)), dtype=torch.bool, device=links.device), sparse)
    (x, r, p, inverse, diagonal), (now, before, step) = arrays.unbind(), sums.unbind()
    graph.turn(p, r, inverse, now.double(), before.double())
    q, along = graph.apply(diagonal, p)
    return x, r, p, q, along, graph.advance(x, r, p, q, inverse, step)
