"""KNN matting with a prior: against a direct solve of PyMatting's Laplacian, and what scores it keeps."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from matlabel_bench.errors import BenchError, ContractError, UsageError
from matlabel_bench.types import Image, Scores
from matlabel_mattings import through_pymatting
from matlabel_refiners.prior_knn import LEAST, PriorKnn

PART = PriorKnn(neighbours=(6, 4), weight=0.01, rtol=1e-7)


def example(labels: int, seed: int = 0, size: tuple[int, int] = (17, 13)) -> tuple[Image, Scores]:
    """A noisy image of two halves and scores that lean to a label in each."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (*size, 3))
    image[:, size[1] // 2 :] += 150
    scores = rng.uniform(0.2, 1, (labels, *size)).astype(np.float32)
    scores[0, :, : size[1] // 2] += 0.4
    scores[1:, :, size[1] // 2 :] += 0.4
    return image.astype(np.uint8), scores / scores.sum(0)


@pytest.mark.parametrize("labels", [2, 3, 4])
def test_alphas_solve_the_system_of_the_header(labels: int) -> None:
    image, scores = example(labels)
    pm = through_pymatting.load()
    laplacian = pm.knn_laplacian(image / 255.0, [6, 4], [2.0, 0.1])
    powers = scores.reshape(labels, -1).astype(np.float64) ** PART.sharp
    priors = powers / powers.sum(0)
    two = np.sort(priors, axis=0)[-2:]
    pull = PART.weight * np.maximum(two[1] - two[0], LEAST)
    want = [
        scipy.sparse.linalg.spsolve((laplacian + scipy.sparse.diags(pull)).tocsc(), pull * prior) for prior in priors
    ]
    got = PART.open(None)(image, np.arange(1, labels, dtype=np.uint8), scores)
    np.testing.assert_allclose(got.reshape(labels, -1), want, atol=2e-4)
    np.testing.assert_allclose(got.sum(0), 1, atol=1e-6)
    assert np.abs(got - scores).max() > 0.1, "the example should move"


def test_a_heavy_prior_keeps_the_decision_and_a_light_one_follows_the_image() -> None:
    image, scores = example(2)
    tags = np.array([4], np.uint8)
    heavy = PriorKnn(neighbours=(6, 4), weight=1e4, sharp=1.0).open(None)(image, tags, scores)
    np.testing.assert_allclose(heavy, scores, atol=5e-3)
    light = PriorKnn(neighbours=(6, 4), weight=1e-3).open(None)(image, tags, scores).argmax(0)
    right = np.broadcast_to(np.arange(13) >= 6, (17, 13))
    assert (light == right).mean() > 0.98 > (scores.argmax(0) == right).mean()


def test_the_same_scores_give_the_same_bytes() -> None:
    image, scores = example(3)
    refine = PART.open(None)
    tags = np.array([2, 5], np.uint8)
    assert refine(image, tags, scores).tobytes() == refine(image, tags, scores).tobytes()


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (9, 9)])
def test_thin_and_flat_images(size: tuple[int, int]) -> None:
    _, scores = example(2, size=size)
    got = PART.open(None)(np.full((*size, 3), 128, np.uint8), np.array([1], np.uint8), scores)
    assert got.shape == scores.shape and np.isfinite(got).all() and got.min() >= 0
    np.testing.assert_allclose(got.sum(0), 1, atol=1e-6)


def test_a_label_that_no_pixel_leans_to_stays_at_zero() -> None:
    image, scores = example(3)
    scores[2] = 0
    got = PART.open(None)(image, np.array([1, 2], np.uint8), scores / scores.sum(0))
    assert not got[2].any() and got[1].max() > 0.5
    np.testing.assert_allclose(got.sum(0), 1, atol=1e-6)


def test_without_tags_and_with_too_few_pixels_scores_are_kept() -> None:
    refine = PART.open(None)
    alone = np.ones((1, 5, 5), np.float32)
    assert refine(np.zeros((5, 5, 3), np.uint8), np.array([], np.uint8), alone) is alone
    few = np.full((2, 1, 4), 0.5, np.float32)
    assert refine(np.zeros((1, 4, 3), np.uint8), np.array([1], np.uint8), few) is few


def test_bad_input_is_told() -> None:
    image, scores = example(2)
    with pytest.raises(ContractError, match=r"(?s)scores of 3 planes, 17 x 13.*2 x 17 x 13"):
        PART.open(None)(image, np.array([1, 2], np.uint8), scores)
    with pytest.raises(UsageError, match=r"(?s)of one length.*\(20,\) and \(2\.0, 0\.1\)"):
        PriorKnn(neighbours=(20,))
    with pytest.raises(BenchError, match=r"(?s)prior_knn to solve the image.*within 1 iterations.*maxiter"):
        PriorKnn(neighbours=(6, 4), weight=1e-5, rtol=1e-9, maxiter=1).open(None)(
            image, np.array([1], np.uint8), scores
        )
