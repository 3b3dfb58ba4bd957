"""KNN matting in torch: neighbours equal brute force, alphas a direct solve of the system of those neighbours."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

from matlabel_bench.contracts import check_alpha
from matlabel_bench.errors import MattingFailed, UsageError
from matlabel_bench.images import read_image
from matlabel_mattings import knn_graph, knn_torch
from matlabel_mattings.knn import Knn
from matlabel_mattings.knn_torch import graph, search, tree

CLOSE = 1e-4
"""Largest difference of an alpha from the solution of its own system; the solver stays below 1e-5."""
SETTINGS = knn_torch.Settings()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([60 + 2 * x, 90 + 3 * y, 140 - x], axis=2) + rng.normal(0, 12, (height, width, 3))
    image[(y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 3) ** 2] += 60
    return np.clip(image, 0, 255).astype(np.uint8)


def blobs(classes: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = []
    for cy, cx in rng.uniform(0.2, 0.8, (classes, 2)) * (height, width):
        peak = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (0.15 * height * width))
        planes.append(np.where(peak > 0.75 * peak.max(), 255, np.where(peak < 0.2, 0, 128)))
    return np.stack(planes).astype(np.uint8)


def coarse(height: int, width: int, seed: int) -> np.ndarray:
    """Four values a channel: most neighbours have rivals as far."""
    return np.random.default_rng(seed).integers(0, 4, (height, width, 3)).astype(np.uint8) * 60


IMAGES = [
    coarse(13, 17, 0),
    np.full((9, 30, 3), 7, np.uint8),
    picture(40, 1),
    coarse(4, 8, 1),
    picture(37, 31),
    coarse(8, 8, 2),
]


def brute_force(points: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k smallest (distance, index), ascending by index; distances summed in the order of coordinates."""
    far = np.zeros((len(points), len(points)), np.float32)
    for column in points.T:
        apart = column[:, None] - column[None]
        far = far + apart * apart
    return np.sort(np.argsort(far, axis=1, kind="stable")[:, :k], axis=1)


@pytest.mark.parametrize(("spread", "k"), [(2.0, 20), (0.1, 10), (0.0, 1), (1.0, 32)])
def test_neighbours_equal_brute_force(spread: float, k: int) -> None:
    (points,), counts = tree.features(IMAGES, (spread,), "cpu")
    found = search.nearest(tree.grow(points, counts), k).numpy()
    assert found.shape == (len(IMAGES), tree.places(37 * 31), k)
    for image, rows in zip(IMAGES, found, strict=True):
        n = image[..., 0].size
        expected = brute_force(knn_graph.features(image / 255.0, spread), k)
        assert np.array_equal(np.sort(rows[:n], axis=1), expected)
        assert (rows[n:] == np.arange(n, len(rows))[:, None]).all()


def test_features_are_those_of_the_native_graph_and_floats_are_taken() -> None:
    image = picture(9, 14)
    (points, same), counts = tree.features([image, image / 255.0], (0.3, 0.3), "cpu")
    expected = knn_graph.features(image / 255.0, 0.3)
    assert all(np.array_equal(p[:, :126].T.numpy(), expected) for p in (*points, *same))
    assert (points[:, :, 126:] == tree.FAR).all()
    assert counts.tolist() == [126, 126]


