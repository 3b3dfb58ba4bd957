"""Maps to scores to labels, with one background threshold.

An argmax over {1 - max alpha, alpha of each class} asks whether the largest alpha exceeds one half, so the question how
background is formed comes down to one number: a pixel belongs to the class with the highest value where that value
exceeds the threshold, and to the background elsewhere. Scores carry this very decision: their argmax is the label, to
the last pixel, whatever division by their sum does to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from matlabel_bench.errors import ContractError, UsageError
from matlabel_bench.fields import knob
from matlabel_bench.types import Label, Scores, Tags


@dataclass(frozen=True)
class LabelRule:
    """Background thresholds where a column asks for a fixed one, chosen before any mask is seen.

    Raises:
        UsageError: a threshold between the steps of 0.01 at which images are tallied (`tally.THRESHOLDS`).
    """

    alpha_threshold: float = knob(
        0.5, "foreground above this alpha; 0.5 is argmax over {1 - max alpha, alpha}", low=0.0, high=0.99
    )
    map_threshold: float = knob(0.15, "foreground above this map value; IRN evaluates CAM at 0.15", low=0.0, high=0.99)

    def __post_init__(self) -> None:
        for name in ("alpha_threshold", "map_threshold"):
            value = getattr(self, name)
            if abs(value * 100 - round(value * 100)) > 1e-6:
                low = math.floor(value * 100) / 100
                raise UsageError(
                    f"label.{name} in steps of 0.01: scores are tallied at 0.00, 0.01, ... 0.99",
                    repr(value),
                    f"choose {low:.2f} or {low + 0.01:.2f}",
                )


def make_scores(
    maps: Float32[np.ndarray, "k h w"], threshold: float, tie: Float32[np.ndarray, "k h w"] | None = None
) -> Scores:
    """Scores whose argmax is the decision `value > threshold`, with equal values of classes decided by `tie`.

    Args:
        maps: alphas or class maps in [0, 1], one plane a class; k may be 0.
        threshold: the background's value, in [0, 1], compared as float32.
        tie: decides between classes of the same value (saturated alphas are broken by their maps), never between
            foreground and background; what is equal there too goes to the lower class id.

    Returns:
        float32 k+1 h w, non-negative, summing to 1; plane 0 stands for the background. Proportional to
        {threshold, maps} but for the last bit, which is raised where the argmax would otherwise tell another winner.

    Raises:
        ContractError: maps or tie of another shape or type, out of [0, 1] or nan; threshold out of [0, 1].
    """
    _check(maps, threshold, tie)
    level = np.float32(threshold)
    scores = np.concatenate([np.full((1, *maps.shape[1:]), level, np.float32), maps])
    total = scores.sum(axis=0)
    empty = total == 0  # no map and no threshold: nothing exceeds 0, so background
    scores[0, empty] = total[empty] = 1
    scores /= total
    winner = _winner(maps, level, tie)
    wrong = np.nonzero(scores.argmax(axis=0) != winner)
    scores[(winner[wrong], *wrong)] = np.nextafter(scores.max(axis=0)[wrong], np.float32(2))
    return scores


def make_label(scores: Scores, tags: Tags) -> Label:
    """The class id with the highest score, background where it is among several; uint8 h w of 0 and tags, never 255.

    Raises:
        ContractError: not one plane for the background and one a tag.
    """
    if scores.ndim != 3 or len(scores) != len(tags) + 1:
        raise ContractError(
            f"scores with {len(tags) + 1} planes, background and {len(tags)} tags",
            f"shape {scores.shape}",
            "keep the planes in the order of the tags, after the background",
        )
    ids = np.concatenate([np.zeros(1, np.uint8), np.asarray(tags, np.uint8)])
    label: Label = ids[scores.argmax(axis=0)]
    return label


def _winner(maps: np.ndarray, level: np.float32, tie: np.ndarray | None) -> Int64[np.ndarray, "h w"]:
    """Index of the winning plane of the scores: 0 for background."""
    if not len(maps):
        return np.zeros(maps.shape[1:], np.int64)
    best = maps.max(axis=0)
    leaders = maps if tie is None else np.where(maps == best, tie, np.float32(-1))
    return np.where(best > level, leaders.argmax(axis=0) + 1, 0)


def _check(maps: np.ndarray, threshold: float, tie: np.ndarray | None) -> None:
    for name, planes in (("maps", maps), ("tie", maps if tie is None else tie)):
        if planes.ndim != 3 or planes.dtype != np.float32 or planes.shape != maps.shape:
            got = f"{planes.dtype}, {planes.shape}"
            raise ContractError(f"{name} as float32, k h w, maps and tie alike", got, "stack one plane a class")
        if planes.size and not (planes.min() >= 0 and planes.max() <= 1):  # nan fails both
            got = f"[{planes.min():.4g}, {planes.max():.4g}]"
            raise ContractError(f"{name} in [0, 1]", got, "clip or scale in the part that made them")
    if not 0 <= threshold <= 1:
        raise ContractError("a background threshold in [0, 1]", repr(threshold), "take one of 0.00, 0.01, ... 0.99")
