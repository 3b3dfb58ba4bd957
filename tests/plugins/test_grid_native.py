"""The native closed-form, learning based and random walk solvers equal a direct solve of PyMatting's own systems."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matlabel_bench.contracts import TRIMAP_ALLOWANCE, check_alpha
from matlabel_bench.errors import MattingFailed, UsageError
from matlabel_mattings import exact, grid_native, grid_stencils, grid_system, through_pymatting
from matlabel_mattings.closed_form import ClosedForm
from matlabel_mattings.dissection import dissect
from matlabel_mattings.lbdm import Lbdm
from matlabel_mattings.multifrontal import factorise
from matlabel_mattings.random_walk import RandomWalk

METHODS: dict[str, Any] = {"closed_form": ClosedForm, "lbdm": Lbdm, "random_walk": RandomWalk}
LAPLACIANS = {"closed_form": "cf", "lbdm": "lbdm", "random_walk": "rw"}
CLOSE = 1e-5
"""Largest difference of an alpha."""
every = pytest.mark.parametrize("name", METHODS)


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


def direct(name: str, image: np.ndarray, trimap: np.ndarray, constraint: float = 100.0, **kwargs: Any) -> np.ndarray:
    """PyMatting's matrix, solved by SuperLU; known pixels are the trimap's where the contract lets them be."""
    pm = through_pymatting.load()
    laplacian = getattr(pm, f"{LAPLACIANS[name]}_laplacian")(image / 255.0, **kwargs).tocsr()
    planes = []
    for plane in trimap:
        f, unknown = (plane == 255).astype(float), (plane == 128).ravel()
        if name == "closed_form":
            alpha = f.ravel().copy()
            rows = laplacian[unknown]
            alpha[unknown] = scipy.sparse.linalg.spsolve(
                rows[:, unknown].tocsc(), -(rows[:, ~unknown] @ alpha[~unknown])
            )
        else:
            system, target = pm.make_linear_system(laplacian, plane / 255.0, lambda_value=constraint)
            alpha = scipy.sparse.linalg.spsolve(system.tocsc(), target)
        alpha = np.clip(alpha, 0, 1).reshape(plane.shape)
        planes.append(np.where((plane != 128) & (np.abs(alpha - f) > TRIMAP_ALLOWANCE), f, alpha))
    return np.stack(planes)


def apart(name: str, image: np.ndarray, trimap: np.ndarray) -> float:
    alpha = METHODS[name]().open(None)(image, trimap)
    check_alpha(alpha, trimap, name)
    return float(np.abs(alpha - direct(name, image, trimap)).max())


@every
@pytest.mark.parametrize(("height", "width", "seed"), [(36, 44, 0), (50, 31, 1), (24, 24, 2), (60, 70, 3)])
def test_alphas_equal_a_direct_solve(name: str, height: int, width: int, seed: int) -> None:
    image, trimap = picture(height, width, seed), blobs(3, height, width, seed)
    assert apart(name, image, trimap) < CLOSE
    assert 0.05 < METHODS[name]().open(None)(image, trimap)[trimap == 128].mean() < 0.95


@pytest.mark.parametrize(
    ("part", "kwargs"),
    [
        (ClosedForm(epsilon=1e-4), {"epsilon": 1e-4}),
        (Lbdm(epsilon=1e-4), {"epsilon": 1e-4}),
        (Lbdm(constraint=2.0), {"constraint": 2.0}),
        (RandomWalk(regularization=1e-4), {"regularization": 1e-4}),
        (RandomWalk(constraint=2.0), {"constraint": 2.0}),
    ],
)
def test_fields_reach_the_solver(part: Any, kwargs: dict[str, Any]) -> None:
    name = next(n for n, cls in METHODS.items() if cls is type(part))
    image, trimap = picture(30, 40), blobs(1, 30, 40)
    alpha = part.open(None)(image, trimap)
    assert np.abs(alpha - direct(name, image, trimap, **kwargs)).max() < CLOSE
    assert np.abs(alpha - direct(name, image, trimap)).max() > 10 * CLOSE


@every
def test_one_class_equals_many_and_the_bytes_repeat(name: str) -> None:
    image, trimap = picture(40, 50), blobs(3, 40, 50)
    solve = METHODS[name]().open(None)
    together = solve(image, trimap)
    assert together.tobytes() == METHODS[name]().open(None)(image, trimap).tobytes()
    assert together.tobytes() == b"".join(solve(image, plane[None]).tobytes() for plane in trimap)


@every
@pytest.mark.parametrize(
    "image", [np.full((20, 24, 3), 120, np.uint8), picture(20, 24, grey=True)], ids=["flat", "grey"]
)
def test_flat_and_grey_images(name: str, image: np.ndarray) -> None:
    trimap = np.full((1, 20, 24), 128, np.uint8)
    trimap[0, :4], trimap[0, -4:] = 0, 255
    assert apart(name, image, trimap) < CLOSE


# Rounding alone makes PyMatting's closed-form matrix unsymmetric here, and its symmetric part gives alphas 1e-3 away.
# LBDM's matrix is singular but for rounding.
@pytest.mark.parametrize(("name", "near"), [("closed_form", 3e-3), ("random_walk", CLOSE)])
def test_areas_of_one_colour_each(name: str, near: float) -> None:
    image = np.zeros((60, 72, 3), np.uint8)
    image[:, :36], image[18:42, 18:54] = (255, 0, 0), (0, 0, 255)
    trimap = np.full((1, 60, 72), 128, np.uint8)
    trimap[0, :4], trimap[0, -4:] = 0, 255
    assert apart(name, image, trimap) < near


@every
@pytest.mark.parametrize(("height", "width"), [(3, 3), (3, 40), (40, 3), (5, 5), (1, 40), (40, 1), (2, 40), (1, 3)])
def test_thin_and_small_images(name: str, height: int, width: int) -> None:
    if min(height, width) < 3 and name != "random_walk":
        pytest.skip("refused: a window does not fit")
    image, trimap = picture(height, width), np.full((1, height, width), 128, np.uint8)
    trimap.flat[: height * width // 4 + 1], trimap.flat[-1] = 0, 255
    assert apart(name, image, trimap) < CLOSE


@every
def test_degenerate_trimaps(name: str) -> None:
    image, trimap = picture(36, 44), np.zeros((4, 36, 44), np.uint8)
    trimap[:, :18] = 255
    trimap[1, 20, 20] = 128
    trimap[2, 18] = 128
    trimap[3, 1:-1] = 128
    assert np.array_equal(METHODS[name]().open(None)(image, trimap[:1])[0], trimap[0] / 255)
    assert apart(name, image, trimap[1:]) < CLOSE


@every
def test_unknown_to_the_edges_but_for_two_pixels(name: str) -> None:
    image, trimap = picture(24, 30), np.full((1, 24, 30), 128, np.uint8)
    trimap[0, 5, 5], trimap[0, 18, 20] = 0, 255
    assert apart(name, image, trimap) < 10 * CLOSE


def test_closed_form_where_no_unknown_pixel_is_near_the_foreground() -> None:
    trimap = np.zeros((1, 36, 44), np.uint8)
    trimap[0, :5], trimap[0, 30:, 5:9] = 255, 128
    alpha = ClosedForm().open(None)(picture(36, 44), trimap)
    assert np.array_equal(alpha, (trimap == 255).astype(np.float32))


@every
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(3, 22), st.integers(3, 22), st.integers(0, 10**6), st.sampled_from([0.1, 0.5, 0.9]))
def test_any_trimap(name: str, height: int, width: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    draws = rng.random((height, width))
    trimap = np.where(draws < share, 128, np.where(rng.random((height, width)) < 0.5, 0, 255)).astype(np.uint8)[None]
    trimap[0, 0, 0], trimap[0, -1, -1] = 0, 255
    assert apart(name, image, trimap) < CLOSE


@pytest.mark.parametrize("reach", [1, 2])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("share", [0.2, 0.7, 1.0])
def test_the_factor_solves_any_grid(reach: int, kind: Any, share: float) -> None:
    rng = np.random.default_rng(reach)
    height, width = 37, 53
    inside = grid_stencils.around(rng.random((height, width)) < share, reach)
    steps = grid_stencils.steps(reach, inside.shape[1])
    planes = -rng.random((len(steps), inside.size))
    diagonal = np.full(inside.size, 2.0 * len(steps)) - planes[0]
    tree = dissect(inside, reach)
    n = len(tree.pixels)
    assert np.array_equal(np.sort(tree.pixels), np.flatnonzero(inside))
    matrix = np.diag((planes[0] + diagonal)[tree.pixels])
    for k in range(1, len(steps)):
        other = tree.places[tree.pixels + steps[k]]
        rows = np.flatnonzero(other >= 0)
        matrix[rows, other[rows]] = matrix[other[rows], rows] = planes[k, tree.pixels[rows]]
    factor = factorise(tree, planes, steps, diagonal, kind)
    assert factor is not None
    target = rng.random(n)
    found = factor.solve(target.astype(kind))
    assert np.abs(found - np.linalg.solve(matrix, target)).max() < 40 * np.finfo(kind).eps
    assert factorise(tree, planes, steps, diagonal - 3 * len(steps), kind) is None


@every
def test_the_matrix_is_pymattings(name: str) -> None:
    pm = through_pymatting.load()
    image = picture(20, 26) / 255.0
    expected = getattr(pm, f"{LAPLACIANS[name]}_laplacian")(image).toarray()
    if name == "random_walk":
        stencil, sums = grid_stencils.random_walk(image, 1e-8)
        expected *= sums[1:-1, 1:-1].reshape(-1, 1)
    else:
        make = grid_stencils.closed_form if name == "closed_form" else grid_stencils.learned
        stencil = make(image, 1e-7)
    numbers = grid_stencils.around(np.arange(1, 521).reshape(20, 26), stencil.reach).ravel()
    pixels = np.flatnonzero(numbers)
    found = np.zeros((521, 521))
    for step, plane in zip(stencil.steps, stencil.flat, strict=True):
        i, j = numbers[pixels], numbers[pixels + step]
        found[i, j] = found[j, i] = plane[pixels]
    assert np.abs(found[1:, 1:] - expected).max() < 1e-6


def test_black_and_white_where_pymattings_matrix_is_indefinite() -> None:
    image = 255 * np.repeat(np.random.default_rng(0).integers(0, 2, (16, 20, 1)), 3, axis=2).astype(np.uint8)
    trimap = np.full((1, 16, 20), 128, np.uint8)
    trimap[0, 6:9, 5:8], trimap[0, 6:9, 12:15] = 0, 255
    unknown, f = (trimap == 128).ravel(), (trimap == 255).ravel().astype(float)
    theirs = through_pymatting.load().cf_laplacian(image / 255.0).toarray()[np.ix_(unknown, unknown)]
    assert np.linalg.eigvalsh((theirs + theirs.T) / 2)[0] < -1e-3
    rows = exact.levin(image / 255.0, 1e-7, 1).toarray()[unknown]
    expected = f.copy()
    expected[unknown] = np.clip(np.linalg.solve(rows[:, unknown], -rows[:, ~unknown] @ f[~unknown]), 0, 1)
    for alpha in (ClosedForm().open(None)(image, trimap), ClosedForm().exact(image, trimap)):
        assert np.abs(alpha.ravel() - expected).max() < CLOSE


@pytest.mark.parametrize("radius", [1, 2])
def test_levins_matrix_by_singular_values_is_pymattings(radius: int) -> None:
    image = picture(20, 26) / 255.0
    theirs = through_pymatting.load().cf_laplacian(image, radius=radius)
    assert np.abs((exact.levin(image, 1e-7, radius) - theirs).toarray()).max() < 1e-6


def test_a_float32_factor_that_breaks_down_is_tried_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[Any] = []
    real = factorise

    def breaking(tree: Any, planes: Any, steps: Any, diagonal: Any, kind: Any) -> Any:
        kinds.append(kind)
        return None if kind == np.float32 else real(tree, planes, steps, diagonal, kind)

    monkeypatch.setattr(grid_system, "factorise", breaking)
    assert apart("lbdm", picture(30, 40), blobs(1, 30, 40)) < CLOSE
    assert kinds == [np.float32, np.float64]


@every
def test_what_cannot_be_solved_is_a_failed_matting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_system, "factorise", lambda *a: None)
    with pytest.raises(MattingFailed, match=rf"{name} matting to solve the trimap\n.*not positive definite\n.*maxiter"):
        METHODS[name]().open(None)(picture(36, 44), blobs(1, 36, 44))


@pytest.mark.parametrize("name", ["closed_form", "lbdm"])
def test_too_few_iterations_are_a_failed_matting(name: str) -> None:
    with pytest.raises(MattingFailed, match=rf"{name} matting to solve the trimap\n.*within 1 iterations\n.*maxiter"):
        METHODS[name](maxiter=1).open(None)(picture(36, 44), blobs(1, 36, 44))


@every
def test_larger_windows_are_pymattings_alone(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}.radius=1 with {name}.backend=native\n.*2\n.*backend=pymatting"):
        METHODS[name](radius=2)


def test_a_long_first_compilation_says_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Lbdm().open(None)
    capsys.readouterr()
    monkeypatch.setattr(grid_native, "warm", lambda name: time.sleep(0.2))
    monkeypatch.setattr(through_pymatting, "PATIENCE", 0.02)
    Lbdm().open(None)
    assert capsys.readouterr() == ("", "compiling lbdm matting, once, up to a minute\n")
