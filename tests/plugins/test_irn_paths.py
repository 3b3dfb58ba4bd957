"""Path geometry against the facts measured on the reference implementation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from matlabel_bench.errors import UsageError
from matlabel_refiners.irn_paths import grid, offsets, path, paths, shifted, sources

BUCKETS = {
    10: "2,2 2,3 4,4 2,5 6,6 4,7 10,8 2,9 12,10 4,11 12,12 2,13 8,14 8,15 22,16 16,18 6,19 20,20 4,21 6,22",
    5: "2,2 2,3 4,4 2,5 4,6 2,7 8,8 6,10 4,11",
}
"""How many paths have how many cells, for IRN's radius in training and at inference."""


@pytest.mark.parametrize(("radius", "count"), [(10, 152), (5, 34)])
def test_offsets(radius: int, count: int) -> None:
    found = offsets(radius)
    assert len(found) == len(set(found)) == count
    assert all(y * y + x * x < radius * radius and (y > 0 or x > 0) for y, x in found)
    everything = {(y, x) for y, x in np.ndindex(radius, radius) if 0 < y * y + x * x < radius * radius}
    assert {(y, abs(x)) for y, x in found} == everything


@pytest.mark.parametrize("radius", [10, 5])
def test_paths_by_length(radius: int) -> None:
    lengths = [len(p) for p in paths(radius)]
    table = {tuple(map(int, entry.split(",")[::-1])) for entry in BUCKETS[radius].split()}
    assert lengths == sorted(lengths)
    assert set(Counter(lengths).items()) == table


def test_paths_by_hand() -> None:
    assert path(0, 3) == ((0, 3), (0, 2), (0, 1), (0, 0))
    assert path(1, -1) == ((1, -1), (0, -1), (1, 0), (0, 0))  # the corners are 0.71 cells off the line
    assert path(1, 2) == ((1, 2), (0, 2), (1, 1), (0, 1), (1, 0), (0, 0))
    assert path(2, 2) == ((2, 2), (1, 2), (2, 1), (1, 1), (0, 1), (1, 0), (0, 0))  # two corners, 1.41 off, are left out


@pytest.mark.parametrize("radius", [10, 5, 2])
def test_a_path_joins_its_ends(radius: int) -> None:
    assert Counter(p[0] for p in paths(radius)) == Counter(offsets(radius))
    for cells in paths(radius):
        far = cells[0]
        assert cells[-1] == (0, 0) and len(set(cells)) == len(cells)
        assert set(cells) == {(far[0] - y, far[1] - x) for y, x in cells}  # the same seen from the other end


def test_sources_of_the_training_grid() -> None:
    rows, columns = window = sources(128, 128, 10)
    assert (rows, columns) == (slice(0, 119), slice(9, 119))
    assert np.zeros((128, 128))[window].size == 13_090
    cells = sum(map(len, paths(10))) * 13_090
    assert cells == 27_934_060 and cells * 8 == 223_472_480  # bytes of the tables that are not built
    for y, x in offsets(10):
        moved = shifted(window, y, x)
        assert np.zeros((128, 128))[moved].size == 13_090 and min(s.start for s in moved) >= 0


@pytest.mark.parametrize("size", [(9, 30), (30, 18)])
def test_a_grid_without_sources(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=r"at least 10 x 19 cells for paths of radius 10\n.*got 9 x 30|got 30 x 18"):
        sources(*size, 10)


def test_grid() -> None:
    assert [grid(pixels) for pixels in (1, 4, 5, 375, 500, 512)] == [1, 1, 2, 94, 125, 128]
