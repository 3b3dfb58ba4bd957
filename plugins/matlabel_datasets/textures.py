"""Value noise, backgrounds and the patterns of the telling parts, all from exactly rounded arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Field: TypeAlias = npt.NDArray[np.float64]
Rng: TypeAlias = np.random.Generator

GROUNDS = {
    "soil": (0.38, 0.30, 0.22),
    "grass": (0.35, 0.46, 0.21),
    "sky": (0.60, 0.73, 0.87),
    "sand": (0.79, 0.71, 0.55),
    "stone": (0.52, 0.52, 0.50),
    "water": (0.24, 0.42, 0.51),
    "leaf": (0.15, 0.25, 0.13),
    "brick": (0.56, 0.34, 0.27),
    "snow": (0.89, 0.90, 0.92),
}
"""Colours of backgrounds, RGB in 0..1."""


def ramp(field: Field) -> Field:
    """Clip to 0..1."""
    return np.clip(field, 0.0, 1.0)


def mix(back: Field, front: Field, share: Field) -> Field:
    """back (h w 3) with `share` (h w) of it covered by front (h w 3)."""
    return back + (front - back) * share[:, :, None]


def jitter(rng: Rng, colour: Field, width: float) -> Field:
    """A colour near `colour`: a common change of light and a smaller one of each channel."""
    return ramp(colour + width * (rng.random() - 0.5) + width / 2 * (rng.random(3) - 0.5))


def noise(rng: Rng, shape: tuple[int, ...], cell: float) -> Field:
    """Smooth random field in 0..1 that changes over `cell` pixels."""
    lines = []
    for n in shape:
        at = np.arange(n) / cell + rng.random()
        low = np.floor(at)
        t = at - low
        lines.append((low.astype(np.intp), t * t * (3 - 2 * t)))
    (row, ty), (column, tx) = lines
    grid = rng.random((row[-1] + 2, column[-1] + 2))
    across = grid[:, column] + (grid[:, column + 1] - grid[:, column]) * tx
    return across[row] + (across[row + 1] - across[row]) * ty[:, None]


def fractal(rng: Rng, shape: tuple[int, ...], cell: float, octaves: int) -> Field:
    """Noise with finer and fainter octaves, stretched to 0..1."""
    total = np.zeros(shape)
    for octave in range(octaves):
        total += noise(rng, shape, max(cell / 2**octave, 1.0)) / 2**octave
    low = float(total.min())
    return (total - low) / (float(total.max()) - low)


def ring_noise(rng: Rng, knots: int) -> Callable[[Field], Field]:
    """Smooth random function in 0..1 of a turn 0..1, periodic, with `knots` random values."""
    values = rng.random(knots)

    def at(turn: Field) -> Field:
        place = (turn - np.floor(turn)) * knots
        low = np.floor(place)
        t = place - low
        i = low.astype(np.intp) % knots
        return values[i] + (values[(i + 1) % knots] - values[i]) * (t * t * (3 - 2 * t))

    return at


def wave(field: Field) -> Field:
    """Triangle wave 0..1 with period 1."""
    return np.abs(2 * (field - np.floor(field)) - 1)


def background(rng: Rng, shape: tuple[int, ...]) -> Field:
    """One of five kinds of natural-looking ground, h w 3 in 0..1, independent of what will stand on it."""
    names = sorted(GROUNDS)
    first = int(rng.integers(0, len(names)))
    second = (first + 1 + int(rng.integers(0, len(names) - 1))) % len(names)
    one, two = (jitter(rng, np.array(GROUNDS[names[i]]), 0.14) for i in (first, second))
    kinds = (_meadow, _horizon, _planks, _pebbles, _weave)
    share = kinds[int(rng.integers(0, len(kinds)))](rng, shape)
    ground = one + (two - one) * share[:, :, None]
    relief = 0.16 * (fractal(rng, shape, 5, 3) - 0.5) + 0.14 * (fractal(rng, shape, 60, 3) - 0.5)
    return ramp(ground + relief[:, :, None])


def _meadow(rng: Rng, shape: tuple[int, ...]) -> Field:
    return fractal(rng, shape, 16 + 24 * rng.random(), 4)


def _horizon(rng: Rng, shape: tuple[int, ...]) -> Field:
    height = (0.25 + 0.5 * rng.random()) * shape[0]
    hills = 12 * (fractal(rng, shape, 40, 3) - 0.5)
    sharp = 0.1 + 0.4 * rng.random()
    return ramp((np.arange(shape[0])[:, None] - height + hills) * sharp + 0.5)


def _planks(rng: Rng, shape: tuple[int, ...]) -> Field:
    slope, period = 2 * rng.random() - 1, 9 + 14 * rng.random()
    line = np.arange(shape[1])[None, :] + slope * np.arange(shape[0])[:, None]
    if rng.random() < 0.5:
        line = np.arange(shape[0])[:, None] + slope * np.arange(shape[1])[None, :]
    return 0.6 * wave(line / period + 1.2 * fractal(rng, shape, 30, 2)) + 0.3 * fractal(rng, shape, 6, 2)


def _pebbles(rng: Rng, shape: tuple[int, ...]) -> Field:
    ridges = np.abs(fractal(rng, shape, 9 + 8 * rng.random(), 2) - 0.5)
    return ramp(ridges * 5) * 0.8 + 0.2 * noise(rng, shape, 20)


def _weave(rng: Rng, shape: tuple[int, ...]) -> Field:
    period = 10 + 10 * rng.random()
    bend = 6 * (fractal(rng, shape, 50, 2) - 0.5)
    rows = wave((np.arange(shape[0])[:, None] + bend) / period)
    return 0.8 * rows * wave((np.arange(shape[1])[None, :] + bend) / period) + 0.2 * noise(rng, shape, 3)


HEADS = np.array(
    [
        [[0.80, 0.20, 0.16], [0.10, 0.08, 0.08]],
        [[0.90, 0.75, 0.18], [0.14, 0.11, 0.08]],
        [[0.92, 0.93, 0.95], [0.16, 0.30, 0.72]],
        [[0.90, 0.86, 0.92], [0.40, 0.16, 0.52]],
        [[0.18, 0.62, 0.34], [0.93, 0.93, 0.72]],
    ]
)
"""The two colours of each class's telling part."""


