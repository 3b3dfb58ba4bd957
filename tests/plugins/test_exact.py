"""What `bench perf` holds mattings against: their own systems solved tightly, and PyMatting called class by class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
from test_knn_native import blobs, picture

from matlabel_mattings import through_pymatting
from matlabel_mattings.closed_form import ClosedForm
from matlabel_mattings.exact import dissected
from matlabel_mattings.knn import Knn
from matlabel_mattings.lbdm import Lbdm
from matlabel_mattings.random_walk import RandomWalk


@pytest.mark.parametrize(
    ("part", "laplacian"), [(Knn(), "knn"), (Lbdm(), "lbdm"), (RandomWalk(), "rw")], ids=["knn", "lbdm", "random_walk"]
)
def test_held_pixels(part: Any, laplacian: str) -> None:
    """All of the system, by an elimination in another order."""
    pm = through_pymatting.load()
    image, trimap = picture(41, 58), blobs(2, 41, 58)
    matrix = getattr(pm, f"{laplacian}_laplacian")(image / 255.0)
    wanted = []
    for plane in trimap:
        system, target = pm.make_linear_system(matrix, plane / 255.0)
        wanted.append(np.clip(scipy.sparse.linalg.spsolve(system.tocsc(), target), 0, 1).reshape(plane.shape))
    exact = part.exact(image, trimap)
    assert (exact.shape, exact.dtype) == (trimap.shape, np.float32)
    assert np.abs(exact - np.stack(wanted)).max() < 1e-7


def test_eliminated_pixels() -> None:
    pm = through_pymatting.load()
    image, trimap = picture(41, 58), blobs(1, 41, 58)
    unknown, x = (trimap[0] == 128).ravel(), (trimap[0] == 255).ravel().astype(float)
    rows = pm.cf_laplacian(image / 255.0).tocsr()[unknown]
    x[unknown] = scipy.sparse.linalg.spsolve(rows[:, unknown].tocsc(), -(rows @ x))
    assert np.abs(ClosedForm().exact(image, trimap)[0].ravel() - np.clip(x, 0, 1)).max() < 1e-7


def test_a_class_without_unknown_pixels_is_its_own_alpha() -> None:
    trimap = np.zeros((1, 12, 12), np.uint8)
    trimap[0, :6] = 255
    assert np.array_equal(RandomWalk().exact(picture(12, 12), trimap), trimap / np.float32(255))


@pytest.mark.parametrize("shape", [(1, 1), (3, 90), (37, 52)])
def test_an_order_of_dissection_has_every_pixel_once(shape: tuple[int, int]) -> None:
    order = dissected(np.arange(shape[0] * shape[1]).reshape(shape))
    assert np.array_equal(np.sort(order), np.arange(shape[0] * shape[1]))


def test_the_reference_of_a_matting_is_pymatting_class_by_class() -> None:
    image, trimap = picture(24, 30), blobs(2, 24, 30)
    reference = Lbdm().reference()
    assert reference is not None
    pm = through_pymatting.load()
    wanted = [pm.estimate_alpha_lbdm(image / 255.0, plane / 255.0) for plane in trimap]
    found = reference.open(None)(image, trimap)
    unknown = trimap == 128
    assert np.array_equal(found[unknown], np.stack(wanted).astype(np.float32)[unknown])
    assert Lbdm(backend="pymatting").reference() is None
