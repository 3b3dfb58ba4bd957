"""How the seconds of a matting grow with the image's side and with the number of classes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from matlabel_bench.perf.book import Place
from matlabel_bench.perf.clock import seconds_of
from matlabel_bench.perf.pairs import arguments, live
from matlabel_bench.perf.plan import Bench, Numbers, Step, Subject, guarded, setting

SECTION = "growth"
CLASSES = (1, 2, 3, 4)
USUAL = 2
"""Classes of the images whose sides grow."""


def steps(bench: Bench) -> Iterator[Step]:
    """All sides at USUAL classes, and all CLASSES at the middle side, in every round."""
    sides, subjects = bench.options.sides, bench.subjects("matting")
    middle = sides[len(sides) // 2]
    cases = [(side, USUAL) for side in sides] + [(middle, c) for c in CLASSES if c != USUAL]
    for turn in range(bench.options.repeat):
        for subject in subjects:
            for side, classes in cases:
                place = Place(SECTION, subject.name, setting((side, side), classes), turn)
                yield Step(place, partial(guarded, partial(_seconds, subject, bench, turn, side, classes)))


def _seconds(subject: Subject, bench: Bench, turn: int, side: int, classes: int) -> Numbers:
    scene = bench.scene(turn, (side, side), classes)
    function, given = live(subject.kind, subject.part), arguments(subject.kind, subject.part, scene)
    return {"seconds": seconds_of(lambda: function(*given), subject.device)[0]}
