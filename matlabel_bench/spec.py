"""The protocols of the parts and the hooks a plugin may implement: the public promise of this project.

A part is a frozen dataclass whose fields are declared with `knob`. Constructing one is cheap: torch, mmengine,
pymatting and pydensecrf are imported inside `fit` and `open`. Class attributes say what fields cannot:

    version: ClassVar[int]              raise it when the same fields give another result; it enters the cache key
    supervision: ClassVar[tuple[str, ...]]   what it learned from beyond image tags, e.g. ("saliency",); default ()
    trains: ClassVar[bool]              whether `fit` must run before `open`; default False
    cost: ClassVar[float]               rough seconds for a 375x500 image on one core, for `bench plan`; default 0.1
    fit_cost: ClassVar[float]           rough seconds for an image once through a training; default 0.1
    leaves: ClassVar[tuple[float, float]]    rough bytes a training leaves: once, and for an image; default (1e8, 0)
    published_in: ClassVar[str]         the paper, for `bench show`
    takes: ClassVar[str]                of a refiner: "scores" (default), or "maps", the seed before any threshold;
                                        of a matting: "trimap" (default), or "maps"
    reference_size: ClassVar[tuple[int, int]]    h, w at which `bench perf` calls the part and its reference
    wants_id: ClassVar[bool]            whether the live function gets the image's id last; default False
    runs_on: ClassVar[str]              where it runs; default its field `device`, or "cpu". May be a property
    together: ClassVar[int]             of a matting: images that are less work at once, at most so many; default 1

Where `together` is above 1, the live function of the matting has an attribute `many`: a sequence of images and one of
their trimaps (or maps) -> a list of alphas, or of MattingFailed, each of them what the image alone gets, but for
rounding. The images of a split are always given in the same groups. Where `many` raises, each image is tried alone.

A method `note(self) -> str`, if there is one, gives a line that is printed under every table with the part.

A CAM generator or matting whose training goes on from another's has a method `stem(self) -> part | None`. That part,
of a registered class, is trained first, once for all trainings whose stems are equal, and `fit` gets its folder as the
keyword `stem`; called without it, `fit` trains the stem itself.

For `bench perf` a matting or refiner that needs no training may say what it is measured beside: `reference(self)` gives
what answers the same questions by another implementation, a part or anything frozen with `open(out)`, or None. A
matting may solve its own system exactly, each class by itself: `exact(self, image, trimap) -> Alpha`. Where only a
piece of a part has a counterpart, `piece(self)` gives that, with `open` and `reference` of its own.

`fit(..., out, seed)` writes weights into the folder `out`, which may hold what an interrupted call left there
(checkpoints, from which it continues). `open(out, ...)` returns the live function; it is called once in each worker.
A field named `device` with key="none" receives the run's --device. An empty field with key="folder" receives the folder
of the same name that the data set brings (`folders`), if it brings one; `dataset:NAME` is another data set's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pluggy

from matlabel_bench.types import Alpha, Cams, Image, Label, Scores, Split, Tags, Trimap

if TYPE_CHECKING:
    from matlabel_bench.registry import Registry

PROJECT = "matlabel_bench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

KINDS = ("dataset", "cam", "matting", "refiner", "segmenter")

MaskReader = Callable[[str], Label]
"""Image id -> ground-truth mask, h w, 0..N with 255 ignored. Only `score` ever holds one."""


@runtime_checkable
class Dataset(Protocol):
    """Images with tags. Its folder is a field `root` with key="none": where files lie never enters a cache key."""

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes 1..N, without background."""

    def split_names(self) -> tuple[str, ...]:
        """The splits that exist on disk."""

    def split(self, name: str) -> Split:
        """Samples of a split in a fixed order. Raises DataError for a split that is absent or malformed."""

    def masks(self, name: str) -> MaskReader | None:
        """A reader of the split's masks, None where it has none. The reader raises DataError for a bad mask."""

    def mask_files(self, name: str) -> Mapping[str, Path]:
        """Image id -> mask file, for the fingerprint of a score; empty where the split has no masks."""

    # Optional: `folders() -> Mapping[str, Path]`, other data that the data set brings, by name: "saliency" (grey maps
    # ID.png), "composites" (fg/, alpha/, bg/). A part with an empty field of that name and key="folder" gets the path.


