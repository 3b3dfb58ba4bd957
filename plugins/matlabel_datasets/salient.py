"""What a detector of salient objects of middling quality might say of a synthetic scene.

Made from the scene's own alphas, so it is supervision beyond tags, as saliency maps from a trained detector are. Errors
are drawn: objects found faintly or missed, holes in them, glows on the background, soft outlines. As in the scenes,
only exactly rounded operations, so the same seed gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from matlabel_datasets.scenes import SALIENCY, Pixels, generator
from matlabel_datasets.textures import Field, fractal, ramp


def saliency(seed: int, split: int, index: int, alphas: Sequence[Pixels]) -> Pixels:
    """A class-agnostic map uint8 h w, highest value 255, for the scene whose alphas (uint8 h w) are given."""
    rng = generator(seed, SALIENCY, split, index)
    shape = alphas[0].shape
    found = np.zeros(shape)
    surest = int(rng.integers(0, len(alphas)))  # a detector says something of every image
    for number, alpha in enumerate(alphas):
        strength = 0.5 + 0.5 * rng.random()
        missed = rng.random() < 0.25
        if missed and number != surest:
            strength *= 0.2
        found = np.maximum(found, strength * (alpha / 255))
    found = found * ramp(0.15 + 1.6 * fractal(rng, shape, 22, 2))
    glow = rng.random() * ramp(4 * (fractal(rng, shape, 34, 2) - 0.68))
    soft = _blur(np.maximum(found, glow), 1 + int(rng.integers(0, 4)))
    drawn: Pixels = np.floor(soft / soft.max() * 255 + 0.5).astype(np.uint8)
    return drawn


def _blur(field: Field, radius: int) -> Field:
    """Three box filters a side, each 2 radius + 1 wide, borders replicated: close to a Gaussian. Sums of integers."""
    steps, wide = np.floor(field * 65535 + 0.5).astype(np.int64), 2 * radius + 1
    for axis in (0, 1, 0, 1, 0, 1):
        lines = np.moveaxis(steps, axis, 0)
        total = np.cumsum(np.pad(lines, [(radius + 1, radius), (0, 0)], mode="edge"), axis=0)
        steps = np.moveaxis((total[wide:] - total[:-wide]) // wide, 0, axis)
    return steps / 65535