def patterns(rng: Rng, kind: int, u: Field, v: Field) -> Field:
    """The telling part of class `kind` (1..5): dots, bands, rings, checks or rays, over u and v in -1..1."""
    one, two = (jitter(rng, colour, 0.20) for colour in HEADS[kind - 1])
    fine = 2.2 + 0.8 * rng.random()
    radius = np.sqrt(u * u + v * v)
    if kind == 1:
        du, dv = wave(u * fine * 0.7 + rng.random()), wave(v * fine * 0.7 + rng.random())
        share = ramp((0.6 - np.sqrt(du * du + dv * dv)) * 5 + 0.5)
    elif kind == 2:
        share = ramp((wave(u * fine * 0.8 + rng.random()) - 0.5) * 4 + 0.5)
    elif kind == 3:
        share = ramp((wave(radius * fine * 0.7) - 0.5) * 4 + 0.5)
    elif kind == 4:
        share = ramp((wave(u * fine * 0.5 + 0.25) - 0.5) * (wave(v * fine * 0.5 + 0.25) - 0.5) * 20 + 0.5)
    else:
        t = u / (np.abs(u) + np.abs(v) + 1e-9)
        share = ramp((wave(np.where(v < 0, 3 + t, 1 - t) * 1.25 + rng.random()) - 0.5) * 4 + 0.5)
    light = 1.08 - 0.25 * ramp(radius) * ramp(radius)
    return ramp((one + (two - one) * share[:, :, None]) * light[:, :, None])
