"""Each refiner, or the piece of it that has a counterpart, beside its reference: seconds, memory, labels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from matlabel_bench.label import make_label
from matlabel_bench.perf.book import Place
from matlabel_bench.perf.pairs import compare, once
from matlabel_bench.perf.plan import Bench, Numbers, Step, Subject, setting
from matlabel_bench.perf.scenes import Scene
from matlabel_bench.types import Label

SECTION = "refiners"


def steps(bench: Bench) -> Iterator[Step]:
    """All settings in every round; memory once, behind the first."""
    options, subjects = bench.options, bench.subjects("refiner")
    for turn in range(options.repeat):
        for subject in subjects:
            for size in _sizes(bench, subject):
                for classes in options.classes:
                    place = Place(SECTION, subject.name, setting(size, classes), turn)
                    yield Step(place, partial(_work, subject, bench, turn, size, classes))
        if turn == 0:
            for subject in subjects:
                yield from once(bench, subject, _sizes(bench, subject))


def _sizes(bench: Bench, subject: Subject) -> tuple[tuple[int, int], ...]:
    """What the reference takes seconds for at a size of its own may take it hours at that of a photograph."""
    own = getattr(subject.part, "reference_size", None)
    return (tuple(own),) if own and not bench.options.quick else bench.options.sizes


def _work(subject: Subject, bench: Bench, turn: int, size: tuple[int, int], classes: int) -> tuple[Numbers, str]:
    scene = bench.scene(turn, size, classes)
    out, answers, reasons = compare(subject, scene)
    if len(answers) == 2:
        ours, theirs = (_label(answer, scene) for answer in answers.values())
        out["labels unlike the reference"] = 100 * float((ours != theirs).mean())
    return out, "; ".join(reasons)


def _label(found: Any, scene: Scene) -> Label:
    label: Label = make_label(found, scene.tags) if np.ndim(found) == 3 else found
    return label
