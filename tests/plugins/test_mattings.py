"""The four mattings equal PyMatting called by hand, and fail in one way only."""

from __future__ import annotations

import builtins
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matlabel_bench import registry
from matlabel_bench.contracts import check_alpha
from matlabel_bench.errors import BenchError, ContractError, MattingFailed, UsageError
from matlabel_bench.trimap import TrimapRule, make_trimap
from matlabel_mattings import through_pymatting
from matlabel_mattings.closed_form import ClosedForm
from matlabel_mattings.knn import Knn
from matlabel_mattings.lbdm import Lbdm
from matlabel_mattings.random_walk import RandomWalk

CLASSES: dict[str, Any] = {"knn": Knn, "closed_form": ClosedForm, "lbdm": Lbdm, "random_walk": RandomWalk}


METHODS: dict[str, Any] = {name: partial(cls, backend="pymatting") for name, cls in CLASSES.items()}
"""Solved by PyMatting; the default solvers have tests of their own."""
BY_HAND = {"knn": "knn", "closed_form": "cf", "lbdm": "lbdm", "random_walk": "rw"}
every = pytest.mark.parametrize("name", METHODS)


def scene(height: int = 36, width: int = 44) -> np.ndarray:
    """Two coloured discs on a gradient, with noise."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width]
    image = np.stack([60 + 2 * x, 90 + y, 140 - x], axis=2).astype(float)
    image[(y - 14) ** 2 + (x - 13) ** 2 < 64] = (210, 40, 40)
    image[(y - 22) ** 2 + (x - 31) ** 2 < 49] = (40, 60, 220)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def trimaps(height: int = 36, width: int = 44) -> np.ndarray:
    """Blurred peaks on both discs, cut as the paper cuts its maps."""
    y, x = np.mgrid[:height, :width]
    peaks = [np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 120) for cy, cx in ((14, 13), (22, 31))]
    return make_trimap(np.stack(peaks).astype(np.float32), TrimapRule())[0]


def by_hand(name: str, image: np.ndarray, trimap: np.ndarray, **kwargs: Any) -> np.ndarray:
    import pymatting

    solve = getattr(pymatting, f"estimate_alpha_{BY_HAND[name]}")
    return np.stack([solve(image / 255.0, plane / 255.0, **kwargs) for plane in trimap]).astype(np.float32)


def flat(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 120, np.uint8)


def ends(height: int, width: int) -> np.ndarray:
    """Background in the first pixel, foreground in the last."""
    trimap = np.full((1, height, width), 128, np.uint8)
    trimap.flat[0], trimap.flat[-1] = 0, 255
    return trimap


@every
def test_alphas_equal_pymatting_called_by_hand(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    image, trimap = scene(), trimaps()
    live = METHODS[name]().open(None)
    capfd.readouterr()  # the first import on a machine says that it compiles
    alpha = live(image, trimap)
    check_alpha(alpha, trimap, name)
    assert capfd.readouterr() == ("", "")  # retries of the factorisation are not the user's concern
    expected = by_hand(name, image, trimap)
    target = (trimap == 255).astype(np.float32)
    held = (trimap != 128) & (np.abs(expected - target) > 0.01)
    assert np.array_equal(alpha, np.where(held, target, expected))
    assert held.mean() < 0.01
    if name in ("knn", "closed_form"):
        assert not held.any()
    assert 0.05 < alpha[trimap == 128].mean() < 0.95


@every
def test_classes_that_share_a_laplacian_equal_classes_alone(name: str) -> None:
    image, trimap = scene(), trimaps()
    solve = METHODS[name]().open(None)
    together = solve(image, trimap)
    assert np.array_equal(together, np.concatenate([solve(image, plane[None]) for plane in trimap]))
    assert np.array_equal(together[::-1], solve(image, trimap[::-1]))


@pytest.mark.parametrize(
    ("part", "kwargs"),
    [
        (
            METHODS["knn"](neighbours=(9,), distance_weights=(1.0,), kernel="soft"),
            {"laplacian_kwargs": {"n_neighbors": [9], "distance_weights": [1.0], "kernel": "soft"}},
        ),
        (METHODS["closed_form"](epsilon=1e-5, radius=2), {"laplacian_kwargs": {"epsilon": 1e-5, "radius": 2}}),
        (
            METHODS["lbdm"](epsilon=1e-5, rtol=1e-9),
            {"laplacian_kwargs": {"epsilon": 1e-5}, "cg_kwargs": {"rtol": 1e-9}},
        ),
        (
            METHODS["random_walk"](radius=2, regularization=1e-6),
            {"laplacian_kwargs": {"radius": 2, "regularization": 1e-6}},
        ),
    ],
    ids=METHODS,
)
def test_fields_reach_pymatting(part: Any, kwargs: dict[str, Any]) -> None:
    name = next(n for n, cls in CLASSES.items() if cls is type(part))
    image, trimap = scene(), trimaps()[:1]
    unknown = trimap == 128
    alpha, expected = part.open(None)(image, trimap), by_hand(name, image, trimap, **kwargs)
    assert np.array_equal(alpha[unknown], expected[unknown])
    assert not np.array_equal(alpha[unknown], by_hand(name, image, trimap)[unknown])


@pytest.mark.parametrize(
    "part",
    [
        cls(constraint=constraint, backend=backend)
        for cls, constraint in ((Knn, 5.0), (Lbdm, 1.0), (RandomWalk, 5.0))
        for backend in ("native", "pymatting")
    ],
)
def test_known_pixels_keep_to_the_contract_where_the_constraint_is_too_soft(part: Any) -> None:
    image, trimap = scene(), trimaps()
    check_alpha(part.open(None)(image, trimap), trimap, "a soft constraint")


def test_the_laplacian_is_built_once_an_image_and_only_where_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    pm = through_pymatting.load()
    built = []
    real = pm.knn_laplacian
    monkeypatch.setattr(pm, "knn_laplacian", lambda *a: built.append(1) or real(*a))
    solve = METHODS["knn"]().open(None)
    solve(scene(), trimaps())
    assert len(built) == 1
    solve(scene(), np.where(trimaps() == 255, 255, 0).astype(np.uint8))
    assert len(built) == 1


@every
def test_without_unknown_pixels_the_trimap_is_the_alpha(name: str) -> None:
    trimap = np.zeros((3, 5, 6), np.uint8)
    trimap[1], trimap[2, 2:4] = 255, 255
    alpha = METHODS[name]().open(None)(scene(5, 6), trimap)
    assert (alpha.dtype, np.array_equal(alpha, trimap / 255)) == (np.dtype(np.float32), True)


@every
def test_no_class_gives_an_empty_alpha(name: str) -> None:
    alpha = METHODS[name]().open(None)(scene(), np.zeros((0, 36, 44), np.uint8))
    assert (alpha.shape, alpha.dtype) == ((0, 36, 44), np.dtype(np.float32))


@every
def test_a_single_unknown_pixel_and_an_unknown_row(name: str) -> None:
    trimap = np.zeros((2, 36, 44), np.uint8)
    trimap[:, :18] = 255
    trimap[0, 20, 20] = 128
    trimap[1, 18] = 128
    alpha = METHODS[name]().open(None)(scene(), trimap)
    check_alpha(alpha, trimap, name)
    assert alpha[0, 0, 0] > 0.99
    assert alpha[1, -1, -1] < 0.01


@every
@pytest.mark.parametrize("image", [flat(20, 24), np.repeat(scene(20, 24)[:, :, :1], 3, axis=2)], ids=["flat", "grey"])
def test_flat_and_grey_images(name: str, image: np.ndarray) -> None:
    trimap = np.full((1, 20, 24), 128, np.uint8)
    trimap[0, :4], trimap[0, -4:] = 0, 255
    alpha = METHODS[name]().open(None)(image, trimap)
    check_alpha(alpha, trimap, name)
    assert alpha[0, 15].mean() > alpha[0, 5].mean()


@every
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 2), (3, 3), (1, 40), (40, 1), (2, 40)])
def test_tiny_and_thin_images_are_solved_or_refused(name: str, height: int, width: int) -> None:
    image, trimap = scene(height, width), ends(height, width)
    try:
        check_alpha(METHODS[name]().open(None)(image, trimap), trimap, name)
    except MattingFailed as err:
        assert name in str(err) or "no unknown" in str(err)


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("knn", (3, 3), r"at least 20 pixels for knn matting\n.*got 3 x 3"),
        ("closed_form", (2, 40), r"at least 3 x 3 for closed_form matting\n.*got 2 x 40"),
        ("lbdm", (40, 1), r"at least 3 x 3 for lbdm matting\n.*got 40 x 1\n.*smaller radius"),
    ],
)
def test_images_too_small_for_a_method(name: str, size: tuple[int, int], words: str) -> None:
    with pytest.raises(MattingFailed, match=words):
        METHODS[name]().open(None)(scene(*size), ends(*size))


@every
@pytest.mark.parametrize(
    ("value", "lack"), [(0, "no foreground"), (255, "no background"), (128, "no foreground and no background")]
)
def test_a_trimap_without_one_kind_is_refused(name: str, value: int, lack: str) -> None:
    trimap = np.full((1, 36, 44), value, np.uint8)
    trimap[0, 3, 3] = 128
    with pytest.raises(MattingFailed, match=rf"foreground and background\n.*got {lack}\n.*make_trimap"):
        METHODS[name]().open(None)(scene(), trimap)


@every
def test_too_few_iterations_are_a_failed_matting(name: str) -> None:
    with pytest.raises(MattingFailed, match=rf"{name} matting to solve the trimap\n.*within 1 iterations\n.*maxiter"):
        METHODS[name](maxiter=1).open(None)(scene(), trimaps())


def test_a_diverged_solve_ends_at_once() -> None:
    import scipy.sparse

    steps: list[int] = []

    def laplacian(image: np.ndarray) -> Any:
        return scipy.sparse.identity(image[:, :, 0].size, format="csr") * np.nan

    def counting(system: Any) -> Any:
        return lambda x: steps.append(1) or x

    prepare = through_pymatting.shared_system(laplacian, counting, 100.0, {"maxiter": 10**6})
    with pytest.raises(MattingFailed, match="conjugate gradients diverged"):
        through_pymatting.live(through_pymatting.Method("broken", prepare))(scene(), trimaps())
    assert len(steps) == 1


def test_closed_form_where_no_unknown_pixel_is_near_the_foreground() -> None:
    trimap = np.zeros((1, 36, 44), np.uint8)
    trimap[0, :5], trimap[0, 30:, 5:9] = 255, 128
    alpha = METHODS["closed_form"]().open(None)(scene(), trimap)
    assert np.array_equal(alpha, (trimap == 255).astype(np.float32))


def test_memory_that_ran_out_is_no_failed_matting() -> None:
    def prepare(image: np.ndarray) -> Any:
        raise MemoryError

    with pytest.raises(BenchError, match=r"memory for greedy matting of 36 x 44 pixels\n(.|\n)*--workers") as caught:
        through_pymatting.live(through_pymatting.Method("greedy", prepare))(scene(), trimaps())
    assert not isinstance(caught.value, MattingFailed)


@pytest.mark.parametrize("image", [scene(10, 10), scene()[:, :, 0], scene() / 255.0], ids=["size", "grey", "float"])
def test_an_image_that_does_not_fit_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ContractError, match="uint8 h w 3 and a trimap k h w of the same size"):
        Knn().open(None)(image, trimaps())


def test_neighbours_and_weights_come_in_pairs() -> None:
    with pytest.raises(UsageError, match=r"of one length, at least 1\n.*\(20, 10\) and \(1\.0,\)"):
        Knn(distance_weights=(1.0,))


def test_fields_from_a_command_line_and_near_misses() -> None:
    parts, _ = registry.start()
    assert parts.make("matting", "knn", neighbours="15,5") == Knn(neighbours=(15, 5))
    with pytest.raises(UsageError, match="did you mean 'neighbours'"):
        parts.make("matting", "knn", neighbors="15,5")
    with pytest.raises(UsageError, match="known: native, pymatting"):
        parts.make("matting", "lbdm", backend="nativ")
    assert {n: parts.get("matting", n).cls for n in CLASSES} == CLASSES


def test_a_missing_pymatting_names_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymatting", None)
    with pytest.raises(UsageError, match=r"pymatting 1\.1 to be installed\n(.|\n)*pip install"):
        through_pymatting.load.__wrapped__()


def slow_import(monkeypatch: pytest.MonkeyPatch, seconds: float, error: Exception | None = None) -> None:
    real = builtins.__import__

    def wait(name: str, *args: Any) -> Any:
        if name == "pymatting":
            time.sleep(seconds)
            if error:
                raise error
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", wait)


def test_a_long_first_import_says_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    through_pymatting.load()
    slow_import(monkeypatch, 0.4)
    through_pymatting.load.__wrapped__()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(through_pymatting, "PATIENCE", 0.02)
    through_pymatting.load.__wrapped__()
    assert capsys.readouterr() == ("", "compiling pymatting, once, up to a minute\n")


def test_nowhere_to_keep_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    slow_import(monkeypatch, 0, RuntimeError("cannot cache function: no locator available"))
    with pytest.raises(UsageError, match=r"no locator available\n.*NUMBA_CACHE_DIR"):
        through_pymatting.load.__wrapped__()


def shared_data() -> Path:
    return Path(os.environ.get("MATLABEL_BENCH_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


@every
def test_a_real_photograph(name: str) -> None:
    from PIL import Image

    folder = shared_data() / "matting" / "lemur"
    if not folder.is_dir():
        pytest.skip(f"needs PyMatting's lemur in {folder}; set MATLABEL_BENCH_DATA")
    paths = [next(folder.glob(f"{stem}.*")) for stem in ("lemur", "lemur_trimap", "lemur_alpha")]
    with Image.open(paths[0]) as a, Image.open(paths[1]) as b, Image.open(paths[2]) as c:
        size = (a.width // 4, a.height // 4)
        image = np.asarray(a.convert("RGB").resize(size, Image.Resampling.BOX))
        raw = np.asarray(b.convert("L").resize(size, Image.Resampling.NEAREST))
        truth = np.asarray(c.convert("L").resize(size, Image.Resampling.BOX)) / 255
    trimap = np.where(raw >= 230, 255, np.where(raw <= 25, 0, 128)).astype(np.uint8)[None]
    alpha = METHODS[name]().open(None)(image, trimap)
    check_alpha(alpha, trimap, name)
    unknown = trimap[0] == 128
    assert np.abs(alpha[0] - truth)[unknown].mean() < 0.15
    assert np.array_equal(alpha[0][unknown], by_hand(name, image, trimap)[0][unknown])
