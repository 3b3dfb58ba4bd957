"""Each matting beside its reference: seconds, memory, and both held against the exact solution of the system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np

from matlabel_bench.perf.book import Place
from matlabel_bench.perf.pairs import arguments, compare, first_use, once
from matlabel_bench.perf.plan import Bench, Numbers, Step, Subject, guarded, setting
from matlabel_bench.perf.scenes import Scene, label_of
from matlabel_bench.types import UNKNOWN, Alpha

SECTION = "mattings"


def steps(bench: Bench) -> Iterator[Step]:
    """All settings in every round; memory and first use once, behind the first."""
    options, subjects = bench.options, bench.subjects("matting")
    for turn in range(options.repeat):
        for size in options.sizes:
            for subject in subjects:
                for classes in options.classes:
                    place = Place(SECTION, subject.name, setting(size, classes), turn)
                    yield Step(place, partial(_work, subject, bench, turn, size, classes))
        if turn == 0:
            for subject in subjects:
                yield from once(bench, subject, options.sizes)
                if not options.quick:  # half a minute of compiling
                    yield Step(Place(SECTION, subject.name, "first use"), partial(first_use, subject))


def _work(subject: Subject, bench: Bench, turn: int, size: tuple[int, int], classes: int) -> tuple[Numbers, str]:
    """Both in turns; where the part knows what is exact, how far both are from it, once a photograph."""
    scene = bench.scene(turn, size, classes)
    out, alphas, reasons = compare(subject, scene)
    out["unknown pixels"] = 100 * float((scene.trimap == UNKNOWN).mean())
    if hasattr(subject.part, "exact") and turn < len(bench.photos):
        told, reason = guarded(partial(_apart, alphas, subject.part, bench, turn, size, classes))
        out |= told
        reasons += [reason] * bool(reason)
    return out, "; ".join(reasons)


def _apart(
    alphas: Mapping[str, Alpha], part: Any, bench: Bench, turn: int, size: tuple[int, int], classes: int
) -> Numbers:
    """How far alphas are from the exact ones where the trimap is unknown, and the share of pixels of another label."""
    scene = bench.scene(turn, size, classes)
    exact = np.stack([_exact(part, bench, turn, size, number) for number in range(classes)])
    out = {}
    for who, alpha in alphas.items():
        off = np.abs(alpha - exact)[scene.trimap == UNKNOWN]
        out[who + "largest alpha difference"] = float(off.max(initial=0))
        out[who + "mean alpha difference"] = float(off.mean()) if off.size else 0.0
        out[who + "labels that differ"] = 100 * float((label_of(alpha) != label_of(exact)).mean())
    return out


@lru_cache(maxsize=8)
def _exact(part: Any, bench: Bench, turn: int, size: tuple[int, int], number: int) -> np.ndarray:
    """The alpha of one class, which is the same however many others are measured with it."""
    scene: Scene = bench.scene(turn, size, number + 1)
    image, given = arguments("matting", part, scene)
    plane: np.ndarray = part.exact(image, given[number:])[0]
    return plane
