"""KNN matting with a prior: against a direct solve of PyMatting's Laplacian, and what maps it keeps."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from matlabel_bench.errors import ContractError, MattingFailed, UsageError
from matlabel_bench.types import Cams, Image
from matlabel_mattings import through_pymatting
from matlabel_mattings.prior_knn import LEAST, PriorKnn

PART = PriorKnn(neighbours=(6, 4), weight=0.01, rtol=1e-7)


def example(classes: int, seed: int = 0, size: tuple[int, int] = (17, 13)) -> tuple[Image, Cams]:
    """A noisy image of two halves and noisy maps that are high in the right one."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (*size, 3))
    image[:, size[1] // 2 :] += 150
    maps = rng.uniform(0, 0.6, (classes, *size)).astype(np.float32)
    maps[:, :, size[1] // 2 :] += 0.4
    return image.astype(np.uint8), maps / maps.max()


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_alphas_solve_the_system_of_the_header(classes: int) -> None:
    image, maps = example(classes)
    pm = through_pymatting.load()
    laplacian = pm.knn_laplacian(image / 255.0, [6, 4], [2.0, 0.1])
    shares = np.concatenate([np.full((1, 221), PART.level), maps.reshape(classes, -1)]) ** PART.sharp
    shares /= shares.sum(0)
    two = np.sort(shares, axis=0)[-2:]
    pull = PART.weight * np.maximum(two[1] - two[0], LEAST)
    system = (laplacian + scipy.sparse.diags(pull)).tocsc()
    want = [scipy.sparse.linalg.spsolve(system, pull * prior) for prior in shares]
    np.testing.assert_allclose(np.sum(want, axis=0), 1, atol=1e-9)
    got = PART.open(None)(image, maps)
    np.testing.assert_allclose(got.reshape(classes, -1), want[1:], atol=2e-4)
    assert got.dtype == np.float32 and got.sum(0).max() <= 1 + 1e-6
    assert np.abs(got - maps).max() > 0.1, "the example should move"


def test_a_heavy_prior_is_the_answer_and_a_light_one_follows_the_image() -> None:
    image, maps = example(1)
    heavy = PriorKnn(neighbours=(6, 4), weight=1e4).open(None)(image, maps)
    np.testing.assert_allclose(heavy, maps**2 / (maps**2 + 0.4**2), atol=5e-3)
    right = np.broadcast_to(np.arange(13) >= 6, (17, 13))
    light = PriorKnn(neighbours=(6, 4), weight=1e-3).open(None)(image, maps)[0]
    best = max(float(((maps[0] > t) == right).mean()) for t in np.linspace(0, 1, 101))
    assert ((light > 0.5) == right).mean() > 0.98 > best


def test_the_level_is_the_map_that_speaks_for_neither_side() -> None:
    """A map of that value has alpha one half everywhere, at any power and weight."""
    image, _ = example(1)
    for sharp, weight in ((1.0, 0.1), (4.0, 0.01)):
        part = PriorKnn(neighbours=(6, 4), level=0.3, sharp=sharp, weight=weight, rtol=1e-7)
        got = part.open(None)(image, np.full((1, 17, 13), 0.3, np.float32))
        np.testing.assert_allclose(got, 0.5, atol=1e-3)


def test_the_same_maps_give_the_same_bytes() -> None:
    image, maps = example(2)
    matte = PART.open(None)
    assert matte(image, maps).tobytes() == matte(image, maps).tobytes()


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (9, 9)])
def test_thin_and_flat_images(size: tuple[int, int]) -> None:
    _, maps = example(1, size=size)
    got = PART.open(None)(np.full((*size, 3), 128, np.uint8), maps)
    assert got.shape == maps.shape and np.isfinite(got).all() and 0 <= got.min() <= got.max() <= 1


def test_a_class_without_a_map_stays_at_zero() -> None:
    image, maps = example(2)
    maps[1] = 0
    got = PART.open(None)(image, maps)
    assert not got[1].any() and got[0].max() > 0.5
    np.testing.assert_allclose(got[:1], PART.open(None)(image, maps[:1]), atol=1e-3)


@pytest.mark.parametrize("size", [(17, 13), (1, 40), (33, 32)])
def test_torch_solves_the_same(size: tuple[int, int]) -> None:
    """But for ties among neighbours, of which a noisy image has few."""
    image, maps = example(2, 1, size)
    maps[1, : size[0] // 2] = 0
    fields = {"neighbours": (6, 4), "weight": 0.01, "rtol": 1e-7}
    native, ours = (PriorKnn(**fields, backend=backend).open(None)(image, maps) for backend in ("native", "torch"))
    np.testing.assert_allclose(ours, native, atol=2e-3)
    assert ours.dtype == np.float32
    maps[1] = 0
    assert not PriorKnn(**fields, backend="torch").open(None)(image, maps)[1].any()
    with pytest.raises(MattingFailed, match=r"(?s)prior_knn to solve the image.*within 1 iterations.*maxiter"):
        PriorKnn(neighbours=(6, 4), weight=1e-5, rtol=1e-9, maxiter=1, backend="torch").open(None)(image, maps)
    assert PriorKnn(device="cuda").runs_on == "cpu"
    assert PriorKnn(device="cuda", backend="torch").runs_on == "cuda"


def test_bad_input_is_told() -> None:
    image, maps = example(2)
    matte = PART.open(None)
    assert matte(image, maps[:0]).shape == (0, 17, 13)
    with pytest.raises(ContractError, match=r"(?s)maps of k x 17 x 13.*2 x 16 x 13"):
        matte(image, maps[:, 1:])
    with pytest.raises(UsageError, match=r"(?s)of one length.*\(20,\) and \(2\.0, 0\.1\)"):
        PriorKnn(neighbours=(20,))
    with pytest.raises(MattingFailed, match=r"(?s)at least 6 pixels.*5"):
        matte(np.zeros((1, 5, 3), np.uint8), np.zeros((1, 1, 5), np.float32))
    with pytest.raises(MattingFailed, match=r"(?s)prior_knn to solve the image.*within 1 iterations.*maxiter"):
        PriorKnn(neighbours=(6, 4), weight=1e-5, rtol=1e-9, maxiter=1).open(None)(image, maps)
