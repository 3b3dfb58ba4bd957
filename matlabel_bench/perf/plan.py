"""What is to be measured: options, the parts that can be, the photographs, and the steps of all sections."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from matlabel_bench import fields, registry
from matlabel_bench.config import parse_sets
from matlabel_bench.errors import BenchError, DataError, MissingPart, UsageError, near
from matlabel_bench.images import read_image
from matlabel_bench.perf.book import Place
from matlabel_bench.perf.scenes import Scene, sized
from matlabel_bench.profiles import load_profile
from matlabel_bench.spec import runs_on
from matlabel_bench.types import Image
from matlabel_bench.workers import cores

SECTIONS = ("mattings", "seed", "refiners", "labels", "growth")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
Numbers = Mapping[str, float]
"""By metric; see book.METRICS."""
DEFAULT = "tiny"
"""The profile whose data set is taken where none is named."""


@dataclass(frozen=True)
class PerfOptions:
    """The command line's options of `bench perf`."""

    only: tuple[str, ...] = SECTIONS
    parts: tuple[str, ...] = ()
    """Names of the parts to measure; empty: all that have a reference."""
    repeat: int = 5
    """Rounds; each takes the next photograph."""
    images: Path | None = None
    dataset: str | None = None
    data_root: str | None = None
    profile: str = "paper"
    """Whose networks the seed is timed with."""
    sets: tuple[str, ...] = ()
    device: str = "cpu"
    workers: int = dataclasses.field(default_factory=cores)
    out: Path = Path("reports")
    quick: bool = False

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of the images that mattings and refiners get."""
        return ((48, 64),) if self.quick else ((375, 500), (512, 512))

    @property
    def sides(self) -> tuple[int, ...]:
        """Of the square images over which growth is shown."""
        return (32, 64) if self.quick else (256, 384, 512, 768, 1024)

    @property
    def classes(self) -> tuple[int, ...]:
        """Numbers of classes an image is to have."""
        return (1, 2, 3)


@dataclass(frozen=True)
class Subject:
    """A part that names a reference, and that reference."""

    kind: str
    name: str
    part: Any
    rival: Any

    @property
    def device(self) -> str:
        """Where it computes."""
        return runs_on(self.part)


@dataclass(frozen=True)
class Step:
    """One measurement: its place, and what gives its numbers by metric, and a reason for those that are missing."""

    place: Place
    work: Callable[[], tuple[Numbers, str]]


@dataclass(frozen=True, eq=False)
class Bench:
    """Options with what they name: the photographs and the parts."""

    options: PerfOptions
    scratch: Path
    """A folder for what lives no longer than the measurement."""

    def __post_init__(self) -> None:
        """Raises UsageError for options that fit nothing, before anything is measured."""
        options, parts = self.options, registry.start()[0]
        for name in ("repeat", "workers"):
            if getattr(options, name) < 1:
                raise UsageError(f"--{name} of at least 1", str(getattr(options, name)), f"choose --{name} >= 1")
        load_profile(options.profile)
        for target, value in parse_sets(options.sets).items():
            name, _, field = target.rpartition(".")
            for entry in parts.find(name):
                fields.build(entry.cls, {field: value}, name)
        for name in options.parts:
            parts.find(name)
            measured = [s.name for kind in ("matting", "refiner") for s in self.subjects(kind, every=True)]
            if name not in measured:
                raise UsageError("a part that names a reference", repr(name), near(name, measured))

    @cached_property
    def photos(self) -> tuple[Image, ...]:
        """One for each round, if there are so many. Raises DataError and UsageError where there is none."""
        options = self.options
        paths = _files(options.images) if options.images else [s.path for s in self._samples()]
        return tuple(read_image(path) for path in paths[: options.repeat])

    def scene(self, turn: int, size: tuple[int, int], classes: int) -> Scene:
        """The photograph of a round."""
        number = turn % len(self.photos)
        return Scene(sized(self.photos[number], size), number, classes)

    def subjects(self, kind: str, *, every: bool = False) -> list[Subject]:
        """The parts of a kind that name a reference, or whose `piece` does, as `--set` and `--device` make them.

        Args:
            every: those too that `--part` leaves out.
        """
        out = []
        for entry in registry.start()[0]:
            if entry.kind != kind or (self.options.parts and not every and entry.name not in self.options.parts):
                continue
            part = self.made(entry.name, entry.cls)
            piece = part.piece() if hasattr(part, "piece") else part
            rival = piece.reference() if hasattr(piece, "reference") else None
            if rival is not None:
                out.append(Subject(kind, entry.name, piece, rival))
        return out

    def made(self, name: str, cls: type, **values: Any) -> Any:
        """A part with the options' fields. Raises UsageError."""
        known = {f.name for f in dataclasses.fields(cls)}
        given = {"device": self.options.device} if "device" in known else {}
        sets = parse_sets(self.options.sets)
        own = {k.rpartition(".")[2]: v for k, v in sets.items() if k.rpartition(".")[0] == name}
        return fields.build(cls, given | values | own, name)

    def _samples(self) -> Any:
        options, profile = self.options, load_profile(DEFAULT)
        name = options.dataset or profile.dataset
        root = {"root": str(Path(options.data_root).absolute())} if options.data_root else {}
        try:
            dataset = registry.start()[0].make("dataset", name, **root)
        except MissingPart as err:
            raise UsageError(err.expected, err.got, err.remedy) from None
        splits = dataset.split_names()
        if not splits:
            raise DataError(f"a split of data set {name}", "none", "check --data-root")
        return dataset.split(profile.split if profile.split in splits else splits[0]).samples


def setting(size: tuple[int, int], classes: int) -> str:
    """`375x500, 3 classes`."""
    return f"{size[0]}x{size[1]}, {classes} class{'es' * (classes > 1)}"


def guarded(work: Callable[[], Numbers]) -> tuple[Numbers, str]:
    """The numbers, or the reason why there are none: what is not installed, or gives up, keeps nothing else away."""
    try:
        return work(), ""
    except BenchError as err:
        return {}, f"expected {err.expected}; got {err.got}; {err.remedy}"
    except (Exception, SystemExit) as err:  # a part may be anyone's
        where = traceback.extract_tb(err.__traceback__)[-1]
        return {}, f"{type(err).__name__}: {err} ({Path(where.filename).name}:{where.lineno})"


def _files(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        got = "no such folder" if not folder.is_dir() else "no picture in it"
        raise UsageError("a folder of photographs for --images", f"{folder} ({got})", "give a folder of JPEG or PNG")
    return found
