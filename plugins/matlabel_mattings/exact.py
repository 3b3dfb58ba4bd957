"""PyMatting's linear systems solved as far as float64 goes: what `bench perf` holds alphas against.

The systems are PyMatting's own, built by its Laplacians; no part of the native solvers is in use. One that rounding has
made indefinite, which closed-form matting's is on some photographs, has no such solution: its formula is evaluated
again, without that. Those on the pixel grid are factorised (SuperLU, in an order of nested dissection, without which it
takes minutes and more memory than there is) and corrected once. KNN's graph fills up when it is factorised: it gets
conjugate gradients to 1e-13.
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


def eliminated(image: Image, trimap: Trimap, *laplacians: Callable[[Any], Any]) -> Alpha:
    """Alphas k h w where known pixels are no unknowns (closed-form matting).

    Args:
        laplacians: of the colours; the first of them that is positive definite on the unknown pixels is solved, the
            last one anyway.
    """
    matrices = [laplacians[0](image / 255.0).tocsr()]

    def solve(plane: np.ndarray) -> np.ndarray:
        for i in range(len(laplacians)):
            if i == len(matrices):
                matrices.append(laplacians[i](image / 255.0).tocsr())
            x, definite = _direct(matrices[i], np.zeros(plane.size), plane, plane == UNKNOWN)
            if definite:
                break
        return x

    return _each(trimap, solve)


def levin(colours: np.ndarray, epsilon: float, radius: int) -> Any:
    """Closed-form matting's Laplacian, sparse, by the singular values of its windows.

    With the centred colours C = U S V^T of a window, C (C^T C + eps I)^-1 C^T is U S^2 / (S^2 + eps) U^T. PyMatting's
    inverse by cofactors loses all digits where a window's colours vary much along a line and not across it.
    """
    from scipy import sparse

    h, w = colours.shape[:2]
    numbers, side = np.arange(h * w).reshape(h, w), 2 * radius + 1
    size = side * side
    at = np.lib.stride_tricks.sliding_window_view(numbers, (side, side)).reshape(-1, size)
    centred = colours.reshape(-1, 3)[at]
    u, s, _ = np.linalg.svd(centred - centred.mean(1, keepdims=True), full_matrices=False)
    windows = np.eye(size) - 1 / size - (u * (s**2 / (s**2 + epsilon))[:, None]) @ u.transpose(0, 2, 1)
    rows, columns = np.repeat(at, size, axis=1), np.tile(at, size)
    return sparse.coo_array((windows.ravel(), (rows.ravel(), columns.ravel())), (h * w, h * w))


def held(image: Image, trimap: Trimap, laplacian: Callable[[Any], Any], constraint: float) -> Alpha:
    """Alphas k h w where known pixels are held by the penalty `constraint`, for a matrix on the pixel grid."""
    from scipy import ndimage

    matrix = laplacian(image / 255.0).tocsr()

    def solve(plane: np.ndarray) -> np.ndarray:
        low, high = (f(plane, 2 * FAR + 1, mode="nearest") for f in (ndimage.minimum_filter, ndimage.maximum_filter))
        inside = (low != high) | (plane == UNKNOWN)
        return _direct(matrix, constraint * (plane != UNKNOWN).ravel(), plane, inside)[0]

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


def _direct(matrix: Any, penalty: np.ndarray, plane: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, bool]:
    """The pixels `inside`, all others being what the trimap says; whether the matrix is positive definite on them."""
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
    return x, bool((lu.U.diagonal() > 0).all())


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
