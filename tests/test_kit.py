"""The kit: a good part of each kind passes, and each broken promise is found and named."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from matlabel_bench import kit
from matlabel_bench.errors import MattingFailed, UsageError
from matlabel_bench.fields import knob
from matlabel_bench.images import read_image
from matlabel_bench.kit import scenes
from matlabel_bench.kit.trial import Finding
from matlabel_bench.registry import Entry
from matlabel_bench.types import FOREGROUND, UNKNOWN, Alpha, Cams, Image, Label, Scores, Split, Tags, Trimap


@dataclass(frozen=True)
class GoodMatting:
    """Alpha is the trimap with a guess in between."""

    guess: float = knob(0.5, "alpha of unknown pixels", low=0, high=1)
    steps: tuple[int, ...] = knob((1, 2), "not used")
    root: str | None = knob(None, "not used", key="none")

    def open(self, out: Path | None) -> Callable[[Image, Trimap], Alpha]:
        def solve(image: Image, trimap: Trimap) -> Alpha:
            if (trimap == UNKNOWN).all() and trimap.size:
                raise MattingFailed("certain pixels", "none", "give a trimap that knows something")
            return np.where(trimap == UNKNOWN, self.guess, trimap / 255).astype(np.float32)

        return solve


@dataclass(frozen=True)
class GoodCam:
    """The classes' mean colours, learned; maps by distance from them. Sees images and tags alone."""

    trains: ClassVar[bool] = True
    epochs: int = knob(15, "passes over the images")

    def fit(self, train: Split, out: Path, seed: int) -> None:
        assert self.epochs == 1, "the kit trains for one epoch"
        assert all(s.path.parent.name == "images" for s in train)
        means = [np.mean([s.read()[20:40, 20:40].mean((0, 1)) for s in train if t in s.tags], axis=0) for t in (1, 2)]
        np.save(out / "means.npy", np.array(means) + np.random.default_rng(seed).normal(size=(2, 3)))

    def open(self, out: Path) -> Callable[[Image, Tags], Cams]:
        means = np.load(out / "means.npy")

        def maps(image: Image, tags: Tags) -> Cams:
            small = image[::8, ::8].astype(float)
            planes = np.stack([np.exp(-((small - means[t - 1]) ** 2).mean(2) / 2000) for t in tags] or [small[..., 0]])
            return (planes / planes.max((1, 2), keepdims=True)).astype(np.float32)[: len(tags)]

        return maps


@dataclass(frozen=True)
class SoftMatting:
    """Maps as they come, which must be maps of the image."""

    takes: ClassVar[str] = "maps"

    def open(self, out: Path | None) -> Callable[[Image, Cams], Alpha]:
        def matte(image: Image, maps: Cams) -> Alpha:
            assert maps.dtype == np.float32 and maps.shape[1:] == image.shape[:2]
            return maps.copy()

        return matte


@dataclass(frozen=True)
class GoodRefiner:
    """Scores as they come, or their most likely label."""

    hard: bool = knob(False, "a label instead of scores")

    def open(self, out: Path | None) -> Callable[[Image, Tags, Scores], Scores | Label]:
        def refine(image: Image, tags: Tags, scores: Scores) -> Scores | Label:
            return np.concatenate([[0], tags]).astype(np.uint8)[scores.argmax(0)] if self.hard else scores

        return refine


@dataclass(frozen=True)
class GoodSegmenter:
    """Says the commonest label everywhere."""

    trains: ClassVar[bool] = True

    def fit(self, train: Split, labels: Mapping[str, Label], out: Path, seed: int) -> None:
        counts = sum(np.bincount(labels[s.id].ravel(), minlength=3) for s in train)
        np.save(out / "commonest.npy", np.argmax(counts))

    def open(self, out: Path) -> Callable[[Image], Label]:
        commonest = np.load(out / "commonest.npy")
        return lambda image: np.full(image.shape[:2], commonest, np.uint8)


