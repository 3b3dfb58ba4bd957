"""IRN's losses against values found by hand and by brute force."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch

from matlabel_refiners.irn_losses import affinities, neighbours, pair_losses
from matlabel_refiners.irn_paths import paths

E = 1e-5


@pytest.mark.parametrize(("radius", "size"), [(2, (2, 3)), (4, (9, 12)), (5, (6, 14))])
def test_affinity_is_one_minus_the_greatest_boundary_on_the_path(radius: int, size: tuple[int, int]) -> None:
    boundary = torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
    found = affinities(boundary, radius)
    margin = radius - 1
    cells = [(y, x) for y in range(size[0] - margin) for x in range(margin, size[1] - margin)]
    assert found.shape == (2, len(paths(radius)), len(cells))
    for image, (pair, path), (source, (y, x)) in (
        (i, p, s) for i in range(2) for p in enumerate(paths(radius)) for s in enumerate(cells)
    ):
        wanted = 1 - max(boundary[image, y + dy, x + dx] for dy, dx in path)
        assert found[image, pair, source] == wanted


def test_only_the_greatest_boundary_of_a_path_is_pushed() -> None:
    boundary = torch.tensor([[[0.1, 0.2, 0.9], [0.3, 0.4, 0.5]]], requires_grad=True)
    affinities(boundary, 2).sum().backward()
    # the source (0, 1) with (0, 2): 0.9; with (1, 1): 0.4; over the corners with (1, 0): 0.4; with (1, 2): 0.9
    assert boundary.grad is not None
    assert boundary.grad.tolist() == [[[0, 0, -2], [0, -2, 0]]]


def test_neighbours_follow_the_order_of_the_paths() -> None:
    values = torch.arange(7 * 11).view(1, 7, 11)
    near, far = neighbours(values, 3)
    for pair, path in enumerate(paths(3)):
        assert torch.equal(far[0, pair] - near[0, 0], torch.full((5 * 7,), path[0][0] * 11 + path[0][1]))


def losses(labels: list[list[int]]) -> dict[str, float]:
    """One source, (0, 1), and its four neighbours on a grid of 2 x 3."""
    boundary = torch.tensor([[[0.1, 0.2, 0.9], [0.3, 0.4, 0.5]]])
    rows = torch.tensor([[0.0, 1.0, 3.0], [0.5, -1.0, 4.0]])
    columns = torch.tensor([[2.0, 0.0, 1.0], [-1.0, 0.25, 0.0]])
    found = pair_losses(boundary, torch.stack([rows, columns])[None], torch.tensor([labels], dtype=torch.uint8), 2)
    return {name: float(value) for name, value in found.items()}


def test_an_object_its_edge_and_an_ignored_cell() -> None:
    """Alike (0, 2), over 0.9; different (1, 1), over 0.4, and (1, 0), over 0.4; (1, 2) is ignored."""
    found = losses([[0, 7, 7], [0, 2, 255]])
    assert found["loss_attract"] == pytest.approx(-log(0.1 + E) / 2 / 2, abs=1e-4)
    assert found["loss_repel"] == pytest.approx(-log(1 + E - 0.6) / 2, abs=1e-5)
    # D(source) - D(0, 2) = (-2, -1), to be the offset (0, 1): off by 2 and 2, the mean over both axes
    assert found["loss_displacement"] == pytest.approx((2 + 2) / 2 / 2, abs=1e-4)
    assert found["loss_still"] == 0


def test_background_alone() -> None:
    """Alike (0, 2) over 0.9, (1, 0) and (1, 1) over 0.4; (1, 2) is ignored. No displacement is to be left."""
    found = losses([[9, 0, 0], [0, 0, 255]])
    assert found["loss_attract"] == pytest.approx(-(log(0.1 + E) + 2 * log(0.6 + E)) / 3 / 2 / 2, abs=1e-4)
    assert found["loss_repel"] == found["loss_displacement"] == 0
    apart = [2 + 1, 0.5 + 1, 2 + 0.25]  # to (0, 2), (1, 0), (1, 1)
    assert found["loss_still"] == pytest.approx(sum(apart) / 6 / 2, abs=1e-4)


def test_background_and_object_weigh_the_same() -> None:
    """One pair of an object, 99 of background: the means of both enter with a half each."""
    boundary = torch.zeros(2, 2, 3)
    boundary[1] = 0.5
    labels = torch.tensor([[[0, 3, 3], [9, 9, 9]], [[0, 0, 0], [0, 0, 0]]], dtype=torch.uint8)
    found = pair_losses(boundary, torch.zeros(2, 2, 2, 3), labels, 2)
    assert float(found["loss_attract"]) == pytest.approx((-log(1 + E) - log(0.5 + E)) / 2 / 2, abs=1e-4)


def test_nothing_known_costs_nothing() -> None:
    assert set(losses([[255, 255, 255], [1, 1, 1]]).values()) == {0.0}
    assert set(losses([[1, 255, 1], [1, 1, 1]]).values()) == {0.0}


def test_saturated_boundaries_stay_finite() -> None:
    boundary = torch.stack([torch.zeros(9, 12), torch.ones(9, 12)]).requires_grad_()
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (2, 9, 12)).astype(np.uint8))
    total = sum(pair_losses(boundary, torch.zeros(2, 2, 9, 12), labels, 4).values())
    assert isinstance(total, torch.Tensor)
    total.backward()
    assert torch.isfinite(total) and boundary.grad is not None and torch.isfinite(boundary.grad).all()
