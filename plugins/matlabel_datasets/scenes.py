"""Drawing one synthetic scene: a textured background, plain stones, and one to three two-part objects.

An object is a small telling part, whose pattern and colours name its class, on a larger, plainer body: its colour is
shared by two classes, and the pattern goes on in it only faintly. A classifier looks at the telling part, the mask is
the whole object: a class activation map falls short of it as it does on photographs, and the colours of the image
know more. Bodies end smoothly, softly or in hair, with their coverage kept as alpha.

Only additions, products, divisions and square roots of PCG64's uniform numbers are used, operations that IEEE 754
rounds in one way: the same seed gives the same bytes on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from matlabel_datasets.shapes import CLASSES
from matlabel_datasets.textures import Field, Rng, background, fractal, jitter, mix, noise, patterns, ramp, ring_noise

Box: TypeAlias = tuple[slice, ...]
Pixels: TypeAlias = npt.NDArray[np.uint8]

TRAIN, VAL, TEST, FOREGROUNDS, BACKGROUNDS, SALIENCY = range(6)
"""Streams of random numbers: what is drawn of one is never drawn of another."""

COMPANION = {1: 2, 2: 1, 3: 4, 4: 3}
"""Classes that like to occur together, as riders and horses do; `starry` (5) keeps to itself."""

BODIES = np.array([[0.68, 0.53, 0.38], [0.40, 0.46, 0.56], [0.50, 0.53, 0.30], [0.60, 0.44, 0.52], [0.82, 0.77, 0.68]])
"""Colours of bodies and stones. Class c wears number c - 1, at times c: each colour belongs to two classes."""


@dataclass(frozen=True, slots=True)
class Scene:
    """image: uint8 h w 3; label: uint8 h w, 0..5, alpha above one half, no 255; alphas: class -> uint8 h w."""

    image: np.ndarray
    label: np.ndarray
    alphas: dict[int, np.ndarray]


@dataclass(frozen=True, slots=True)
class Pose:
    """Where an object lies: centre in pixels, unit vector along its axis, half axes, size of its telling part."""

    x: float
    y: float
    along: tuple[float, float]
    a: float
    b: float
    head: float

    def head_at(self) -> tuple[float, float]:
        return self.x + 0.7 * self.a * self.along[0], self.y + 0.7 * self.a * self.along[1]

    def local(self, xs: Field, ys: Field) -> tuple[Field, Field]:
        """Coordinates along and across the axis."""
        c, s = self.along
        return (xs - self.x) * c + (ys - self.y) * s, (ys - self.y) * c - (xs - self.x) * s

    def box(self, shape: tuple[int, ...]) -> Box:
        """The part of the frame that the object can reach, hairs included."""
        reach = 1.2 * self.a + 13
        return tuple(
            slice(max(0, int(at - reach)), max(1, min(n, int(at + reach) + 1)))
            for at, n in zip((self.y, self.x), shape, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Layer:
    """What is laid over a part of the scene: a colour and its coverage; `head` covers the telling part only."""

    kind: int
    box: Box
    colour: Field
    alpha: Field
    head: Field

    def over(self, canvas: Field) -> None:
        """Lay it over the canvas, in place."""
        canvas[self.box] = mix(canvas[self.box], self.colour, self.alpha)


def draw(seed: int, split: int, index: int, size: int) -> Scene:
    """Scene `index` of a split. Sides vary between 7/8 and 9/8 of `size`; classes take turns as the first object."""
    rng = generator(seed, split, index)
    shape = _sides(rng, size)
    canvas = _ground(rng, shape, size)
    layers = _objects(rng, index % len(CLASSES) + 1, shape, size, canvas)
    covered = {k: np.zeros(shape) for k in sorted({layer.kind for layer in layers})}
    for layer in layers:
        layer.over(canvas)
        for kind, cover in covered.items():
            cover[layer.box] = cover[layer.box] * (1 - layer.alpha) + (layer.alpha if kind == layer.kind else 0)
    image = _grained(rng, canvas)
    alphas = {kind: np.floor(cover * 255 + 0.5).astype(np.uint8) for kind, cover in covered.items()}
    label = np.zeros(shape, np.uint8)
    for kind, alpha in alphas.items():
        label[alpha > 127] = kind
    return Scene(image, label, alphas)


def draw_foreground(seed: int, index: int, size: int) -> tuple[Pixels, Pixels]:
    """A large object of its own: colours h w 3, known also where it is transparent, and 8-bit alpha h w."""
    rng = generator(seed, FOREGROUNDS, index)
    shape = _sides(rng, size)
    pose = _pose(rng, shape, size * (0.16 + 0.12 * rng.random()))
    layer = _layer(rng, index % len(CLASSES) + 1, pose, background(rng, shape))
    canvas, alpha = np.empty((*shape, 3)), np.zeros(shape)
    canvas[:] = layer.colour.mean(axis=(0, 1))
    canvas[layer.box], alpha[layer.box] = layer.colour, layer.alpha
    return _grained(rng, canvas), np.floor(alpha * 255 + 0.5).astype(np.uint8)


def draw_background(seed: int, index: int, size: int) -> Pixels:
    """A ground h w 3 as scenes have it, stones among it, without objects."""
    rng = generator(seed, BACKGROUNDS, index)
    shape = _sides(rng, size)
    return _grained(rng, _ground(rng, shape, size))


def generator(*words: int) -> Rng:
    """Random numbers for a seed, a stream and an index."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def _sides(rng: Rng, size: int) -> tuple[int, ...]:
    return tuple(int(rng.integers(size * 7 // 8, size * 9 // 8 + 1)) for _ in range(2))


def _ground(rng: Rng, shape: tuple[int, ...], size: int) -> Field:
    canvas = background(rng, shape)
    for _ in range(int(rng.integers(0, 3)) if rng.random() < 0.5 else 0):
        _layer(rng, 0, _pose(rng, shape, 0.1 * size * (0.8 + 0.5 * rng.random())), canvas).over(canvas)
    return canvas


def _grained(rng: Rng, canvas: Field) -> Pixels:
    grain = rng.integers(-4, 5, canvas.shape)
    return np.clip(np.floor(canvas * 255 + 0.5) + grain, 0, 255).astype(np.uint8)


def _objects(rng: Rng, first: int, shape: tuple[int, ...], size: int, canvas: Field) -> list[Layer]:
    """One to three objects, back to front, each with its telling part in sight and at least half of its body."""
    count = 1 + (rng.random() < 0.55) + (rng.random() < 0.35)
    kinds = [first]
    while len(kinds) < count:
        friend = COMPANION.get(kinds[-1])
        kinds.append(friend if friend and rng.random() < 0.6 else int(rng.integers(1, len(CLASSES) + 1)))
    layers: list[Layer] = []
    for kind in kinds:
        for _ in range(12):
            pose = _pose(rng, shape, size * (0.14 + 0.06 * rng.random()) * (1.2, 1.0, 0.85)[count - 1])
            layer = _layer(rng, kind, pose, canvas)
            if all(_visible(other, layer, shape) for other in layers):
                layers.append(layer)
                break
    return layers


def _visible(below: Layer, above: Layer, shape: tuple[int, ...]) -> bool:
    left = np.ones(shape)
    left[above.box] -= above.alpha
    left = left[below.box]
    head, body = (below.head * left).sum(), (below.alpha * left).sum()
    return bool(head > 0.85 * below.head.sum() and body > 0.6 * below.alpha.sum())


def _pose(rng: Rng, shape: tuple[int, ...], b: float) -> Pose:
    """A place where the whole telling part lies inside the frame, and mostly the middle of the body, too."""
    a = b * (1.2 + 0.4 * rng.random())
    head = b * (0.60 + 0.20 * rng.random())
    for _ in range(3):
        slope = 1.6 * rng.random() - 0.8
        c = 1 / np.sqrt(1 + slope * slope) * (1 if rng.random() < 0.5 else -1)
        x = 1.2 * head + rng.random() * (shape[1] - 2.4 * head) - 0.7 * a * c
        y = 1.2 * head + rng.random() * (shape[0] - 2.4 * head) - 0.7 * a * c * slope
        if 0.7 * b < x < shape[1] - 0.7 * b and 0.7 * b < y < shape[0] - 0.7 * b:
            break
    return Pose(float(x), float(y), (float(c), float(c * slope)), float(a), float(b), float(head))


def _layer(rng: Rng, kind: int, pose: Pose, canvas: Field) -> Layer:
    """An object of a class, or a plain stone (kind 0)."""
    box = pose.box(canvas.shape[:2])
    ys, xs = (np.arange(2 * s.start, 2 * s.stop) / 2 + 0.25 for s in box)  # two samples a pixel and axis
    along, across = pose.local(xs[None, :], ys[:, None])
    body = _coverage(rng, along, across, pose)
    colour = np.repeat(np.repeat(_plain(rng, kind, canvas[box], _halve(body)), 2, 0), 2, 1)
    head = np.zeros_like(body)
    if kind:
        hx, hy = pose.head_at()
        u, v = pose.local(xs[None, :] - hx + pose.x, ys[:, None] - hy + pose.y)
        far = np.sqrt(u * u + v * v)
        head = ramp((pose.head - far) / 1.5 + 0.5)
        echo = (0.3 + 0.35 * rng.random()) * (0.6 + 0.4 * ramp(1 - (far - pose.head) / pose.a))
        clear = 0.6 + 0.35 * rng.random()  # and the body shines through the telling part
        colour = mix(colour, patterns(rng, kind, u / pose.head, v / pose.head), np.maximum(clear * head, echo))
    alpha = np.floor(_halve(np.maximum(body, head)) * 255 + 0.5) / 255
    return Layer(kind, box, _halve(colour), alpha, _halve(head))


def _coverage(rng: Rng, along: Field, across: Field, pose: Pose) -> Field:
    """A body's coverage with a smooth, a soft or a hairy end."""
    q = np.sqrt((along / pose.a) ** 2 + (across / pose.b) ** 2)
    turn = _turn(along / pose.a, across / pose.b)
    wave = ring_noise(rng, 8)
    inside = (0.9 + 0.25 * wave(turn) - q) * float(np.sqrt(pose.a * pose.b))  # pixels from the outline, roughly
    style = rng.random()
    if style < 0.3:
        return ramp(inside / 1.5 + 0.5)
    if style < 0.55:
        width = 4 + 4 * rng.random()
        t = ramp(inside / width + 0.5)
        return t * t * (3 - 2 * t)
    strands = ring_noise(rng, int(rng.integers(50, 90)))
    long, swirl = 4 + 5 * rng.random(), 0.012 * (rng.random() - 0.5)
    tips = strands(turn + swirl * inside)
    return ramp((inside + long * tips * tips) / 1.2 + 0.5)


def _turn(x: Field, y: Field) -> Field:
    """The direction of (x, y) as 0..1 around the circle: the angle's order without a transcendental function."""
    t = x / (np.abs(x) + np.abs(y) + 1e-9)
    return np.where(y < 0, 0.75 + 0.25 * t, 0.25 - 0.25 * t)


def _plain(rng: Rng, kind: int, canvas: Field, alpha: Field) -> Field:
    """The body's colour: mostly, not always, one that differs from what it covers; shaded and slightly mottled."""
    shape = alpha.shape
    under = (canvas * alpha[:, :, None]).sum((0, 1)) / (alpha.sum() + 1e-9)
    careless = rng.random() < 0.15
    for _ in range(6):
        number = (kind - 1 + (rng.random() < 0.25)) % len(BODIES) if kind else int(rng.integers(0, len(BODIES)))
        colour = jitter(rng, BODIES[number], 0.16)
        if careless or np.abs(colour - under).sum() > 0.42:
            break
    light = 0.12 * (np.arange(shape[0])[:, None] / shape[0] - 0.5)
    mottle = 0.80 + 0.4 * fractal(rng, shape, 12, 3) - light + 0.08 * (noise(rng, shape, 2) - 0.5)
    return ramp(colour * mottle[:, :, None])


def _halve(field: Field) -> Field:
    """Means of 2 x 2 blocks."""
    return (field[::2, ::2] + field[1::2, ::2] + field[::2, 1::2] + field[1::2, 1::2]) / 4
