"""Parts for tests of trainings, ids, folders and notes: each leaves what it was given in seen.json."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from stub_parts import StubCam, StubMatting, StubTrained, digest

from matlabel_bench.fields import knob
from matlabel_datasets.folder import Folder


def _remember(out: Path, train, seed: int, given=None, **more: object) -> None:
    """Leave what a training was given: ids and tags, the digest of each array, and the seed."""
    arrays = {} if given is None else {name: digest(given[name]) for name in given}
    told = {"seed": seed, "tags": {s.id: s.tags for s in train}, "given": arrays}
    (out / "seen.json").write_text(json.dumps(told | more))


@dataclass(frozen=True)
class StubIdCam(StubCam):
    """StubCam that must be told the image's id."""

    wants_id: ClassVar[bool] = True

    def open(self, out):
        live = super().open(out)

        def cams(image, tags, name):
            assert isinstance(name, str)
            return live(image, tags)

        return cams


@dataclass(frozen=True)
class StubLearnedMatting(StubMatting):
    """StubMatting behind a training on images and tags."""

    trains: ClassVar[bool] = True
    backbone: str = knob("tiny", "network")
    weights: str = knob("", "initial weights", key="file")

    def fit(self, train, out: Path, seed: int) -> None:
        _remember(out, train, seed)

    def open(self, out: Path):
        assert (out / "seen.json").is_file()
        return super().open(out)


@dataclass(frozen=True)
class StubSoftMatting:
    """The maps, squared: a matting that takes no trimap."""

    version: ClassVar[int] = 1
    takes: ClassVar[str] = "maps"

    def open(self, out):
        return lambda image, maps: maps**2


@dataclass(frozen=True)
class StubTogether(StubMatting):
    """Four images at a time."""

    together: ClassVar[int] = 4

    def open(self, out):
        one = super().open(out)

        def live(image, trimap):
            return live.many([image], [trimap])[0]

        def many(images, trimaps):
            if log := os.environ.get("STUB_GROUPS"):
                with Path(log).open("a") as to:
                    to.write(" ".join(digest(image) for image in images) + "\n")
            return [one(*each) for each in zip(images, trimaps, strict=True)]

        live.many = many
        return live


@dataclass(frozen=True)
class StubOnwardCam(StubCam):
    """StubCam whose training goes on from StubTrained's, of which it counts the steps."""

    trains: ClassVar[bool] = True
    steps_before: int = knob(3, "steps of the stem", low=1)

    def stem(self):
        return StubTrained(epochs=self.steps_before)

    def fit(self, train, out: Path, seed: int, stem: Path | None = None) -> None:
        (out / "state.json").write_text((stem / "state.json").read_text())

    def open(self, out: Path):
        assert json.loads((out / "state.json").read_text())["step"] == self.steps_before
        return super().open(out)


@dataclass(frozen=True)
class StubMapsRefiner:
    """The label of the highest map above its own threshold; trained on maps, which it looks at and forgets."""

    version: ClassVar[int] = 1
    trains: ClassVar[bool] = True
    takes: ClassVar[str] = "maps"
    threshold: float = knob(0.4, "background up to this value", low=0.0, high=1.0, key="open")
    backbone: str = knob("tiny", "network")
    weights: str = knob("", "initial weights", key="file")

    def fit(self, train, maps, out: Path, seed: int) -> None:
        _remember(out, train, seed, maps)

    def open(self, out: Path):
        assert (out / "seen.json").is_file()

        def refine(image, tags, maps):
            ids = np.concatenate([np.zeros(1, np.uint8), tags])
            level = np.full((1, *maps.shape[1:]), self.threshold, np.float32)
            return ids[np.concatenate([level, maps]).argmax(axis=0)]

        return refine


@dataclass(frozen=True)
class StubScoresRefiner(StubMapsRefiner):
    """Scores as they come, after a training on scores."""

    takes: ClassVar[str] = "scores"

    def open(self, out: Path):
        assert (out / "seen.json").is_file()
        return lambda image, tags, scores: scores


@dataclass(frozen=True)
class StubHints:
    """The class that HINTS/ID.txt names, everywhere: a refiner that goes by ids, with a folder and a note."""

    version: ClassVar[int] = 1
    supervision: ClassVar[tuple[str, ...]] = ("hints",)
    wants_id: ClassVar[bool] = True
    hints: str = knob("", "folder of ID.txt, each a class id", key="folder")

    def note(self) -> str:
        return "hints: told, not learned"

    def open(self, out):
        return lambda image, tags, scores, name: np.full(
            image.shape[:2], int((Path(self.hints) / f"{name}.txt").read_text()), np.uint8
        )


@dataclass(frozen=True)
class StubSegmenter:
    """The commonest foreground class of the labels it was trained on, wherever the image is bright enough."""

    version: ClassVar[int] = 1
    trains: ClassVar[bool] = True
    level: int = knob(0, "mean grey level from which a pixel is foreground", low=0, high=255, key="open")
    backbone: str = knob("tiny", "network")
    weights: str = knob("", "initial weights", key="file")

    def fit(self, train, labels, out: Path, seed: int) -> None:
        counts = sum(np.bincount(labels[s.id].ravel(), minlength=256) for s in train)
        _remember(out, train, seed, labels, commonest=1 + int(counts[1:255].argmax()))

    def open(self, out: Path):
        commonest = json.loads((out / "seen.json").read_text())["commonest"]
        return lambda image: np.where(image.mean(axis=2) >= self.level, commonest, 0).astype(np.uint8)


@dataclass(frozen=True)
class StubPhotos(Folder):
    """A folder of one's own images that brings a folder of hints."""

    def folders(self):
        return {"hints": Path(self.root) / "hints"}


def register(registry) -> None:
    """Called by the hook of stub_parts."""
    registry.add("dataset", "stub-photos", StubPhotos)
    registry.add("cam", "stub-id-cam", StubIdCam)
    registry.add("cam", "stub-onward", StubOnwardCam)
    registry.add("matting", "stub-learned", StubLearnedMatting)
    registry.add("matting", "stub-soft", StubSoftMatting)
    registry.add("matting", "stub-together", StubTogether)
    registry.add("refiner", "stub-maps", StubMapsRefiner)
    registry.add("refiner", "stub-scores", StubScoresRefiner)
    registry.add("refiner", "stub-hints", StubHints)
    registry.add("segmenter", "stub-segmenter", StubSegmenter)