@dataclass(frozen=True)
class MapsRefiner:
    """The highest map above a threshold; trained on maps, which must be maps."""

    trains: ClassVar[bool] = True
    takes: ClassVar[str] = "maps"
    threshold: float = knob(0.5, "background up to this value", low=0.0, high=1.0, key="open")

    def fit(self, train: Split, maps: Mapping[str, Cams], out: Path, seed: int) -> None:
        assert sorted(maps) == sorted(s.id for s in train)
        assert all(maps[s.id].shape == (len(s.tags), *s.read().shape[:2]) for s in train)
        np.save(out / "seen.npy", len(maps))

    def open(self, out: Path) -> Callable[[Image, Tags, Cams], Label]:
        np.load(out / "seen.npy")

        def refine(image: Image, tags: Tags, maps: Cams) -> Label:
            assert maps.shape == (len(tags), *image.shape[:2])
            ids = np.concatenate([[0], tags]).astype(np.uint8)
            level = np.full((1, *image.shape[:2]), self.threshold, np.float32)
            return ids[np.concatenate([level, maps]).argmax(0)]

        return refine


@dataclass(frozen=True)
class ById:
    """The label of the folder that the data set brings, by the image's id."""

    wants_id: ClassVar[bool] = True
    saliency: str = knob("", "folder of labels ID.png", key="folder")

    def open(self, out: Path | None) -> Callable[[Image, Tags, Scores, str], Label]:
        return lambda image, tags, scores, name: read_image(Path(self.saliency) / f"{name}.png")[..., 0]


@dataclass(frozen=True)
class CamById:
    """Maps with or without a name."""

    wants_id: ClassVar[bool] = True

    def open(self, out: Path | None) -> Callable[[Image, Tags, str], Cams]:
        def maps(image: Image, tags: Tags, name: str) -> Cams:
            assert name == f"case_{image.shape[0]}x{image.shape[1]}_{len(tags)}"
            return np.ones((len(tags), 2, 3), np.float32)

        return maps


@dataclass(frozen=True)
class Composed:
    """A matting that learns from the composites that a data set brings, not from images."""

    trains: ClassVar[bool] = True
    composites: str = knob("", "folder with fg, alpha and bg", key="folder")

    def fit(self, train: Split, out: Path, seed: int) -> None:
        names = [sorted(p.name for p in (Path(self.composites) / kind).iterdir()) for kind in ("fg", "alpha", "bg")]
        assert names[0] == names[1]
        assert all(names)
        means = [read_image(Path(self.composites) / "alpha" / n).mean() for n in names[1]]
        np.save(out / "guess.npy", np.float32(np.mean(means) / 255))

    def open(self, out: Path) -> Callable[[Image, Trimap], Alpha]:
        return GoodMatting(guess=float(np.load(out / "guess.npy"))).open(None)


def findings(cls: type, kind: str = "matting", **fields: Any) -> dict[str, Finding]:
    return {f.name: f for f in kit.check(Entry(kind, "toy", cls, "tests 0"), fields)}


def broken(cls: type, kind: str = "matting", **fields: Any) -> dict[str, str]:
    return {name: f.message for name, f in findings(cls, kind, **fields).items() if not f.ok}


@pytest.mark.parametrize(
    ("kind", "cls", "fields"),
    [
        ("matting", GoodMatting, {}),
        ("matting", GoodMatting, {"guess": "0.25"}),
        ("matting", SoftMatting, {}),
        ("cam", GoodCam, {}),
        ("refiner", GoodRefiner, {}),
        ("refiner", GoodRefiner, {"hard": "yes"}),
        ("segmenter", GoodSegmenter, {}),
        ("refiner", MapsRefiner, {}),
        ("refiner", ById, {}),
        ("cam", CamById, {}),
        ("matting", Composed, {}),
    ],
)
def test_a_good_part_keeps_every_promise(kind: str, cls: type, fields: dict[str, Any]) -> None:
    found = findings(cls, kind, **fields)
    assert {name: f.message for name, f in found.items() if not f.ok} == {}
    assert len(found) >= 16


