"""PyMatting's linear systems solved as far as float64 goes: what `bench perf` holds alphas against.

The systems are PyMatting's own, built by its Laplacians; no part of the native solvers is in use. Those on the pixel
grid are factorised (SuperLU, in an order of nested dissection, without which it takes minutes and more memory than
there is) and corrected once. KNN's graph fills up when it is factorised: it gets conjugate gradients to 1e-13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from matlabel_bench.types import FOREGROUND, UNKNOWN, Alpha, Image, Trimap
from matlabel_mattings.through_pymatting import load

FAR = 16
"""Pixels beyond which a known pixel among its like is left at its value: there a penalty of 100 lets through 1e-16."""
SMALL = 32
"""Pixels of a rectangle that is no longer divided."""
TIGHT = 1e-13
"""Relative residual of conjugate gradients."""


def eliminated(image: Image, trimap: Trimap, laplacian: Callable[[Any], Any]) -> Alpha:
    """Alphas k h w where known pixels are no unknowns (closed-form matting), `laplacian` being that of the colours."""
    matrix = laplacian(image / 255.0).tocsr()
    return _each(trimap, lambda plane: _direct(matrix, np.zeros(plane.size), plane, plane == UNKNOWN))


def held(image: Image, trimap: Trimap, laplacian: Callable[[Any], Any], constraint: float) -> Alpha:
    """Alphas k h w where known pixels are held by the penalty `constraint`, for a matrix on the pixel grid."""
    from scipy import ndimage

    matrix = laplacian(image / 255.0).tocsr()

    def solve(plane: np.ndarray) -> np.ndarray:
        low, high = (f(plane, 2 * FAR + 1, mode="nearest") for f in (ndimage.minimum_filter, ndimage.maximum_filter))
        inside = (low != high) | (plane == UNKNOWN)
        return _direct(matrix, constraint * (plane != UNKNOWN).ravel(), plane, inside)

    return _each(trimap, solve)


def linked(image: Image, trimap: Trimap, laplacian: Callable[[Any], Any], constraint: float) -> Alpha:
    """As `held`, for a matrix of any links, by conjugate gradients."""
    pm, matrix = load(), laplacian(image / 255.0)

    def solve(plane: np.ndarray) -> np.ndarray:
        system, target = pm.make_linear_system(matrix, plane / 255.0, lambda_value=constraint)
        found: np.ndarray = pm.cg(system, target, M=pm.jacobi(system), rtol=TIGHT, maxiter=100_000)
        return found

    return _each(trimap, solve)


def _each(trimap: Trimap, solve: Callable[[np.ndarray], np.ndarray]) -> Alpha:
    """Every class by itself; one without unknown pixels is its own alpha."""
    known = (trimap == FOREGROUND).astype(np.float32)
    planes = [solve(p).reshape(p.shape) if (p == UNKNOWN).any() else k for p, k in zip(trimap, known, strict=True)]
    return np.clip(planes, 0, 1).astype(np.float32).reshape(trimap.shape)


def _direct(matrix: Any, penalty: np.ndarray, plane: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The pixels `inside`, all others being what the trimap says."""
    from scipy import sparse

    x = (plane == FOREGROUND).ravel().astype(np.float64)
    order = dissected(np.arange(plane.size).reshape(plane.shape))
    order = order[inside.ravel()[order]]
    rows = matrix[order]
    outside = np.where(inside.ravel(), 0, x)
    target = penalty[order] * x[order] - rows @ outside
    system = (rows[:, order] + sparse.diags_array(penalty[order])).tocsc()
    options = {"SymmetricMode": True}
    lu = sparse.linalg.splu(system, permc_spec="NATURAL", diag_pivot_thresh=0.0, options=options)
    first = lu.solve(target)
    x[order] = first + lu.solve(target - system @ first)
    return x


def dissected(numbers: np.ndarray, reach: int = 2) -> np.ndarray:
    """The numbers of a rectangle h w in an order of nested dissection: halves first, the strip between them last.

    Args:
        reach: rows or columns of a strip, over which no entry of the matrix may lead; 2 for windows of 3 x 3.
    """
    if numbers.shape[0] < numbers.shape[1]:
        numbers = numbers.T
    height = len(numbers)
    if numbers.size <= SMALL or height <= 2 * reach:
        return numbers.ravel()
    middle = (height - reach) // 2
    halves = dissected(numbers[:middle], reach), dissected(numbers[middle + reach :], reach)
    return np.concatenate([*halves, numbers[middle : middle + reach].ravel()])
