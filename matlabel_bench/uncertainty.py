"""A trimap without fixed thresholds: unknown is where maps of altered images disagree.

The paper's supplement (section 3.2) names it as future work: "model the unknown region explicitly by uncertainty
estimation and explore the threshold-free trimap generation approach". Here any CAM generator is asked again about
views of the image (mirrored, smaller, larger, darker, brighter); at each pixel the map's mean over views, m, and its
standard deviation, s, tell how sure it is. One level per class and image, Otsu's on m, divides what is high from what
is low, without a mask and without a number that was chosen for other images:

    foreground where m - z s > level,  background where m + z s < level,  unknown elsewhere

with s at least `floor`, because a network can be sure of itself and blurred all the same. What no solver could use is
repaired by the rule of `trimap.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from matlabel_bench.errors import ContractError
from matlabel_bench.fields import knob
from matlabel_bench.images import enlarge, resize_image
from matlabel_bench.tally import histogram, otsu
from matlabel_bench.trimap import repair
from matlabel_bench.types import BACKGROUND, FOREGROUND, UNKNOWN, Cams, Image, Tags, Trimap

Live = Callable[[Image, Tags], Cams]
SIZES, GAMMAS = (0.75, 1.25), (0.7, 1.4)
"""Views besides the image itself and its mirror: scaled, and with exponents on its grey levels."""
VIEWS = 2 + len(SIZES) + len(GAMMAS)
"""How often the generator is asked about an image."""


@dataclass(frozen=True)
class UncertaintyRule:
    """How sure a pixel must be, and the shares that repair a trimap without foreground or background."""

    z: float = knob(1.0, "standard deviations over views between a known pixel and the level", low=0.0)
    floor: float = knob(0.1, "least standard deviation of a pixel, in units of the map", low=0.0, high=1.0)
    top: float = knob(0.05, "share of pixels that become foreground where none is sure", low=0.0, high=0.5)
    low: float = knob(0.05, "share of pixels that become background where none is sure", low=0.0, high=0.5)


def spread(live: Live, image: Image, tags: Tags) -> tuple[Cams, Cams]:
    """Mean and standard deviation of a generator's maps over views of an image, on the generator's own grid.

    Returns:
        Two float32 k gh gw; the mean in [0, 1], the deviation in [0, 0.5].
    """
    size = image.shape[:2]
    base = live(image, tags)
    found = [base, _on_grid(enlarge(live(image[:, ::-1].copy(), tags), size)[:, :, ::-1], base.shape[1:])]
    for factor in SIZES:
        other = resize_image(image, tuple(max(1, round(side * factor)) for side in size))
        maps = enlarge(live(other, tags), other.shape[:2])
        found.append(_on_grid(_resized(maps, size), base.shape[1:]))
    for gamma in GAMMAS:
        altered = np.rint(255 * (image / 255) ** gamma).astype(np.uint8)
        found.append(_on_grid(enlarge(live(altered, tags), size), base.shape[1:]))
    stack = np.stack(found)
    return stack.mean(axis=0).astype(np.float32), stack.std(axis=0).astype(np.float32)


def uncertain_trimap(
    mean: Float32[np.ndarray, "k h w"], deviation: Float32[np.ndarray, "k h w"], rule: UncertaintyRule
) -> tuple[Trimap, tuple[str, ...]]:
    """A trimap a class, and its status, as `trimap.make_trimap` gives them.

    Args:
        mean, deviation: over views, at the image's size; k may be 0.

    Raises:
        ContractError: arrays of different shapes, not float32, or a value that is not finite.
    """
    if mean.shape != deviation.shape or mean.dtype != np.float32 or not np.isfinite([mean, deviation]).all():
        got = f"{mean.dtype} {mean.shape} and {deviation.dtype} {deviation.shape}"
        raise ContractError("mean and deviation as finite float32, k h w", got, "enlarge both to the image")
    margin = np.float32(rule.z) * np.maximum(deviation, np.float32(rule.floor))
    trimap = np.full(mean.shape, UNKNOWN, np.uint8)
    statuses = []
    for plane, values, reach in zip(trimap, mean, margin, strict=True):
        level = np.float32(otsu(histogram(values[None])))
        plane[values - reach > level] = FOREGROUND
        plane[values + reach < level] = BACKGROUND
        statuses.append(repair(plane, values, rule.top, rule.low))
    return trimap, tuple(statuses)


def _on_grid(maps: Cams, grid: tuple[int, ...]) -> Cams:
    """Means over the cells of a grid (types.Cams) of maps at an image's size."""
    height, width = maps.shape[1:]
    side = -(-height // grid[0]), -(-width // grid[1])
    padded = np.pad(maps, ((0, 0), (0, side[0] * grid[0] - height), (0, side[1] * grid[1] - width)), mode="edge")
    means: Cams = padded.reshape(len(maps), grid[0], side[0], grid[1], side[1]).mean(axis=(2, 4))
    return means


def _resized(maps: Cams, size: tuple[int, ...]) -> Cams:
    """Maps of a scaled image at the size of the image itself, the image's extent kept."""
    from PIL import Image as Pictures

    planes = [Pictures.fromarray(m).resize((size[1], size[0]), Pictures.Resampling.BILINEAR) for m in maps]
    return np.stack([np.asarray(p, np.float32) for p in planes]) if planes else np.zeros((0, *size), np.float32)