def test_an_unknown_field_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="did you mean 'guess'"):
        findings(GoodMatting, gess=1)


@dataclass(frozen=True)
class NoHelp(GoodMatting):
    """Fields without help."""

    bare: int = 3


@dataclass
class Soft:
    """Not frozen."""

    guess: float = knob(0.5, "alpha of unknown pixels")
    __hash__ = object.__hash__

    def open(self, out: Path | None) -> Callable[[Image, Trimap], Alpha]:
        return GoodMatting().open(out)


@dataclass(frozen=True)
class Eager(GoodMatting):
    """Imports what it needs only later, too early."""

    def __post_init__(self) -> None:
        import matplotlib  # noqa: F401


@dataclass(frozen=True)
class OddField(GoodMatting):
    """A field that no word of a command line becomes."""

    sizes: tuple[tuple[int, int], ...] = knob(((1, 2),), "pairs")


@dataclass(frozen=True)
class Odd(GoodMatting):
    """Says odd things about itself."""

    version: ClassVar[int] = 0


@dataclass(frozen=True)
class Changing(GoodMatting):
    """Breaks what is promised of every live function."""

    how: str = knob("", "which promise to break")

    def open(self, out: Path | None) -> Callable[[Image, Trimap], Alpha]:
        if self.how == "opens":
            raise RuntimeError("weights are gone")
        opened = time.perf_counter_ns()
        calls = []

        def solve(image: Image, trimap: Trimap) -> Alpha:
            calls.append(1)
            alpha = np.where(trimap == UNKNOWN, 0.5, trimap / 255).astype(np.float32)
            unknown = trimap == UNKNOWN
            match self.how:
                case "inputs":
                    image[:] = 0
                case "again":
                    alpha[unknown] = 1 / len(calls)
                case "opening":
                    alpha[unknown] = np.float32(opened % 1000003 / 1000003)
                case "known":
                    alpha[trimap == FOREGROUND] = 0.9
                case "range":
                    alpha[unknown] = 1.5
                case "type":
                    alpha = alpha.astype(np.float64)
                case "fails":
                    raise MattingFailed("patience", "none", "try another")
                case "thin":
                    if min(image.shape[:2]) == 1:
                        raise ValueError("window larger than the image")
            return alpha

        return solve


@pytest.mark.parametrize(
    ("how", "promise", "words"),
    [
        ("opens", "opens", "RuntimeError: weights are gone"),
        ("inputs", "leaves its inputs as they are", "changed in place"),
        ("again", "gives the same when called again", "fix the seed"),
        ("opening", "a second opening gives the same", "another result"),
        ("known", "alpha of a 61x83 image with one tag", "within 0.01 of the trimap"),
        ("range", "alpha of a 61x83 image with one tag", "in [0.0, 1.0]"),
        ("type", "alpha of a 61x83 image with one tag", "got float64"),
        ("fails", "alpha of a 80x64 image with 2 tags", "expected patience"),
        ("thin", "alpha or MattingFailed for an image one pixel wide", "ValueError: window larger than the image"),
    ],
)
def test_a_broken_live_function_is_found(how: str, promise: str, words: str) -> None:
    found = broken(Changing, how=how)
    assert words in found[promise]


@pytest.mark.parametrize(
    ("cls", "promise", "words"),
    [
        (Soft, "is frozen", "@dataclass(frozen=True)"),
        (NoHelp, "declares every field with help", "no help for bare"),
        (Eager, "is constructed without heavy imports", "imports matplotlib"),
        (OddField, "takes every field from the command line", "sizes"),
        (Odd, "describes itself", "version 0"),
    ],
)
def test_a_part_that_is_no_good_value_is_found(cls: type, promise: str, words: str) -> None:
    assert words in broken(cls)[promise]


def test_a_local_class_cannot_travel() -> None:
    local = dataclasses.make_dataclass("Local", [], bases=(GoodMatting,), frozen=True)
    local.__module__ = "nowhere"
    found = broken(local)
    assert "travels to other processes (pickle)" in found
    assert "No module named 'nowhere'" in found["is constructed without heavy imports"]


