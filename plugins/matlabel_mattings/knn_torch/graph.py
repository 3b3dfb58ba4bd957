"""The graphs of KNN matting of several images at once, as two sparse matrices whose sum is W of `knn_graph`.

Row i of the first names the neighbours that i found, always as many, so that it needs no building; the second is its
transpose, by one sort. Pairs that are found twice, and pixels that find themselves, stand there as often: they cancel
in D - W, and to merge them costs more than they do.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch

from matlabel_mattings.knn_torch.tree import Tree


@dataclass(frozen=True, slots=True)
class Graph:
    """Of b images with n places each, in the order of their first tree, where pixels that are alike lie together."""

    order: torch.Tensor
    """int64 b n: the pixel at each place."""
    links: torch.Tensor
    """int32 b*n k: the places found by each place, over all searches, numbered through all images."""
    found: torch.Tensor
    """float32 b*n b*n, sparse: the same as a matrix."""
    finders: torch.Tensor
    """Its transpose."""
    degree: torch.Tensor
    """float32 b n 1: D, the sums of W's rows."""
    own: torch.Tensor
    """float32 b n 1: W's diagonal."""

    def spread(self, p: torch.Tensor) -> torch.Tensor:
        """W p for each of the c columns of b n c."""
        flat = p.view(-1, p.shape[-1])
        return torch.addmm(self.found @ flat, self.finders, flat).view(p.shape)


def build(trees: list[Tree], neighbours: list[torch.Tensor]) -> Graph:
    """The graph of each search's tree and result (`search.nearest`)."""
    order = trees[0].order.long()
    batch, size = order.shape
    every = torch.arange(batch * size, dtype=torch.int32, device=order.device)
    place = torch.empty_like(every).view(batch, size).scatter_(1, order, every.view(batch, size))
    parts = []
    for found in neighbours:
        rows = found.gather(1, order[:, :, None].expand(found.shape)).view(batch, -1)
        parts.append(place.gather(1, rows.long()).view(batch * size, -1))
    links = torch.cat(parts, 1)
    width = links.shape[1]
    ends, edges = links.view(-1).sort(stable=True)
    starts = torch.arange(batch * size + 1, dtype=torch.int32, device=order.device)
    into = torch.searchsorted(ends, starts, out_int32=True)
    ones = torch.ones(len(ends), device=order.device)
    return Graph(
        order,
        links,
        _matrix(starts * width, links.view(-1), ones),
        _matrix(into, (edges // width).int(), ones),
        (width + into.diff()).float().view(batch, size, 1),
        (2 * (links == every[:, None]).sum(1)).float().view(batch, size, 1),
    )


def _matrix(starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    size = len(starts) - 1
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, columns, values, (size, size), check_invariants=False)


def components(graph: Graph) -> torch.Tensor:
    """int64 b*n: the same number for places that a path joins, another for others."""
    links = graph.links.long()
    label = torch.arange(len(links), device=links.device)
    while True:
        near = torch.minimum(label, label[links].amin(1))
        near.scatter_reduce_(0, links.view(-1), near[:, None].expand(links.shape).reshape(-1), "amin")
        near.scatter_reduce_(0, label, near.clone(), "amin")  # what a part has heard, its representative hears
        for _ in range(2):
            near = near[near]
        if torch.equal(near, label):
            return label
        label = near


def reached(graph: Graph, known: torch.Tensor) -> torch.Tensor:
    """bool b n c: whether a path joins a place to one that is `known`. To others nothing is known, and they stay 0."""
    label = components(graph)[:, None].expand(-1, known.shape[-1])
    told = torch.zeros(label.shape, device=label.device)
    told.scatter_reduce_(0, label, known.view(label.shape).float(), "amax")
    return (told.gather(0, label) > 0).view(known.shape)
