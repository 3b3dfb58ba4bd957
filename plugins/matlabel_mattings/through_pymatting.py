"""The one place that calls PyMatting (Germer et al., JOSS 2020; MIT; behaviour compared with version 1.1.16).

What it adds to `estimate_alpha_*`, without moving an alpha by a bit where a class is solved:

- an image's Laplacian, where it does not depend on the trimap, is built once for all classes;
- a class without unknown pixels is its own alpha, and nothing is solved;
- every way to fail (an exception of the solver, no convergence, a value that is not finite) becomes MattingFailed, and
  a diverged solve ends at once instead of after the last iteration;
- PyMatting holds known pixels softly; those that end farther from the trimap than the contract allows are written back;
- its notes on stdout (retries of the incomplete Cholesky factorisation) are kept off, as stdout may be read as JSON.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float64

from matlabel_bench.contracts import TRIMAP_ALLOWANCE, check_inputs
from matlabel_bench.errors import BenchError, MattingFailed, UsageError
from matlabel_bench.types import BACKGROUND, FOREGROUND, UNKNOWN, Alpha, Image, Trimap

Colours = Float64[np.ndarray, "h w 3"]
"""[0, 1], as PyMatting's own reader delivers them."""
Plane = Float64[np.ndarray, "h w"]
"""A trimap or an alpha, [0, 1]."""
Solve = Callable[[Plane], Plane]

PATIENCE = 3.0
"""Seconds an import may take before the user is told why; a compiled PyMatting needs less than one."""


@lru_cache(maxsize=1)
def load() -> ModuleType:
    """PyMatting. Its first import on a machine compiles for up to a minute, which is said on stderr once it shows.

    Raises:
        UsageError: it is not installed, or has no folder to keep what it compiles.
    """
    with compiling("pymatting"):
        try:
            import pymatting
        except ImportError as err:
            raise UsageError(
                "pymatting 1.1 to be installed", str(err), "run: pip install 'pymatting>=1.1.16,<1.2'"
            ) from err
    return pymatting  # type: ignore[no-any-return]


@contextlib.contextmanager
def compiling(what: str) -> Iterator[None]:
    """Say on stderr that `what` compiles where that takes longer than `PATIENCE`.

    Raises:
        UsageError: there is no folder to keep what was compiled.
    """
    note = f"compiling {what}, once, up to a minute"
    timer = threading.Timer(PATIENCE, lambda: print(note, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    except RuntimeError as err:  # numba: "cannot cache function ...: no locator available"
        remedy = "set NUMBA_CACHE_DIR to a folder you may write to"
        raise UsageError(f"a folder where {what} may keep what it compiles", str(err), remedy) from err
    finally:
        timer.cancel()


@dataclass(frozen=True, slots=True)
class Method:
    """How one method solves: `prepare(image)` does what all classes share and returns the solver of one trimap."""

    name: str
    prepare: Callable[[Colours], Solve]
    pixels: int = 1
    """Fewest pixels an image may have."""
    side: int = 1
    """Fewest rows and columns an image may have: a window that does not fit leaves pixels without any neighbour."""


def shared_system(
    laplacian: Callable[[Colours], Any], preconditioner: Callable[[Any], Any], constraint: float, cg: dict[str, Any]
) -> Callable[[Colours], Solve]:
    """The steps of PyMatting's estimate_alpha_knn, _lbdm and _rw, with the Laplacian taken out of the class loop."""
    pm = load()

    def prepare(image: Colours) -> Solve:
        matrix = laplacian(image)

        def solve(trimap: Plane) -> Plane:
            system, target = pm.make_linear_system(matrix, trimap, lambda_value=constraint)
            solution = pm.cg(system, target, M=preconditioner(system), callback=stop_if_diverged, **cg)
            alpha: Plane = np.clip(solution, 0, 1).reshape(trimap.shape)
            return alpha

        return solve

    return prepare


def stop_if_diverged(system: Any, x: Any, target: Any, norm_target: float, residual: Any, norm: float) -> None:
    """Callback of PyMatting's conjugate gradients. Raises ValueError where the residual is no longer a number."""
    if not np.isfinite(norm):
        raise ValueError("conjugate gradients diverged")


def live(method: Method) -> Callable[[Image, Trimap], Alpha]:
    """The function a matting's `open` returns.

    It takes an RGB image and a trimap of k planes and returns float32 k h w in [0, 1]. It raises MattingFailed where
    a class cannot be solved, ContractError where image and trimap are not of one size, and BenchError where memory
    ran out: that must not turn into another result on a smaller machine.
    """

    def matte(image: Image, trimap: Trimap) -> Alpha:
        check_inputs(image, trimap)
        alpha = np.empty(trimap.shape, np.float32)
        solve: Solve | None = None
        for index, plane in enumerate(trimap):
            if not (plane == UNKNOWN).any():
                alpha[index] = plane == FOREGROUND
                continue
            with _failures(method, plane):
                solvable(plane, method.name, method.pixels, method.side)
                solve = solve or method.prepare(image / 255.0)
                alpha[index] = solve(plane / 255.0)
                if not np.isfinite(alpha[index]).all():
                    raise ValueError("the solution is not finite")
        return hold_known(alpha, trimap)

    return matte


@contextlib.contextmanager
def _failures(method: Method, plane: np.ndarray) -> Iterator[None]:
    """Turn what a solver raises into MattingFailed; keep its warnings and notes to itself."""
    try:
        with np.errstate(all="ignore"), contextlib.redirect_stdout(io.StringIO()):
            yield
    except MemoryError as err:
        size = f"{plane.shape[0]} x {plane.shape[1]}"
        raise BenchError(
            f"memory for {method.name} matting of {size} pixels", "none left", "use fewer --workers, or smaller images"
        ) from err
    except BenchError:
        raise
    except Exception as err:
        raise unsolved(method.name, f"{type(err).__name__}: {err}") from err


def unsolved(name: str, reason: str) -> MattingFailed:
    """The error of a method that tried."""
    remedy = "the map stands in for the alpha; try another matting, a larger maxiter, or other trimap thresholds"
    return MattingFailed(f"{name} matting to solve the trimap", reason, remedy)


def solvable(plane: np.ndarray, name: str, pixels: int = 1, side: int = 1) -> None:
    """Raises MattingFailed where a method has no unique solution of a class, or PyMatting would not start.

    Args:
        plane: the trimap of the class, h w.
        name: of the method.
        pixels, side: fewest pixels that an image may have, and fewest rows and columns.
    """
    lacks = [n for n, v in (("foreground", FOREGROUND), ("background", BACKGROUND)) if not (plane == v).any()]
    if lacks:
        raise MattingFailed(
            "a trimap with foreground and background", f"no {' and no '.join(lacks)}", "repair it by trimap.make_trimap"
        )
    if plane.size < pixels or min(plane.shape) < side:
        least = f"{side} x {side}" if side > 1 else f"{pixels} pixels"
        raise MattingFailed(
            f"an image of at least {least} for {name} matting",
            f"{plane.shape[0]} x {plane.shape[1]}",
            "the map stands in for the alpha; fewer neighbours or a smaller radius take smaller images",
        )


def hold_known(alpha: Alpha, trimap: Trimap) -> Alpha:
    """Write the trimap's values where a known pixel left them by more than the contract allows."""
    target = (trimap == FOREGROUND).astype(np.float32)
    off = (trimap != UNKNOWN) & (np.abs(alpha - target) > TRIMAP_ALLOWANCE)
    return np.where(off, target, alpha)
