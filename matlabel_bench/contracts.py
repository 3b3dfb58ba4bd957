"""Ranges and values of every stage's output, checked at the seams: a part that breaks one is named at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from matlabel_bench.errors import ContractError
from matlabel_bench.types import BACKGROUND, FOREGROUND, IGNORE, UNKNOWN, Alpha, Cams, Image, Label, Scores, Trimap

TRIMAP_ALLOWANCE = 0.01
"""How far an alpha may stand from the trimap where that is known: solvers constrain softly."""


def _shape(got: Any, want: tuple[int | None, ...], what: str, who: str, dtype: type) -> np.ndarray:
    if not isinstance(got, np.ndarray):
        raise ContractError(
            f"{who} to return {what} as a NumPy array", type(got).__name__, "convert it, e.g. tensor.cpu().numpy()"
        )
    fits = got.ndim == len(want) and all(w is None or g == w for g, w in zip(got.shape, want, strict=True))
    if got.dtype != dtype or not fits:
        shape = " x ".join("any" if w is None else str(w) for w in want)
        raise ContractError(
            f"{who} to return {what} as {np.dtype(dtype).name}, {shape}",
            f"{got.dtype}, {' x '.join(map(str, got.shape))}",
            "return the shape and type of matlabel_bench/types.py",
        )
    return got


def _range(got: np.ndarray, low: float, high: float, what: str, who: str) -> None:
    if got.size and not (np.isfinite(got).all() and got.min() >= low and got.max() <= high):
        lo, hi = float(np.min(got)), float(np.max(got))
        raise ContractError(
            f"{what} of {who} in [{low}, {high}]",
            f"[{lo:.4g}, {hi:.4g}]",
            "clip or scale inside the part; nan means that it diverged",
        )


def check_cams(got: Any, tags: int, who: str) -> Cams:
    """k gh gw float32 in [0, 1], each channel's maximum 1 or the channel all zero (within float16's step)."""
    cams = _shape(got, (tags, None, None), "maps", who, np.float32)
    _range(cams, 0.0, 1.0, "maps", who)
    for channel, peak in enumerate(cams.max(axis=(1, 2)) if tags else ()):
        if peak != 0 and abs(float(peak) - 1) > 1e-3:
            raise ContractError(
                f"every channel of the maps of {who} with maximum 1 or all zero",
                f"channel {channel} with maximum {peak:.4g}",
                "divide each channel by its maximum, or set the part's `normalise` field to 'none'",
            )
    return cams


def check_trimap(got: Any, shape: tuple[int, int, int], who: str) -> Trimap:
    """k h w uint8 of 0, 128 and 255."""
    trimap = _shape(got, shape, "a trimap", who, np.uint8)
    odd = set(np.unique(trimap).tolist()) - {BACKGROUND, UNKNOWN, FOREGROUND}
    if odd:
        raise ContractError(
            f"a trimap of {who} with values 0, 128, 255", str(sorted(odd)[:5]), "threshold instead of interpolating"
        )
    return trimap


def check_inputs(image: Image, trimap: Trimap) -> None:
    """What a matting is asked with: an image h w 3 uint8, and a trimap k h w of its size."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.shape[:2] != trimap.shape[1:]:
        raise ContractError(
            "an image as uint8 h w 3 and a trimap k h w of the same size",
            f"{image.dtype} {image.shape} and {trimap.shape}",
            "convert the image to RGB, and make the trimap at the image's own size",
        )


def check_alpha(got: Any, trimap: Trimap | Cams, who: str) -> Alpha:
    """k h w float32 in [0, 1], within TRIMAP_ALLOWANCE of the trimap where that is known.

    A matting that takes maps in the trimap's place is held to their shape alone.
    """
    alpha = _shape(got, trimap.shape, "alpha", who, np.float32)
    _range(alpha, 0.0, 1.0, "alpha", who)
    if trimap.dtype != np.uint8:
        return alpha
    low = float((1 - alpha[trimap == FOREGROUND]).max(initial=0))
    high = float(alpha[trimap == BACKGROUND].max(initial=0))
    if max(low, high) > TRIMAP_ALLOWANCE:
        raise ContractError(
            f"alpha of {who} within {TRIMAP_ALLOWANCE} of the trimap where that is known",
            f"off by {max(low, high):.4g}",
            "keep the known pixels as constraints, or write them back at the end",
        )
    return alpha


def check_scores(got: Any, planes: int, size: tuple[int, int], who: str) -> Scores:
    """c h w float32, non-negative, summing to 1 within 1e-3."""
    scores = _shape(got, (planes, *size), "scores", who, np.float32)
    _range(scores, 0.0, 1.0, "scores", who)
    off = float(np.abs(scores.sum(axis=0) - 1).max(initial=0))
    if off > 1e-3:
        raise ContractError(
            f"scores of {who} that sum to 1 over the planes", f"off by {off:.4g}", "divide by the sum over planes"
        )
    return scores


def check_label(got: Any, size: tuple[int, int], allowed: set[int], who: str) -> Label:
    """h w uint8; only background, the image's own tags, and 255."""
    label = _shape(got, size, "a label", who, np.uint8)
    odd = set(np.unique(label).tolist()) - allowed - {0, IGNORE}
    if odd:
        raise ContractError(
            f"a label of {who} with background, the image's tags {sorted(allowed)} and 255",
            str(sorted(odd)[:5]),
            "return class ids, not indices of planes",
        )
    return label
