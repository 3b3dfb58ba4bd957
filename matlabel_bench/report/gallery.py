"""Picture galleries whose images a rule chooses: failures (figure 2 of the supplement) and examples (its figure 4).

An image's own mIoU is the mean of IoU over the classes of its mask, background included; ignored pixels count nowhere.
Nobody picks an image: the rule, the counts and the ids decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from matlabel_bench.errors import DataError, UsageError, near
from matlabel_bench.report import pictures
from matlabel_bench.report.model import Chosen, Gallery
from matlabel_bench.stats import Counts
from matlabel_bench.types import Alpha, Image, Label, Tags, Trimap

RULES = {
    "worst": "the images whose mIoU changes for the worst, the worst first",
    "even": "images evenly spread over the change of their mIoU, from the greatest loss to the greatest gain",
}
HEIGHT = 110
"""Pixels of a panel's height."""

Maps = Float32[np.ndarray, "k h w"]


@dataclass(frozen=True, slots=True)
class Scene:
    """What is drawn of one image. Planes are in the order of its tags, at the image's size."""

    image: Image
    tags: Tags
    truth: Label
    maps: Mapping[str, Maps] = field(default_factory=dict)
    """By row, in the order of drawing; in [0, 1]."""
    trimap: Trimap | None = None
    alpha: Alpha | None = None
    labels: Mapping[str, Label] = field(default_factory=dict)
    """By row, in the order of drawing."""


Load = Callable[[str], Scene]
"""Image id -> what is drawn of it. All scenes of a gallery have maps and labels of the same rows."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen image: its mIoU in both rows, per cent, and the class whose planes are drawn (0: none)."""

    id: str
    before: float
    after: float
    shown: int


def choose(before: Counts, after: Counts, rule: str, count: int) -> tuple[Choice, ...]:
    """The images that `rule` takes, in the order in which they are drawn.

    `worst` takes the lowest changes of mIoU from `before` to `after`; `even` sorts all images by it and takes the
    first, the last, and those at equal steps between them. Equal changes are sorted by id. The class shown is the one
    of the mask whose IoU changes most; of several the largest, then the lowest. Fewer images than `count`: all.

    Raises:
        UsageError: an unknown rule, or a count below 1.
        DataError: the rows were not scored on the same images and masks, or no image has a scored pixel.
    """
    if rule not in RULES:
        raise UsageError("a rule for pictures", repr(rule), near(rule, RULES))
    if count < 1:
        raise UsageError("at least one picture", str(count), "raise count")
    if before.ids != after.ids or not np.array_equal(before.values[:, 1], after.values[:, 1]):
        raise DataError("two rows scored on the same images and masks", "others", "score both rows on one split")
    one, other = _ious(before), _ious(after)
    there = before.values[:, 1] > 0
    means = [np.where(there, ious, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1) for ious in (one, other)]
    scored = np.flatnonzero(there.any(axis=1))
    if not scored.size:
        raise DataError("an image with a scored pixel", "none", "check the masks of this split")
    order = sorted(scored.tolist(), key=lambda i: (float(means[1][i] - means[0][i]), before.ids[i]))
    places = range(min(count, len(order))) if rule == "worst" else _steps(len(order), count)
    shown = _shown(np.abs(other - one), before.values[:, 1])
    return tuple(
        Choice(before.ids[i], float(means[0][i]), float(means[1][i]), int(shown[i])) for i in (order[p] for p in places)
    )


def draw(choices: Sequence[Choice], load: Load, class_names: Sequence[str], path: Path, height: int = HEIGHT) -> None:
    """Write one PNG with a line for each choice, scenes being loaded one by one; background is the first class name.

    Raises:
        ContractError: scenes with other panels than the first, or planes that do not fit the tags.
        DataError: the file cannot be written.
    """
    titles: list[str] = []
    lines = []
    for choice in choices:
        panels = _panels(load(choice.id), choice.shown)
        titles = titles or [title for title, _ in panels]
        name = f", {class_names[choice.shown]}" if choice.shown else ""
        change = f"{choice.before:.1f} to {choice.after:.1f} ({choice.after - choice.before:+.1f})"
        lines.append(pictures.Line(tuple(p for _, p in panels), f"{choice.id}{name}: {change}"))
    pictures.grid(lines, titles, path, height)


def make(
    folder: Path,
    rows: tuple[str, str],
    counts: tuple[Counts, Counts],
    load: Load,
    class_names: Sequence[str],
    *,
    rule: str = "worst",
    count: int = 8,
) -> Gallery:
    """Choose, draw `folder`/figure.png, and return what the report prints (`Extras.gallery`).

    Args:
        rows: names of the two rows, before and after.
        counts: their counts, each at its own threshold, of one seed.
        load: called once for each chosen image.
        class_names: background first.

    Raises:
        UsageError, DataError, ContractError: as `choose` and `draw` do; nothing is written then.
    """
    choices = choose(*counts, rule, count)
    gallery = Gallery(
        *rows,
        rule=f"Chosen by rule: {RULES[rule]} ({rows[0]} to {rows[1]}, {len(counts[0].ids)} images).",
        chosen=tuple(Chosen(c.id, c.before, c.after, class_names[c.shown] if c.shown else "") for c in choices),
    )
    draw(choices, load, class_names, folder / gallery.file)
    return gallery


def _ious(counts: Counts) -> Float64[np.ndarray, "n c"]:
    """Per cent, of each image and class; 0 where the union is empty."""
    hits, truth, predicted = np.moveaxis(counts.values.astype(np.float64), 1, 0)
    return np.asarray(100 * hits / np.maximum(truth + predicted - hits, 1))


def _steps(images: int, count: int) -> list[int]:
    """`count` places from first to last at equal steps; the middle one for a single picture."""
    if count == 1:
        return [(images - 1) // 2]
    count = min(count, images)
    return [round(j * (images - 1) / max(count - 1, 1)) for j in range(count)]


def _shown(change: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The foreground class of each image's mask with the greatest change; 0 where there is none."""
    out = np.zeros(len(change), dtype=np.int64)
    for i in range(len(change)):
        present = np.flatnonzero(truth[i, 1:]) + 1
        if present.size:
            out[i] = min(present.tolist(), key=lambda c: (-change[i, c], -truth[i, c], c))
    return out


def _panels(scene: Scene, shown: int) -> list[tuple[str, pictures.Panel]]:
    """Titles and panels of one line."""
    image, size = scene.image, scene.image.shape[:2]

    def plane(planes: np.ndarray) -> np.ndarray:
        found = np.flatnonzero(np.asarray(scene.tags) == shown)
        return planes[found[0]] if found.size else np.zeros(size, dtype=planes.dtype)

    out = [("image", image)]
    out += [(row, pictures.heat(plane(maps), image)) for row, maps in scene.maps.items()]
    out += [
        (t, pictures.grey(plane(p))) for t, p in (("trimap", scene.trimap), ("alpha", scene.alpha)) if p is not None
    ]
    several = len(scene.labels) > 1
    out += [(f"label, {row}" if several else "label", pictures.paint(b, image)) for row, b in scene.labels.items()]
    return [*out, ("mask", pictures.paint(scene.truth, image))]
