"""Seconds from an image to its maps and alphas, for the rows of every table that has a column of seconds.

What a network costs does not depend on its weights, so each is trained for a moment on synthetic scenes, with the
backbone, stride and scales of the profile. Its maps are drawn and put aside: a matting gets maps like those of a
trained network in their place, because it takes longer the more is unknown. One that takes several images at once gets
as many as a run would give it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from matlabel_bench import config, kit, registry, tables
from matlabel_bench.errors import UsageError
from matlabel_bench.images import enlarge
from matlabel_bench.kit import scenes as synthetic
from matlabel_bench.perf.book import Place
from matlabel_bench.perf.clock import alone, seconds_of
from matlabel_bench.perf.pairs import arguments
from matlabel_bench.perf.plan import Bench, Numbers, Step, guarded
from matlabel_bench.perf.scenes import Scene
from matlabel_bench.spec import runs_on, together
from matlabel_bench.tables import Column, Row
from matlabel_bench.timing import SIDE

SECTION = "seed"
KEPT = ("backbone", "scales", "size")
"""Fields that a quick training leaves as the profile has them, because inference costs what they say."""

SCENES = 8
"""Images of that training: two steps."""


@dataclasses.dataclass(frozen=True)
class Route:
    """A row of a table: its generator of maps, where that lies, and its matting."""

    table: str
    name: str
    cam: Any
    folder: Path
    matting: Any | None
    published: float | None

    @property
    def device(self) -> str:
        """Where its parts run."""
        return runs_on(self.cam, self.matting)


def steps(bench: Bench) -> Iterator[Step]:
    """Every row in every round, on one image of one class."""
    side = 64 if bench.options.quick else SIDE
    for turn in range(bench.options.repeat):
        for table, column, rows in timed_tables():
            for row in rows:
                setting = f"{table}, {side}x{side}, profile {profile(bench)}"
                work = partial(_step, bench, table, column, row, rows[0], turn, side)
                yield Step(Place(SECTION, row.name, setting, turn), work)


def timed_tables() -> list[tuple[str, Column, list[Row]]]:
    """Tables with a column of seconds: name, that column, and the rows that have a generator of maps."""
    out = []
    for name in tables.tables():
        table = tables.load_table(name)
        for column in [c for c in table.columns if c.metric == "seconds"][:1]:
            out.append((name, column, [r for r in table.rows if r.cam and r.trimap != "uncertainty"]))
    return out


def profile(bench: Bench) -> str:
    """Whose networks these are."""
    return "tiny" if bench.options.quick else bench.options.profile


@lru_cache(maxsize=64)
def route(bench: Bench, table: str, column: str, row: str) -> Route:
    """A row's parts, its network trained for a moment. Raises UsageError, MissingPart."""
    options = bench.options
    experiment = config.resolve([table], config.Options(profile=profile(bench), device=options.device))
    found = experiment.tables[0]
    ours = next(r for r in found.rows if r.name == row)
    where = next(c for c in found.columns if c.name == column)
    cam = experiment.part("cam", str(ours.cam), ours, where)
    cam = bench.made(str(ours.cam), type(cam), **{n: v for n, v in _fields(cam).items() if v is not None})
    named = ours.matting or where.matting
    matting = bench.made(named, registry.start()[0].get("matting", named).cls) if named else None
    if matting is not None and getattr(matting, "trains", False):
        raise UsageError("a matting that needs no training", named or "", "it is timed by `bench run` alone")
    return Route(table, row, cam, trained(bench, cam), matting, ours.published.get(column))


@lru_cache(maxsize=64)
def trained(bench: Bench, cam: Any) -> Path:
    """The folder of a network, trained for a moment in a process of its own; once for rows that share it."""
    folder = bench.scratch / f"cam{len(list(bench.scratch.glob('cam*')))}"
    folder.mkdir(parents=True)
    if getattr(cam, "trains", False):
        quick = {n: v for n, v in kit.cheap(type(cam)).items() if n not in KEPT}
        alone(_train, dataclasses.replace(cam, **quick), folder)
    return folder


def _train(cam: Any, folder: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        cam.fit(synthetic.split(folder / "scenes", SCENES), folder, 0)


def _fields(part: Any) -> dict[str, Any]:
    return {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}


def _step(bench: Bench, table: str, column: Column, row: Row, first: Row, turn: int, side: int) -> tuple[Numbers, str]:
    def work() -> Numbers:
        seconds = _seconds(bench, table, column.name, row.name, turn, side)
        base = _seconds(bench, table, column.name, first.name, turn, side)
        out = {"seconds": seconds, "ratio to the first row": seconds / max(base, 1e-9)}
        published, its_base = row.published.get(column.name), first.published.get(column.name)
        if published is not None:
            out["published seconds"] = published
            out |= {"published ratio": published / its_base} if its_base else {}
        return out

    return guarded(work)


@lru_cache(maxsize=16)
def _seconds(bench: Bench, table: str, column: str, row: str, turn: int, side: int) -> float:
    """Of one image, in a round; the first row of a round is measured once for all."""
    way = route(bench, table, column, row)
    scenes = [bench.scene(turn + i, (side, side), 1) for i in range(together(way.matting))]
    return seconds_of(passing(way, scenes), way.device)[0] / len(scenes)


def passing(way: Route, scenes: list[Scene]) -> Callable[[], Any]:
    """One pass from images to maps at their size, and to alphas; what is opened is used once before."""
    cam = opened(way.cam, way.folder)
    more = ["image"] if getattr(way.cam, "wants_id", False) else []
    matte: Any = opened(way.matting, None) if way.matting else None

    def once() -> Any:
        maps = [enlarge(cam(scene.image, scene.tags, *more), scene.size) for scene in scenes]
        if matte is None:
            return maps
        given = [arguments("matting", way.matting, scene) for scene in scenes]
        return matte(*given[0]) if len(scenes) == 1 else matte.many(*zip(*given, strict=True))

    _warmed(once, way, scenes[0].size)
    return once


@lru_cache(maxsize=64)
def opened(part: Any, folder: Path | None) -> Callable[..., Any]:
    """A part's live function."""
    function: Callable[..., Any] = part.open(folder)
    return function


_WARM: dict[tuple[Route, tuple[int, int]], float] = {}


def _warmed(once: Callable[[], Any], way: Route, size: tuple[int, int]) -> None:
    """Once for each size: libraries choose their algorithms by it."""
    if (way, size) not in _WARM:
        start = time.monotonic()
        once()
        _WARM[way, size] = time.monotonic() - start