@dataclass(frozen=True)
class Forgetful(GoodCam):
    """Leaves nothing behind."""

    def fit(self, train: Split, out: Path, seed: int) -> None:
        pass


@dataclass(frozen=True)
class Random(GoodCam):
    """Does not train from the seed."""

    def fit(self, train: Split, out: Path, seed: int) -> None:
        super().fit(train, out, time.perf_counter_ns())


@dataclass(frozen=True)
class Crashing(GoodCam):
    """Dies while training."""

    def fit(self, train: Split, out: Path, seed: int) -> None:
        raise UsageError("a reason", "none", "read on")


@pytest.mark.parametrize(
    ("cls", "promise", "words"),
    [
        (Forgetful, "trains on images and tags alone", "fit left nothing"),
        (Random, "trains the same from the same seed", "draw everything from the seed"),
        (Crashing, "trains on images and tags alone", "expected a reason; got none; read on"),
    ],
)
def test_a_broken_training_is_found(cls: type, promise: str, words: str) -> None:
    assert words in broken(cls, "cam")[promise]


@dataclass(frozen=True)
class Inventing(GoodRefiner):
    """Finds a class that no tag names."""

    def open(self, out: Path | None) -> Callable[[Image, Tags, Scores], Scores | Label]:
        return lambda image, tags, scores: np.full(image.shape[:2], 9, np.uint8)


def test_a_refiner_must_not_invent_classes() -> None:
    assert "a label of the part with background" in broken(Inventing, "refiner")["refined 61x83 scores with one tag"]


@dataclass(frozen=True)
class ScoresForMaps(GoodRefiner):
    """Says that it takes maps, and answers with them as if they were scores."""

    takes: ClassVar[str] = "maps"


@dataclass(frozen=True)
class Nameless(ById):
    """Wants no id, and asks for one."""

    wants_id: ClassVar[bool] = False


@pytest.mark.parametrize(
    ("cls", "promise", "words"),
    [
        (ScoresForMaps, "refined 61x83 scores with one tag", "got float32, 1 x 61 x 83"),
        (Nameless, "refined 61x83 scores with one tag", "missing 1 required positional argument: 'name'"),
    ],
)
def test_a_refiner_gets_what_it_says_it_takes(cls: type, promise: str, words: str) -> None:
    assert words in broken(cls, "refiner")[promise]


def test_a_folder_that_is_given_is_not_replaced(tmp_path: Path) -> None:
    found = broken(ById, "refiner", saliency=str(tmp_path))
    assert f"the image {tmp_path}/case_61x83_1.png" in found["refined 61x83 scores with one tag"]


def test_the_scenes_are_what_they_say(tmp_path: Path) -> None:
    split = scenes.split(tmp_path, count=6)
    assert {s.tags for s in split} == {(), (1,), (2,), (1, 2)}
    assert [p.suffix for p in sorted(tmp_path.iterdir())] == [".png"] * 6
    label, trimap = scenes.label(61, 83, (1, 2)), scenes.trimap(61, 83, (1, 2))
    for plane, tag in zip(trimap, (1, 2), strict=True):
        assert (label[plane == FOREGROUND] == tag).all()
        assert not (label[plane == 0] == tag).any()
    assert np.allclose(scenes.scores(61, 83, (1, 2)).sum(0), 1, atol=1e-6)


def test_rendering_falls_back_to_plain_letters() -> None:
    entry = Entry("matting", "toy", GoodMatting, "tests 0")
    rows = [Finding("is frozen", True), Finding("opens", False, "no")]
    assert kit.render(entry, rows) == "matting toy (tests 0)\n  ✓ is frozen\n  ✗ opens: no\n1 of 2 promises kept"
    assert "  FAIL opens: no" in kit.render(entry, rows, "ascii")
    assert "  ok   is frozen" in kit.render(entry, rows, None)