@runtime_checkable
class CamGenerator(Protocol):
    """Class activation maps from tags. `fit` sees images and tags only."""

    def fit(self, train: Split, out: Path, seed: int) -> None:
        """Train and leave everything `open` needs in `out`."""

    def open(self, out: Path) -> Callable[[Image, Tags], Cams]:
        """The live generator. Its maps are in [0, 1], each channel scaled to maximum 1 (or all zero)."""


@runtime_checkable
class Matting(Protocol):
    """Alpha from a trimap, or (`takes = "maps"`) from the maps, float32 k h w in [0, 1] at the image's size.

    All classes of an image arrive together, because they share the image's Laplacian.
    """

    def fit(self, train: Split, out: Path, seed: int) -> None:
        """Train, or take over weights from a file, if the part `trains`; sees images and tags only."""

    def open(self, out: Path | None) -> Callable[[Image, Trimap | Cams], Alpha]:
        """The live solver. It raises MattingFailed where it cannot solve; within 0.01 of the trimap where known."""


@runtime_checkable
class Refiner(Protocol):
    """Better labels from scores, or (`takes = "maps"`) from the seed before any threshold.

    Maps are float32 k h w in [0, 1] at the image's size: class maps, alphas, or an earlier refiner's label as planes of
    0 and 1. A refiner that takes them decides on the background by a field of its own, named `threshold`.
    """

    def fit(self, train: Split, scores: Mapping[str, Scores | Cams], out: Path, seed: int) -> None:
        """Train on the scores (or maps) of every sample, read lazily by image id."""

    def open(self, out: Path | None) -> Callable[[Image, Tags, Scores | Cams], Scores | Label]:
        """The live refiner."""


@runtime_checkable
class Segmenter(Protocol):
    """A segmentation network trained on pseudo-labels."""

    def fit(self, train: Split, labels: Mapping[str, Label], out: Path, seed: int) -> None:
        """Train on pseudo-labels (read lazily by image id)."""

    def open(self, out: Path) -> Callable[[Image], Label]:
        """The live segmenter."""


PROTOCOLS: dict[str, type] = {
    "dataset": Dataset,
    "cam": CamGenerator,
    "matting": Matting,
    "refiner": Refiner,
    "segmenter": Segmenter,
}


class Hooks:
    """What a plugin module may implement with `matlabel_bench.spec.hookimpl`."""

    @hookspec
    def matlabel_register(self, registry: Registry) -> None:
        """Called once at start: register parts with `registry.add(kind, name, cls)`."""

    @hookspec
    def matlabel_stage_done(self, stage: str, key: str, folder: Path, record: Mapping[str, Any]) -> None:
        """Called in the main process after a stage was computed (not when it was found in the store)."""

    @hookspec
    def matlabel_columns(self, cell: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Extra columns for a cell's line in `extra.csv`, e.g. energy used; None for none."""


def takes_maps(part: Any) -> bool:
    """Whether a refiner or matting asks for maps, in the place of scores or of a trimap."""
    return getattr(part, "takes", "") == "maps"


def together(part: Any) -> int:
    """How many images a part is given at once."""
    return int(getattr(part, "together", 1))


def runs_on(*parts: Any) -> str:
    """Where the live functions of parts (or None) compute: the first device that is no processor, else "cpu".

    One process a core is for what runs on the "cpu" alone.
    """
    used = [str(getattr(part, "runs_on", getattr(part, "device", "cpu"))) for part in parts]
    return next((device for device in used if device != "cpu"), "cpu")


def implements(kind: str, cls: type) -> Iterator[str]:
    """The methods of the kind's protocol that `cls` lacks."""
    needed = {n for n in vars(PROTOCOLS[kind]) if not n.startswith("_")}
    if not getattr(cls, "trains", False):
        needed -= {"fit"}
    yield from sorted(n for n in needed if not callable(getattr(cls, n, None)))
