"""Synthetic scenes for the kit: a disc (class 1) and a square (class 2) on a noisy ground, exact and reproducible."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from matlabel_bench.types import BACKGROUND, FOREGROUND, UNKNOWN, Cams, Image, Label, Sample, Scores, Split, Trimap

CLASSES = ("disc", "square")
SIZES = ((61, 83), (80, 64), (75, 75))
"""Rows and columns; odd ones among them, because networks and pyramids like to round."""
TAGS: tuple[tuple[int, ...], ...] = ((1,), (1, 2), (2,), ())
COLOURS = np.array([[200, 60, 50], [50, 90, 210]])
RADIUS = 0.18
"""Of an object, as a share of the image's smaller side."""


def distance(h: int, w: int, tags: Sequence[int]) -> np.ndarray:
    """k h w float64: distance from each object's middle, 1 at its edge. Disc left, square right of the centre."""
    rows, cols = np.mgrid[:h, :w].astype(float)
    planes = []
    for tag in tags:
        dy, dx = rows - h / 2, cols - w * (0.28 if tag == 1 else 0.72)
        span = np.hypot(dy, dx) if tag == 1 else np.maximum(abs(dy), abs(dx))
        planes.append(span / max(RADIUS * min(h, w), 1))
    return np.array(planes).reshape(len(planes), h, w)


def image(h: int, w: int, tags: Sequence[int], seed: int = 0) -> Image:
    """The scene's pixels, h w 3 uint8."""
    noise = np.random.default_rng(seed).normal(0, 12, (h, w, 3))
    ground = np.broadcast_to(np.linspace(90, 150, w)[None, :, None], (h, w, 3)).copy()
    for tag, plane in zip(tags, distance(h, w, tags), strict=True):
        ground[plane < 1] = COLOURS[tag - 1]
    return np.clip(ground + noise, 0, 255).astype(np.uint8)


def trimap(h: int, w: int, tags: Sequence[int]) -> Trimap:
    """Certain inside and outside, unknown around each edge."""
    away = distance(h, w, tags)
    out = np.full(away.shape, UNKNOWN, np.uint8)
    out[away < 0.6] = FOREGROUND
    out[away > 1.5] = BACKGROUND
    return out


def maps(h: int, w: int, tags: Sequence[int]) -> Cams:
    """Soft evidence for each object, 1 well inside it and 0 far outside: k h w."""
    out: Cams = np.clip(1.3 - 0.7 * distance(h, w, tags), 0, 1).astype(np.float32)
    return out


def scores(h: int, w: int, tags: Sequence[int]) -> Scores:
    """Soft evidence for each object against a constant background, summing to 1 over the planes."""
    planes = np.concatenate([np.full((1, h, w), 0.35), maps(h, w, tags)])
    out: Scores = (planes / planes.sum(axis=0)).astype(np.float32)
    return out


def label(h: int, w: int, tags: Sequence[int]) -> Label:
    """The exact label of the scene."""
    out = np.zeros((h, w), np.uint8)
    for tag, plane in zip(tags, distance(h, w, tags), strict=True):
        out[plane < 1] = tag
    return out


def size(sample: Sample) -> tuple[int, int]:
    """Rows and columns of a sample's image."""
    h, w, _ = sample.read().shape
    return h, w


def name(h: int, w: int, tags: Sequence[int]) -> str:
    """The id of a scene that is tried: for parts that go by ids."""
    return f"case_{h}x{w}_{len(tags)}"


def folders(root: Path) -> dict[str, Path]:
    """Other data, as a data set may bring it: labels ID.png under several names, and composites."""
    from PIL import Image as Pillow

    labels, composites = root / "labels", root / "composites"
    for folder in (labels, *(composites / part for part in ("fg", "alpha", "bg"))):
        folder.mkdir(parents=True, exist_ok=True)
    for (h, w), tags in zip((*SIZES, SIZES[0]), TAGS, strict=True):
        Pillow.fromarray(label(h, w, tags)).save(labels / f"{name(h, w, tags)}.png")
    for index in range(4):
        Pillow.fromarray(image(96, 96, (1,), seed=index)).save(composites / "fg" / f"{index}.png")
        alpha = np.rint(255 * maps(96, 96, (1,))[0]).astype(np.uint8)
        Pillow.fromarray(alpha).save(composites / "alpha" / f"{index}.png")
        Pillow.fromarray(image(96, 96, (), seed=index)).save(composites / "bg" / f"{index}.png")
    return {"maps": labels, "saliency": labels, "composites": composites}


def split(folder: Path, count: int = 24) -> Split:
    """A split of written images with one, two and, once, no objects. Images and tags alone: no mask is written."""
    from PIL import Image as Pillow

    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for index in range(count):
        tags = () if index == 0 else ((1,), (2,), (1, 2))[index % 3]
        path = folder / f"scene_{index:02d}.png"
        Pillow.fromarray(image(*SIZES[index % len(SIZES)], tags, seed=index)).save(path)
        samples.append(Sample(path.stem, path, tags))
    return Split("kit", "train", CLASSES, tuple(samples))
