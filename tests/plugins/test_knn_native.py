"""The native KNN solver equals a direct solve of PyMatting's own system."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from matlabel_bench.contracts import check_alpha
from matlabel_bench.errors import MattingFailed, UsageError
from matlabel_mattings import kdtree, knn_graph, knn_native, nearest, through_pymatting
from matlabel_mattings.knn import Knn
from matlabel_mattings.neighbours import neighbours

CLOSE = 2e-4
"""Largest difference of an alpha; the parts are built to stay below 1e-3 on photographs."""


def picture(height: int, width: int, seed: int = 0, grey: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([60 + 2 * x, 90 + 3 * y, 140 - x], axis=2) + rng.normal(0, 12, (height, width, 3))
    image[(y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 3) ** 2] += 60
    image = np.clip(image, 0, 255).astype(np.uint8)
    return np.repeat(image[:, :, :1], 3, axis=2) if grey else image


def blobs(classes: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = []
    for cy, cx in rng.uniform(0.2, 0.8, (classes, 2)) * (height, width):
        peak = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (0.15 * height * width))
        planes.append(np.where(peak > 0.75 * peak.max(), 255, np.where(peak < 0.2, 0, 128)))
    return np.stack(planes).astype(np.uint8)


def direct(image: np.ndarray, trimap: np.ndarray, **kwargs: Any) -> np.ndarray:
    pm = through_pymatting.load()
    laplacian = pm.knn_laplacian(image / 255.0, **kwargs)
    planes = []
    for plane in trimap:
        system, target = pm.make_linear_system(laplacian, plane / 255.0)
        planes.append(np.clip(scipy.sparse.linalg.spsolve(system.tocsc(), target), 0, 1).reshape(plane.shape))
    return np.stack(planes)


native = Knn()


@pytest.mark.parametrize(("height", "width", "seed"), [(36, 44, 0), (50, 31, 1), (24, 24, 2), (60, 70, 3)])
def test_alphas_equal_a_direct_solve(height: int, width: int, seed: int) -> None:
    image, trimap = picture(height, width, seed), blobs(3, height, width, seed)
    alpha = native.open(None)(image, trimap)
    check_alpha(alpha, trimap, "native")
    assert np.abs(alpha - direct(image, trimap)).max() < CLOSE
    assert 0.05 < alpha[trimap == 128].mean() < 0.95


def test_fields_reach_the_solver() -> None:
    image, trimap = picture(30, 40), blobs(1, 30, 40)
    alpha = Knn(neighbours=(9,), distance_weights=(1.0,), backend="native").open(None)(image, trimap)
    expected = direct(image, trimap, n_neighbors=[9], distance_weights=[1.0])
    assert np.abs(alpha - expected).max() < CLOSE
    assert np.abs(alpha - direct(image, trimap)).max() > 10 * CLOSE


def test_one_class_equals_many_and_the_bytes_repeat() -> None:
    image, trimap = picture(40, 50), blobs(3, 40, 50)
    solve = native.open(None)
    together = solve(image, trimap)
    assert together.tobytes() == native.open(None)(image, trimap).tobytes()
    assert together.tobytes() == b"".join(solve(image, plane[None]).tobytes() for plane in trimap)


@pytest.mark.parametrize(
    "image", [np.full((20, 24, 3), 120, np.uint8), picture(20, 24, grey=True)], ids=["flat", "grey"]
)
def test_flat_and_grey_images(image: np.ndarray) -> None:
    trimap = np.full((1, 20, 24), 128, np.uint8)
    trimap[0, :4], trimap[0, -4:] = 0, 255
    alpha = native.open(None)(image, trimap)
    assert np.abs(alpha - direct(image, trimap)).max() < CLOSE


@pytest.mark.parametrize(("height", "width"), [(1, 40), (40, 1), (2, 40), (5, 5)])
def test_thin_and_small_images(height: int, width: int) -> None:
    image, trimap = picture(height, width), np.full((1, height, width), 128, np.uint8)
    trimap.flat[:3], trimap.flat[-3:] = 0, 255
    assert np.abs(native.open(None)(image, trimap) - direct(image, trimap)).max() < CLOSE


def test_degenerate_trimaps() -> None:
    image, trimap = picture(36, 44), np.zeros((3, 36, 44), np.uint8)
    trimap[:, :18] = 255
    trimap[1, 20, 20] = 128
    trimap[2, 18] = 128
    alpha = native.open(None)(image, trimap)
    assert np.array_equal(alpha[0], trimap[0] / 255)
    assert np.abs(alpha[1:] - direct(image, trimap[1:])).max() < CLOSE


def test_unknown_pixels_that_no_known_one_reaches_stay_background() -> None:
    image = np.zeros((12, 30, 3), np.uint8)
    image[:, 15:] = 255
    trimap = np.full((1, 12, 30), 128, np.uint8)
    trimap[0, :6, :15], trimap[0, 6:8, :15] = 255, 0
    alpha = Knn(neighbours=(5,), distance_weights=(0.1,), backend="native").open(None)(image, trimap)
    assert np.isfinite(alpha).all()
    assert (alpha[0, :, 15:] == 0).all()


@pytest.mark.parametrize("backend", ["native", "pymatting"])
def test_fewer_pixels_than_neighbours_are_refused_alike(backend: str) -> None:
    trimap = np.full((1, 3, 3), 128, np.uint8)
    trimap.flat[0], trimap.flat[-1] = 0, 255
    with pytest.raises(MattingFailed, match=r"at least 20 pixels for knn matting\n.*got 3 x 3"):
        Knn(backend=backend).open(None)(picture(3, 3), trimap)


def test_too_few_iterations_are_a_failed_matting() -> None:
    with pytest.raises(MattingFailed, match=r"knn matting to solve the trimap\n.*within 1 iterations\n.*maxiter"):
        Knn(backend="native", maxiter=1).open(None)(picture(36, 44), blobs(1, 36, 44))


def test_a_residual_that_is_no_number_is_a_failure() -> None:
    known = np.arange(1600) < 100
    graph = knn_graph.build(picture(40, 40) / 255.0, (5,), (1.0,))
    system = knn_graph.reduce(graph, known, known.astype(np.float32), 100.0)
    system.target[0] = np.nan
    with pytest.raises(ValueError, match="diverged"):
        knn_native.conjugate_gradients(system, 1e-3, 100)


def test_the_soft_kernel_is_pymattings_alone() -> None:
    with pytest.raises(UsageError, match=r"kernel=binary with knn.backend=native\n.*soft\n.*backend=pymatting"):
        Knn(kernel="soft", backend="native")


@pytest.mark.parametrize(("n", "k"), [(700, 20), (2500, 10), (33, 33), (17, 1), (8, 8), (400, 37)])
def test_neighbours_equal_brute_force(n: int, k: int) -> None:
    points = np.random.default_rng(n).random((n, 5), np.float32)
    found, order = neighbours(points, k)
    apart = ((points[:, None].astype(float) - points[None]) ** 2).sum(2)
    expected = np.sort(np.argsort(apart, axis=1)[:, :k], axis=1)
    assert np.array_equal(np.sort(order[found], axis=1), expected[order])


def blocks(values: int, rng: np.random.Generator) -> np.ndarray:
    """Distances, some equal, in blocks of sixteen that are not full."""
    far = (rng.integers(0, values, (int(rng.integers(2, 9)), 16)) / values).astype(np.float32)
    far[rng.random(far.shape) < 0.3] = np.nan
    far[:, 0] = rng.integers(0, values, len(far)) / values
    far[0, :7] = rng.integers(0, values, 7) / values
    return far


@pytest.mark.parametrize("values", [2, 6, 30, 10**6])
def test_a_limit_leaves_few_candidates_and_all_that_count(values: int) -> None:
    rng, k = np.random.default_rng(values), 7
    for _ in range(300):
        far = blocks(values, rng).ravel()
        kth, last = np.sort(far)[k - 1], np.nanmax(far)
        for reach in (np.float32(np.inf), last, kth):
            for most in (k, k + 3):
                limit, inside = nearest.narrow(far, 0, len(far), k, most, reach)
                assert kth <= limit <= last
                assert inside == nearest.count(far, 0, len(far), limit) == (far <= limit).sum() >= k
                # More than asked for are so only because the farthest of them cannot be told apart.
                assert inside <= most or (far < limit).sum() < k
                assert nearest.farthest(far, 0, len(far), limit) == far[far <= limit].max()


@pytest.mark.parametrize("values", [2, 6, 30, 10**6])
def test_squeezed_blocks_hold_the_k_nearest(values: int) -> None:
    rng, k = np.random.default_rng(values), 7
    for _ in range(300):
        far = blocks(values, rng).ravel()
        first = 100 * np.arange(len(far) // 16, dtype=np.int32)
        before, order = far.copy(), np.sort(far)
        end, least = nearest.squeeze(far, first, 0, len(far), k, np.float32(np.inf))
        kept = far[:end]
        assert end <= 16 * k
        assert np.array_equal(np.sort(kept[np.isfinite(kept)]), order[:k])
        assert order[k - 1] <= least
        assert np.isnan(order[k]) or least <= order[k] or order[k] == order[k - 1]
        names = np.empty(k, np.int32)
        nearest.names(far, first, 0, end, order[k - 1], names)
        assert np.array_equal(np.sort(before[names // 100 * 16 + names % 100]), order[:k])


@pytest.mark.parametrize("n", [1, 3, 4, 16, 17, 33, 1000, 20000])
@pytest.mark.parametrize("values", [2, 5, 10**6])
def test_the_tree_is_pymattings(n: int, values: int) -> None:
    from pymatting.util.kdtree import KDTree

    points = (np.random.default_rng((n, values)).integers(0, values, (n, 5)) / values).astype(np.float32)
    ours, theirs = kdtree.grow(points), KDTree(points)
    assert np.array_equal(ours.order, theirs.shuffled_indices)
    assert np.array_equal(ours.points, theirs.shuffled_data_points)
    leaves = [i for i in range(theirs.n_nodes) if theirs.less_inds[i] < 0]
    expected = {theirs.i0_inds[i]: (theirs.i1_inds[i], theirs.bounds[i].tolist()) for i in leaves}
    for leaf, (start, end) in enumerate(itertools.pairwise(ours.starts)):
        box = ours.rooms.reshape(-1, 2, 5)[leaf]
        assert (end, box.tolist()) == expected.pop(start)
        tile = ours.tiles.reshape(-1, 5, 16)[leaf]
        assert np.array_equal(tile[:, : end - start].T, ours.points[start:end])
        assert np.isnan(tile[:, end - start :]).all()
    assert not expected


def test_ties_are_settled_as_pymatting_does() -> None:
    from pymatting.util.kdtree import knn

    points = np.random.default_rng(0).integers(0, 4, (3000, 5)).astype(np.float32)
    points[:400] = 1  # more than a query has room for
    found, order = neighbours(points, 12)
    _, expected = knn(points, points, 12)
    assert np.array_equal(np.sort(order[found], axis=1), np.sort(expected, axis=1)[order])


def test_fewer_points_than_neighbours() -> None:
    with pytest.raises(ValueError, match=r"\(4\) is less than .* \(k=5\)"):
        neighbours(np.zeros((4, 5), np.float32), 5)


def test_the_graph_is_pymattings() -> None:
    image = picture(40, 50)
    graph = knn_graph.build(image / 255.0, (20, 10), (2.0, 0.1))
    n = len(graph.order)
    shares = scipy.sparse.csr_matrix(
        (graph.weights / np.repeat(graph.degree, np.diff(graph.ends)), graph.links, graph.ends), (n, n)
    )
    expected = through_pymatting.load().knn_laplacian(image / 255.0)[graph.order][:, graph.order]
    expected.setdiag(0)
    assert abs(shares + expected).max() < 1e-6
    assert shares.nnz == (expected != 0).nnz


@pytest.mark.parametrize(("height", "width"), [(40, 50), (19, 23), (3, 7)])
def test_the_slices_of_a_system_hold_the_rows_of_the_graph(height: int, width: int) -> None:
    graph = knn_graph.build(picture(height, width) / 255.0, (9, 5), (2.0, 0.1))
    n = len(graph.order)
    known = np.random.default_rng(0).random(n) < 0.6
    weights = scipy.sparse.csr_matrix((graph.weights.astype(int), graph.links, graph.ends), (n, n)).toarray()
    s = knn_graph.reduce(graph, known, np.ones(n, np.float32), 100.0)
    u = len(s.places)
    rows = np.concatenate([np.repeat(16 * i + np.arange(16)[None], (b - a) // 16, 0).ravel()
                           for i, (a, b) in enumerate(zip(s.starts, s.starts[1:], strict=False))])  # fmt: skip
    got = np.zeros((len(rows), u), int)
    np.add.at(got, (rows, s.links), s.weights)
    expected = weights[np.ix_(s.places, s.places)]
    expected[np.ix_(~s.unknown, ~s.unknown)] = 0
    assert np.array_equal(got[:u], expected)
    assert not got[u:].any()
    places = np.flatnonzero(~known | (weights[:, ~known] > 0).any(1))
    assert np.array_equal(np.sort(s.places), places)
    assert np.array_equal(s.unknown, ~known[s.places])
    lengths = (expected > 0).sum(1)
    for first in range(0, u, knn_graph.WINDOW):
        window = slice(first, first + knn_graph.WINDOW)
        assert (np.diff(lengths[window]) <= 0).all()
        assert np.array_equal(np.sort(s.places[window]), places[window])
    p = np.random.default_rng(1).random(u).astype(np.float32)
    out = np.empty_like(p)
    product = knn_native._multiply(s.starts, s.links, s.weights, s.diagonal, p, out)
    np.testing.assert_allclose(out, s.diagonal * p - expected @ p, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(product, p.astype(float) @ out, rtol=1e-6)


def test_a_long_first_compilation_says_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    native.open(None)
    capsys.readouterr()
    monkeypatch.setattr(knn_native, "warm", lambda: time.sleep(0.2))
    native.open(None)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(through_pymatting, "PATIENCE", 0.02)
    native.open(None)
    assert capsys.readouterr() == ("", "compiling knn matting, once, up to a minute\n")


def test_the_graph_is_built_once_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    real = knn_graph.build
    monkeypatch.setattr(knn_graph, "build", lambda *a: built.append(1) or real(*a))
    solve = native.open(None)
    built.clear()
    solve(picture(36, 44), blobs(3, 36, 44))
    assert len(built) == 1
