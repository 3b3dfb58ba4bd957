"""Pseudo-labels a second, files in and files out, by one worker and by more: image, maps, trimap, alpha, label.

Mattings that name a reference start from given maps, as where maps lie in the store; rows of a timed table from images.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import PIL.Image

from matlabel_bench.contracts import check_alpha
from matlabel_bench.images import enlarge, read_image, save_png, write_label
from matlabel_bench.label import make_label, make_scores
from matlabel_bench.perf.book import Place
from matlabel_bench.perf.pairs import THRESHOLD, arguments
from matlabel_bench.perf.plan import Bench, Numbers, Step, guarded
from matlabel_bench.perf.scenes import Scene
from matlabel_bench.perf.seed import Route, opened, route, timed_tables
from matlabel_bench.workers import Workers

SECTION = "labels"
EACH, MOST, EACH_DRAWN, LASTS = 12, 60, 2, 6.0
"""Images for each of the most workers: with given maps, so many that they last some seconds by what the matting says of
itself, since what a pool takes to begin and to end is no part of a rate; and where a network draws them first."""
PATIENCE = 120.0
"""Seconds that a worker waits for the others to be up."""
CLASSES = 2


@dataclass(frozen=True)
class Way:
    """From an image to its label: a generator of maps, or None for given ones, and a matting."""

    cam: Any | None
    folder: Path | None
    matting: Any
    out: Path


@dataclass(frozen=True)
class Item:
    """An image in a file, and the seed of its given maps."""

    path: Path
    seed: int


def steps(bench: Bench) -> Iterator[Step]:
    """Every way, by every number of workers, in every round."""
    options, subjects = bench.options, bench.subjects("matting")
    rows = [(t, c, r) for t, c, rows in timed_tables() for r in rows if r.matting or c.matting]
    size = options.sizes[0]
    for turn in range(options.repeat):
        for count in counts(options.workers):
            for subject in subjects:
                if count == 1 or subject.device == "cpu":
                    way = Way(None, None, subject.part, bench.scratch / "labels")
                    place = Place(SECTION, subject.name, named(size, count, "from maps"), turn)
                    yield Step(place, partial(_step, bench, partial(_same, way), subject.name, count, turn))
            for table, column, row in rows if not options.parts else []:
                if count == 1 or options.device == "cpu":
                    made = partial(_row, bench, table, column.name, row.name)
                    place = Place(SECTION, f"{row.name} ({table})", named(size, count, "from images"), turn)
                    yield Step(place, partial(_step, bench, made, row.name, count, turn))


def counts(most: int) -> list[int]:
    """1, 2, 4 and so on, and the most."""
    out = [1]
    while 2 * out[-1] < most:
        out.append(2 * out[-1])
    return out + [most] * (most > 1)


def named(size: tuple[int, int], count: int, start: str) -> str:
    """`375x500, 2 classes, from maps, 2 workers`."""
    return f"{size[0]}x{size[1]}, {CLASSES} classes, {start}, {count} worker{'s' * (count > 1)}"


def _same(way: Way) -> Way:
    return way


def _row(bench: Bench, table: str, column: str, row: str) -> Way:
    found: Route = route(bench, table, column, row)
    return Way(found.cam, found.folder, found.matting, bench.scratch / "labels")


def _step(bench: Bench, made: Any, name: str, count: int, turn: int) -> tuple[Numbers, str]:
    def work() -> Numbers:
        way = made()
        seconds, busy, images = _run(bench, way, count, turn)
        alone = _run(bench, way, 1, turn)[0]
        return {
            "images per second": images / seconds,
            "ratio to one worker": alone / seconds,
            "seconds of a core an image": busy / images,
        }

    return guarded(work)


@lru_cache(maxsize=64)
def _run(bench: Bench, way: Way, count: int, turn: int) -> tuple[float, float, int]:
    """Seconds by the clock, seconds of computing in all workers, and images; all workers are up before."""
    items, workers = _items(bench, _each(way)), Workers(count)
    work = partial(label_images, way)
    for _ in range(2):  # the call after the one that starts workers is late too
        with tempfile.TemporaryDirectory(dir=bench.scratch) as meeting:
            list(workers.map(partial(_meet, way, Path(meeting), count), (items * count)[:count]))
    start = time.perf_counter()
    busy = sum(workers.map(work, items))
    return time.perf_counter() - start, busy, len(items)


def _meet(way: Way, meeting: Path, count: int, items: Sequence[Item]) -> None:
    """Load all that is needed, then wait until every worker has, so that none gets the item of another."""
    label_images(way, items)
    (meeting / str(os.getpid())).touch()
    end = time.monotonic() + PATIENCE
    while len(list(meeting.iterdir())) < count and time.monotonic() < end:
        time.sleep(0.01)


def _each(way: Way) -> int:
    if way.cam is not None:
        return EACH_DRAWN
    cost = float(getattr(way.matting, "cost", 0.1))
    return min(MOST, max(EACH, round(LASTS / cost))) if cost else MOST


@lru_cache(maxsize=8)
def _items(bench: Bench, each: int) -> list[Item]:
    """Photographs as files, as many as the most workers are to have."""
    number = bench.options.workers * (2 if bench.options.quick else each)
    out = []
    for index in range(number):
        scene = bench.scene(index, bench.options.sizes[0], CLASSES)
        path = bench.scratch / "photos" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(path, PIL.Image.fromarray(scene.image))
        out.append(Item(path, scene.seed))
    return out


def label_images(way: Way, items: Sequence[Item]) -> float:
    """Read, label and write images; seconds of computing."""
    start = time.process_time()
    matte = opened(way.matting, None)
    way.out.mkdir(parents=True, exist_ok=True)
    for item in items:
        scene = Scene(read_image(item.path), item.seed, CLASSES)
        if way.cam is not None:
            more = [item.path.stem] if getattr(way.cam, "wants_id", False) else []
            enlarge(opened(way.cam, way.folder)(scene.image, scene.tags, *more), scene.size)
        given = arguments("matting", way.matting, scene)
        maps, trimap = scene.maps, given[1]
        alpha = check_alpha(matte(*given), trimap, "bench perf")
        write_label(way.out / item.path.name, make_label(make_scores(alpha, THRESHOLD, maps), scene.tags))
    return time.process_time() - start
