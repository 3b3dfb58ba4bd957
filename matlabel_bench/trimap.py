"""Maps to trimaps: equation 9 of the Mat-Label paper, and the one rule for trimaps no solver could use.

A matting solver needs at least one foreground and one background pixel (PyMatting raises without them). A map whose
values never reach a threshold gives neither, so the class is repaired and counted. The rule, in full:

1. No foreground: the share `top` of the pixels, those with the highest values, becomes foreground.
2. No background: the share `low` of the pixels, those with the lowest values, becomes background.
3. A repair takes unknown pixels only, fewer than its share where there are not enough. Only where equation 9 left no
   unknown pixel does it take known ones, and it always leaves one.
4. Equal values: for the foreground the pixel nearest to the image's centre goes first, for the background the one
   farthest from it; then the earlier one in reading order.

Everything else stays as equation 9 says. An image of one pixel cannot hold both kinds; it is left as it is and its
status says so. Where a solver still fails, the core takes the map itself for the alpha (`stages.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from matlabel_bench.errors import ContractError, UsageError
from matlabel_bench.fields import knob
from matlabel_bench.types import BACKGROUND, FOREGROUND, UNKNOWN, Trimap

STATUSES = ("ok", "no-foreground", "no-background", "neither", "unsolvable")
"""What equation 9 gave for a class. All but the first were repaired, except `unsolvable`: an image of one pixel."""


@dataclass(frozen=True)
class TrimapRule:
    """Thresholds of equation 9, and the shares that repair a trimap without foreground or background.

    Raises:
        UsageError: the thresholds leave no room between them.
    """

    fg: float = knob(0.75, "foreground from this value on (equation 9)", low=0.0, high=1.0)
    bg: float = knob(0.2, "background up to this value (equation 9)", low=0.0, high=1.0)
    top: float = knob(0.05, "share of pixels that become foreground where none reaches fg", low=0.0, high=0.5)
    low: float = knob(0.05, "share of pixels that become background where none falls to bg", low=0.0, high=0.5)

    def __post_init__(self) -> None:
        if not self.fg > self.bg:
            raise UsageError(
                "trimap.fg above trimap.bg",
                f"fg={self.fg} and bg={self.bg}",
                "give thresholds with room between them, such as the paper's fg=0.75 and bg=0.2",
            )


def make_trimap(maps: Float32[np.ndarray, "k h w"], rule: TrimapRule) -> tuple[Trimap, tuple[str, ...]]:
    """A trimap a class, and what equation 9 gave for it.

    Args:
        maps: in [0, 1], at the image's own size, one plane a class; k may be 0.
        rule: thresholds and repair shares.

    Returns:
        uint8 k h w of 0, 128, 255, and one of STATUSES a class. Every plane of two pixels or more has foreground and
        background.

    Raises:
        ContractError: maps are not float32 k h w, have no pixel, or hold a value that is not finite.
    """
    if maps.ndim != 3 or maps.dtype != np.float32 or 0 in maps.shape[1:]:
        raise ContractError("maps as float32, k h w", f"{maps.dtype}, {maps.shape}", "enlarge the maps to the image")
    if not np.isfinite(maps).all():
        raise ContractError("maps of finite values", "nan or infinity", "a part diverged: see the notes of its stage")
    trimap = np.full(maps.shape, UNKNOWN, np.uint8)
    trimap[maps >= np.float32(rule.fg)] = FOREGROUND
    trimap[maps <= np.float32(rule.bg)] = BACKGROUND
    return trimap, tuple(repair(plane, values, rule.top, rule.low) for plane, values in zip(trimap, maps, strict=True))


def repair(plane: UInt8[np.ndarray, "h w"], values: Float32[np.ndarray, "h w"], top: float, low: float) -> str:
    """Change `plane` in place where it lacks a kind, by the rule above and its two shares; return its status."""
    no_fg, no_bg = not (plane == FOREGROUND).any(), not (plane == BACKGROUND).any()
    if not (no_fg or no_bg):
        return "ok"
    if plane.size < 2:
        return "unsolvable"
    off_centre = _distance_from_centre(*plane.shape)
    if no_fg:
        _take(plane, FOREGROUND, np.lexsort((off_centre, -values.ravel())), _count(top, plane.size, no_bg))
    if no_bg:
        _take(plane, BACKGROUND, np.lexsort((-off_centre, values.ravel())), _count(low, plane.size, False))
    return "neither" if no_fg and no_bg else "no-foreground" if no_fg else "no-background"


def _count(share: float, size: int, spare: bool) -> int:
    """Pixels to take: at least one; where the other kind lacks too, at most all but one."""
    return min(max(1, round(share * size)), size - 1 if spare else size)


def _take(plane: UInt8[np.ndarray, "h w"], kind: int, order: np.ndarray, count: int) -> None:
    """Set the first `count` unknown pixels of `order` to `kind`; without any unknown, known ones, but not the last."""
    flat = plane.reshape(-1)  # a view: planes of a fresh array are contiguous
    free: Bool[np.ndarray, " n"] = flat == UNKNOWN
    if free.any():
        flat[order[free[order]][:count]] = kind
    else:
        flat[order[: min(count, flat.size - 1)]] = kind


def _distance_from_centre(height: int, width: int) -> np.ndarray:
    """Squared distance of each pixel from the centre, in half pixels: whole numbers, so that ties are exact."""
    rows, columns = 2 * np.arange(height) - (height - 1), 2 * np.arange(width) - (width - 1)
    return np.add.outer(rows**2, columns**2).ravel()
