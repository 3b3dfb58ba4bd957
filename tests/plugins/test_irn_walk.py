"""The sparse walk against IRN's dense formulation, written out here cell by cell."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from numpy.polynomial.chebyshev import chebval
from torch.nn import functional

from matlabel_refiners import irn_walk, irn_walk_torch
from matlabel_refiners.irn_paths import offsets

SIZES = [(1, 1), (1, 17), (17, 1), (3, 2), (7, 9), (13, 22), (24, 19)]


def scene(height: int, width: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A boundary map with weak and strong places, and maps."""
    rng = np.random.default_rng(height * 100 + width)
    boundary = (rng.random((height, width)) ** 4).astype(np.float32)
    return boundary, rng.random((classes, height, width)).astype(np.float32)


def dense(boundary: np.ndarray, radius: int, beta: float) -> np.ndarray:
    """IRN's matrix of one step: pad by ones, greatest value between any two cells, crop, power, sums of columns."""
    height, width = boundary.shape
    padded = np.pad(boundary, ((0, radius), (radius, radius)), constant_values=1.0)
    wide = width + 2 * radius
    affinity = np.eye(padded.size)
    for y, x in np.ndindex(height, wide):
        for dy, dx in offsets(radius):
            if y + dy < height + radius and 0 <= x + dx < wide:
                box = np.mgrid[y : y + dy + 1, min(x, x + dx) : max(x, x + dx) + 1].reshape(2, -1)
                off = np.abs(dy * (box[1] - x) - dx * (box[0] - y)) / np.hypot(dy, dx)
                one, other = y * wide + x, (y + dy) * wide + x + dx
                affinity[one, other] = affinity[other, one] = 1 - padded[tuple(box[:, off < 1 - 1e-9])].max()
    inside = np.arange(padded.size).reshape(padded.shape)[:height, radius : radius + width].ravel()
    scaled = affinity[np.ix_(inside, inside)] ** beta
    return scaled / scaled.sum(axis=0, keepdims=True)


@pytest.mark.parametrize("size", SIZES)
def test_it_equals_the_dense_formulation(size: tuple[int, int]) -> None:
    boundary, maps = scene(*size)
    matrix = np.linalg.matrix_power(dense(boundary, 5, 10), 256)
    wanted = ((maps * (1 - boundary)).reshape(2, -1) @ matrix).reshape(maps.shape)
    np.testing.assert_allclose(irn_walk.walk(boundary, maps, 5, 10, 256), wanted, atol=1e-6)


@pytest.mark.parametrize(("radius", "beta", "steps"), [(2, 1.0, 1), (3, 4.0, 2), (5, 10.0, 64), (4, 0.5, 1024)])
def test_it_equals_the_dense_formulation_with_other_parameters(radius: int, beta: float, steps: int) -> None:
    boundary, maps = scene(11, 8)
    matrix = np.linalg.matrix_power(dense(boundary, radius, beta), steps)
    wanted = ((maps * (1 - boundary)).reshape(2, -1) @ matrix).reshape(maps.shape)
    np.testing.assert_allclose(irn_walk.walk(boundary, maps, radius, beta, steps), wanted, atol=1e-6)


def test_it_equals_squarings_in_single_precision() -> None:
    """As IRN computes it, whose own rounding is the larger part of the difference."""
    boundary, maps = scene(31, 27, classes=3)
    matrix = dense(boundary, 5, 10).astype(np.float32)
    for _ in range(8):
        matrix = matrix @ matrix
    wanted = ((maps * (1 - boundary)).reshape(3, -1) @ matrix).reshape(maps.shape)
    np.testing.assert_allclose(irn_walk.walk(boundary, maps, 5, 10, 256), wanted, atol=1e-4)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("radius", "steps"), [(5, 256), (2, 1), (3, 7)])
def test_in_torch_it_is_the_same(size: tuple[int, int], radius: int, steps: int, device: str) -> None:
    boundary, maps = scene(*size, classes=3)
    there = torch.from_numpy(boundary).to(device)
    matrix = irn_walk_torch.transitions(there, radius, 4.0).cpu().to_dense().numpy()
    np.testing.assert_allclose(matrix, irn_walk.transitions(boundary, radius, 4.0).toarray(), atol=1e-12)
    found = irn_walk_torch.walk(there, maps, radius, 4.0, steps)
    assert (found.shape, found.dtype) == (maps.shape, np.float32)
    np.testing.assert_allclose(found, irn_walk.walk(boundary, maps, radius, 4.0, steps), atol=1e-7)


