"""A part and its reference, called in turns on one scene; and the memory and first use of each by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from matlabel_bench.label import make_scores
from matlabel_bench.perf.book import Place
from matlabel_bench.perf.clock import alone, peak_mib, seconds_of, used_first
from matlabel_bench.perf.plan import Bench, Numbers, Step, Subject, guarded, setting
from matlabel_bench.perf.scenes import Scene
from matlabel_bench.spec import takes_maps

OURS, THEIRS = "", "reference "
"""What stands before the name of a metric."""
THRESHOLD = 0.5
"""Of the scores that a refiner gets."""
WARM = Scene(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8), 0, 1)
"""What a part gets before it is measured, so that everything is loaded."""


def arguments(kind: str, part: Any, scene: Scene) -> tuple[Any, ...]:
    """What the live function of a matting or refiner gets."""
    maps = takes_maps(part)
    if kind == "matting":
        return scene.image, scene.maps if maps else scene.trimap
    return scene.image, scene.tags, scene.maps if maps else make_scores(scene.maps, THRESHOLD)


@lru_cache(maxsize=64)
def live(kind: str, part: Any) -> Callable[..., Any]:
    """A part's live function, used once."""
    function: Callable[..., Any] = part.open(None)
    function(*arguments(kind, part, WARM))
    return function


def compare(subject: Subject, scene: Scene) -> tuple[dict[str, float], dict[str, Any], list[str]]:
    """Seconds of both and their ratio; what both answered, by OURS and THEIRS; why any of it is missing."""
    answers: dict[str, Any] = {}
    given = arguments(subject.kind, subject.part, scene)

    def measure(who: str, part: Any) -> Numbers:
        function = live(subject.kind, part)
        seconds, answers[who] = seconds_of(lambda: function(*given), subject.device)
        return {who + "seconds": seconds}

    out, reasons = _both(subject, measure)
    if len(out) == 2:
        out["speed ratio"] = out["reference seconds"] / max(out["seconds"], 1e-9)
    return out, answers, reasons


def once(bench: Bench, subject: Subject, sizes: Sequence[tuple[int, int]]) -> Iterator[Step]:
    """Steps for the memory of a subject, which is the same in every round; of the processor's, not of a card's."""
    section = subject.kind + "s"
    for size in sizes if subject.device == "cpu" else ():
        for classes in bench.options.classes[-1:] if bench.options.quick else bench.options.classes:
            place = Place(section, subject.name, setting(size, classes), what="memory")
            yield Step(place, partial(_memory, subject, bench, size, classes))


def _memory(subject: Subject, bench: Bench, size: tuple[int, int], classes: int) -> tuple[Numbers, str]:
    """The peak of one call of either, each in a process of its own."""
    scene = bench.scene(0, size, classes)
    out, reasons = _both(subject, lambda who, part: {who + "peak memory": alone(_peak, subject.kind, part, scene)})
    if len(out) == 2:
        out["memory ratio"] = out["peak memory"] / max(out["reference peak memory"], 1e-9)
    return out, "; ".join(reasons)


def first_use(subject: Subject) -> tuple[Numbers, str]:
    """Seconds until the part has answered once: on a machine that has compiled nothing, and after that."""

    def work() -> Numbers:
        first, again = used_first(live, subject.kind, subject.part)
        return {"first use": first, "next use": again}

    return guarded(work)


def _both(subject: Subject, work: Callable[[str, Any], Mapping[str, float]]) -> tuple[dict[str, float], list[str]]:
    """What `work` tells of the part, then of its reference; the reasons of what it cannot tell, each once."""
    out: dict[str, float] = {}
    reasons: dict[str, None] = {}
    for who, part in ((OURS, subject.part), (THEIRS, subject.rival)):
        told, reason = guarded(partial(work, who, part))
        out |= told
        if reason:
            reasons[reason] = None
    return out, list(reasons)


def _peak(kind: str, part: Any, scene: Scene) -> float:
    function, given = live(kind, part), arguments(kind, part, scene)
    return peak_mib(lambda: function(*given))