def test_a_tree_holds_every_point_once_and_its_boxes_hold_them() -> None:
    (points,), counts = tree.features(IMAGES, (2.0,), "cpu")
    grown = tree.grow(points, counts)
    size = points.shape[2]
    assert all(np.array_equal(np.sort(order), np.arange(size)) for order in grown.order.numpy())
    assert torch.equal(grown.points, points.gather(2, grown.order.long()[:, None].expand(points.shape)))
    for nodes in (1, 4, size // tree.LEAF):
        runs = grown.points.unflatten(2, (nodes, -1))
        boxes = grown.boxes[:, nodes : 2 * nodes].transpose(1, 2)
        inside = (runs >= boxes[:, :5, :, None]) & (runs <= boxes[:, 5:, :, None])
        assert (inside | (runs == tree.FAR)).all()


KERNELS = """
import torch
from matlabel_mattings import knn_torch
from matlabel_mattings.knn_torch import graph, search, tree, walk
from test_knn_torch import IMAGES, blobs, picture

small = [image for image in IMAGES if image[..., 0].size <= 300]
for spread, k in ((2.0, 7), (0.1, 1), (0.0, 32)):
    (points,), counts = tree.features(small, (spread,), "cpu")
    grown = tree.grow(points, counts)
    ours, theirs = (find(grown, k).sort(-1).values for find in (walk.nearest, search.by_torch))
    assert torch.equal(ours, theirs), (spread, k)
assert graph.trouble(torch.device("cpu")) is None
links = torch.randint(0, 96, (96, 40), dtype=torch.int32)
for classes in (1, 2, 5):
    wanted = torch.rand((3, 32)) < 0.8
    ours, theirs = (graph.of_links([links[:, :9], links[:, 9:]], wanted, sparse) for sparse in (False, True))
    p, diagonal = torch.rand((2, *ours.places.shape, classes))
    p[ours.places < 0] = 0
    for mine, other in zip(ours.apply(diagonal, p), theirs.apply(diagonal, p), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-4)
shapes = [(9, 13), (12, 11)]
images = [picture(*shape) for shape in shapes]
trimaps = [blobs(classes, *shape) for classes, shape in enumerate(shapes, 1)]
settings = knn_torch.Settings((6, 4))
expected = knn_torch.mattes(images, trimaps, settings, "cpu")
search.engine = graph.engine = lambda *a: "triton"
for alpha, other in zip(knn_torch.mattes(images, trimaps, settings, "cpu"), expected, strict=True):
    assert abs(alpha - other).max() < 1e-5
"""


def test_triton_kernels_equal_torch() -> None:
    """Interpreted, so slow, on the processor."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", KERNELS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_a_graphics_card_finds_the_same_neighbours_by_triton() -> None:
    image = coarse(90, 70, 3)
    for k in (20, 10):
        assert search.engine(torch.device("cuda"), k) == "triton"
        found = []
        for device in ("cpu", "cuda"):
            (points,), counts = tree.features([image], (0.5,), device)
            found.append(search.nearest(tree.grow(points, counts), k).sort(-1).values.cpu())
        assert torch.equal(*found)
    assert graph.engine(torch.device("cuda")) == "triton"
    alphas = [Knn(backend="torch", device=d).open(None)(image, blobs(2, 90, 70)) for d in ("cpu", "cuda")]
    assert np.abs(alphas[0] - alphas[1]).max() < CLOSE


def adjacency(image: np.ndarray) -> scipy.sparse.csr_matrix:
    """W of the reference, of neighbours by brute force."""
    n = image[..., 0].size
    w = scipy.sparse.csr_matrix((n, n))
    for k, spread in zip(SETTINGS.neighbours, SETTINGS.distance_weights, strict=True):
        found = brute_force(knn_graph.features(image / 255.0, spread), k)
        one = scipy.sparse.csr_matrix((np.ones(n * k), found.ravel(), np.arange(0, n * k + 1, k)), (n, n))
        w = w + one + one.T
    return w


def direct(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    w = adjacency(image)
    d = np.asarray(w.sum(1)).ravel()
    planes = []
    for plane in trimap.reshape(len(trimap), -1):
        held = 100 * d * (plane != 128)
        system = (scipy.sparse.diags(d + held) - w).tocsc()
        planes.append(scipy.sparse.linalg.spsolve(system, held * (plane == 255)))
    return np.clip(planes, 0, 1).reshape(trimap.shape)


def test_the_graph_counts_both_directions_of_both_searches() -> None:
    image, trimap = coarse(13, 17, 5), np.full((1, 13, 17), 128, np.uint8)
    found, order, _ = knn_torch.neighbourhood([image], [trimap], SETTINGS, "cpu")
    n = 13 * 17
    assert found.places[0].tolist() == [*range(n), -1]
    w = adjacency(image)[order[0, :n].numpy()][:, order[0, :n].numpy()].toarray()
    assert np.array_equal(found.degree[0, :n, 0].numpy(), w.sum(1))
    assert torch.equal(found.inner[:, :n], found.degree[:, :n])
    assert np.array_equal(found.own[0, :n, 0].numpy(), w.diagonal())
    ours, _ = found.apply(torch.zeros((1, n + 1, n)), torch.eye(n + 1)[None, :, :n].contiguous())
    assert np.array_equal(-ours[0, :n].numpy(), w)


def test_pixels_without_a_row_are_known_as_their_neighbours_are() -> None:
    image, trimap = picture(30, 40), np.zeros((2, 30, 40), np.uint8)
    trimap[0, :, 20:], trimap[1, 5:9, 5:9], trimap[1, 9:12, 5:9] = 255, 128, 255
    found, order, planes = knn_torch.neighbourhood([image], [trimap], SETTINGS, "cpu")
    pixels, inside = order[0].numpy(), found.rank[0].numpy() >= 0
    code = trimap.reshape(2, -1).T[pixels[pixels < 1200]] @ [1, 1000]
    w = adjacency(image)[pixels[pixels < 1200]][:, pixels[pixels < 1200]].tocoo()
    unlike = np.zeros(1200, bool)
    unlike[w.row[code[w.row] != code[w.col]]] = True
    unknown = (planes[0, :1200] == 128).any(1).numpy()
    assert np.array_equal(inside[:1200], unlike | unknown) and not inside[1200:].any()
    assert 0.1 < inside[:1200].mean() < 0.9
    assert torch.equal(found.rows(planes)[0, :-1], planes[0][torch.from_numpy(inside)])
    assert torch.equal(found.fill(found.rows(planes), planes), planes)


@pytest.mark.parametrize(("height", "width", "seed"), [(36, 44, 0), (50, 31, 1), (1, 40, 2), (60, 1, 3)])
def test_alphas_equal_a_direct_solve(height: int, width: int, seed: int) -> None:
    image, trimap = picture(height, width, seed), blobs(3, height, width, seed)
    alpha = Knn(backend="torch").open(None)(image, trimap)
    check_alpha(alpha, trimap, "torch")
    assert np.abs(alpha - direct(image, trimap)).max() < CLOSE


@pytest.mark.parametrize("image", [np.full((20, 24, 3), 120, np.uint8), coarse(20, 24, 0)], ids=["flat", "ties"])
def test_flat_images_and_ties(image: np.ndarray) -> None:
    trimap = np.full((1, 20, 24), 128, np.uint8)
    trimap[0, :4], trimap[0, -4:] = 0, 255
    assert np.abs(Knn(backend="torch").open(None)(image, trimap) - direct(image, trimap)).max() < CLOSE


def test_a_batch_equals_its_images_and_classes_one_by_one() -> None:
    """Within what sums of another length round: images of one batch have as many places as the largest."""
    shapes, classes = [(36, 44), (20, 20), (61, 33), (36, 44)], (1, 3, 2, 4)
    images = [picture(*shape, seed) for seed, shape in enumerate(shapes)]
    trimaps = [blobs(k, *shape, seed) for seed, (shape, k) in enumerate(zip(shapes, classes, strict=True))]
    together = knn_torch.mattes(images, trimaps, SETTINGS, "cpu")
    for image, trimap, alpha in zip(images, trimaps, together, strict=True):
        assert not isinstance(alpha, MattingFailed)
        for plane, one in zip(trimap, alpha, strict=True):
            (alone,) = knn_torch.mattes([image], [plane[None]], SETTINGS, "cpu")
            assert np.abs(alone[0] - one).max() < 1e-5
    again = knn_torch.mattes(images, trimaps, SETTINGS, "cpu")
    assert all(a.tobytes() == b.tobytes() for a, b in zip(together, again, strict=True))


def test_large_batches_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    images, trimaps = [picture(20, 20, s) for s in range(5)], [blobs(1, 20, 20, s) for s in range(5)]
    expected = knn_torch.mattes(images, trimaps, SETTINGS, "cpu")
    monkeypatch.setattr(knn_torch, "PLACES", 2 * 512)
    phases: list[str] = []
    found = knn_torch.mattes(images, trimaps, SETTINGS, "cpu", lambda phase, result: phases.append(phase))
    assert phases == ["trees", "search", "graph", "solve"] * 3
    assert all(np.abs(a - b).max() < 1e-6 for a, b in zip(found, expected, strict=True))


def test_degenerate_trimaps() -> None:
    image, trimap = picture(36, 44), np.zeros((3, 36, 44), np.uint8)
    trimap[:, :18] = 255
    trimap[1, 20, 20] = 128
    trimap[2, 18] = 128
    alpha = Knn(backend="torch").open(None)(image, trimap)
    assert np.array_equal(alpha[0], trimap[0] / 255)
    assert np.abs(alpha[1:] - direct(image, trimap[1:])).max() < CLOSE
    assert Knn(backend="torch").open(None)(image, trimap[:0]).shape == (0, 36, 44)


def test_unknown_pixels_that_no_known_one_reaches_stay_background() -> None:
    image = np.zeros((12, 30, 3), np.uint8)
    image[:, 15:] = 255
    trimap = np.full((1, 12, 30), 128, np.uint8)
    trimap[0, :6, :15], trimap[0, 6:8, :15] = 255, 0
    alpha = Knn(neighbours=(5,), distance_weights=(0.1,), backend="torch").open(None)(image, trimap)
    assert (alpha[0, :, 15:] == 0).all()


def test_an_image_that_fails_leaves_the_others_alone() -> None:
    images = [picture(36, 44), picture(3, 3), picture(36, 44), picture(36, 44)]
    trimaps = [
        blobs(1, 36, 44),
        np.full((1, 3, 3), 128, np.uint8),
        np.full((1, 36, 44), 128, np.uint8),
        blobs(2, 36, 44),
    ]
    trimaps[1].flat[:2] = 0, 255
    trimaps[2][0, :3] = 255
    trimaps[3][:] = 0
    trimaps[3][:, 30:], trimaps[3][:, 20, 20] = 255, 128
    good, small, lacking, easy = knn_torch.mattes(images, trimaps, SETTINGS, "cpu")
    assert np.abs(good - direct(images[0], trimaps[0])).max() < CLOSE
    assert "at least 20 pixels for knn matting" in str(small) and "got 3 x 3" in str(small)
    assert "no background" in str(lacking)
    hard, *_, easy = knn_torch.mattes(images, trimaps, knn_torch.Settings(maxiter=6), "cpu")
    assert isinstance(hard, MattingFailed) and not isinstance(easy, MattingFailed)


def test_too_few_iterations_are_a_failed_matting() -> None:
    with pytest.raises(MattingFailed, match=r"knn matting to solve the trimap\n.*within 1 iterations\n.*maxiter"):
        Knn(backend="torch", maxiter=1).open(None)(picture(36, 44), blobs(1, 36, 44))


def test_a_residual_that_is_no_number_is_a_failure() -> None:
    image, trimap = picture(36, 44), blobs(2, 36, 44)
    found, _, planes = knn_torch.neighbourhood([image], [trimap], SETTINGS, "cpu")
    system = knn_torch.systems(found, planes, SETTINGS)
    system.target[0, 0, 1] = torch.nan
    steps = knn_torch.solve.conjugate_gradients(found, system, 100).steps[0].numpy()
    assert steps[0] > 0 and knn_torch.trouble(steps[:1], 100) is None
    assert knn_torch.trouble(steps, 100) == "conjugate gradients diverged"


def test_a_kernel_that_does_not_run_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("walk", "multiply"):
        monkeypatch.setitem(sys.modules, f"matlabel_mattings.knn_torch.{name}", None)
        monkeypatch.delattr(knn_torch, name, raising=False)
    device = torch.device("cpu")
    for reason in (search.trouble(device, 5), graph.trouble(device)):
        assert str(reason).startswith("does not run (ModuleNotFoundError: import of matlabel_mattings.knn_torch.")
    assert search.engine(device, 5) == graph.engine(device) == "torch"


def test_the_device_counts_for_this_backend_alone() -> None:
    assert Knn(device="cuda").runs_on == "cpu"
    assert Knn(backend="torch", device="cuda").runs_on == "cuda"
    with pytest.raises(UsageError, match=r"kernel=binary with knn.backend=torch\n.*soft"):
        Knn(kernel="soft", backend="torch")


def test_alphas_of_a_photograph_are_the_native_ones_but_for_ties(real_data: Path) -> None:
    image = read_image(sorted((real_data / "voc12-animals/VOC2012/JPEGImages").iterdir())[0])[:120, :120]
    trimap = blobs(2, 120, 120)
    native, ours = (Knn(backend=backend).open(None)(image, trimap) for backend in ("native", "torch"))
    assert np.abs(native - ours).max() < 0.03
    assert np.abs(native - ours).mean() < 5e-4
    assert ((native >= 0.5) != (ours >= 0.5)).mean() < 1e-3