def test_saturated_boundaries_leave_cells_alone() -> None:
    maps = scene(9, 9)[1]
    assert np.array_equal(irn_walk.walk(np.ones((9, 9), np.float32), maps, 5, 10, 256), np.zeros_like(maps))
    matrix = irn_walk.transitions(np.ones((9, 9), np.float32), 5, 10)
    assert np.array_equal(matrix.toarray(), np.eye(81))


def test_a_wall_holds_a_map_back() -> None:
    boundary = np.zeros((12, 15), np.float32)
    boundary[:, 7] = 1
    maps = np.zeros((1, 12, 15), np.float32)
    maps[0, 5, 2] = 1
    walked = irn_walk.walk(boundary, maps, 5, 10, 256)[0]
    assert walked[:, 8:].max() == 0 and walked[:, :7].min() > 0
    boundary[6, 7] = 0
    assert irn_walk.walk(boundary, maps, 5, 10, 256)[0, :, 8:].max() > 0


def test_rows_sum_to_one_and_are_short() -> None:
    matrix = irn_walk.transitions(scene(23, 31)[0], 5, 10)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    assert np.diff(matrix.indptr).max() == 69


def test_no_dense_matrix_at_640_x_640() -> None:
    """One would take 2.4 GiB in single precision."""
    boundary, maps = scene(160, 160, classes=1)
    tracemalloc.start()
    try:
        walked = irn_walk.walk(boundary, maps, 5, 10, 256)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.isfinite(walked).all() and peak < 250e6


@pytest.mark.parametrize("steps", [1, 2, 3, 16, 256, 4096])
def test_weights_of_the_polynomials(steps: int) -> None:
    weights = irn_walk.weights(steps)
    assert weights.sum() == pytest.approx(1, abs=1e-14) and weights.min() >= 0
    assert len(weights) <= min(steps, 7.2 * steps**0.5) + 1
    t = np.linspace(-1, 1, 1001)
    np.testing.assert_allclose(chebval(t, weights), t**steps, atol=1e-11)


def test_256_steps_cost_112_products() -> None:
    assert len(irn_walk.weights(256)) == 113


def test_cells_average_their_pixels() -> None:
    maps = np.arange(30, dtype=np.float32).reshape(1, 5, 6)
    wanted = [[maps[0, :4, :4].mean(), maps[0, :4, 4:].mean()], [maps[0, 4:, :4].mean(), maps[0, 4:, 4:].mean()]]
    assert np.allclose(irn_walk.cells(maps), [wanted])
    large = np.random.default_rng(0).random((3, 64, 48)).astype(np.float32)
    pooled = functional.avg_pool2d(torch.from_numpy(large), 4).numpy()
    np.testing.assert_allclose(irn_walk.cells(large), pooled, atol=1e-6)
    assert irn_walk.cells(large[:0]).shape == (0, 16, 12)


TAGS = np.array([3, 7], np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (37, 50), (64, 3)])
def test_the_label_is_irns(size: tuple[int, int]) -> None:
    """Bilinear times four, cropped, divided by the greatest value of all classes, against 0.25."""
    cells = [-(-side // 4) for side in size]
    walked = np.random.default_rng(1).random((2, *cells)).astype(np.float32) ** 3
    large = functional.interpolate(torch.from_numpy(walked)[None], scale_factor=4, mode="bilinear")[0]
    large = large[:, : size[0], : size[1]]
    planes = functional.pad(large / large.max(), (0, 0, 0, 0, 1, 0), value=0.25)
    wanted = np.array([0, 3, 7], np.uint8)[planes.argmax(0).numpy()]
    assert np.array_equal(irn_walk.label(walked, size, 0.25, TAGS), wanted)


def test_the_threshold_is_relative_to_the_greatest_value_of_all_classes() -> None:
    walked = np.stack([np.full((2, 2), 0.01), np.full((2, 2), 0.002)]).astype(np.float32)
    assert (irn_walk.label(walked, (8, 8), 0.25, TAGS) == 3).all()
    assert (irn_walk.label(walked[::-1] * [[[1]], [[0.9]]], (8, 8), 0.25, TAGS) == 7).all()
    assert (irn_walk.label(walked[1:], (8, 8), 1.0, TAGS[:1]) == 0).all()


@pytest.mark.parametrize("classes", [0, 2])
def test_maps_without_any_value_are_background(classes: int) -> None:
    label = irn_walk.label(np.zeros((classes, 3, 2), np.float32), (9, 7), 0.0, TAGS[:classes])
    assert label.dtype == np.uint8 and np.array_equal(label, np.zeros((9, 7), np.uint8))
