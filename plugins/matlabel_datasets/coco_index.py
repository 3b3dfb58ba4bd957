"""COCO's instance annotations, taken apart once: one small document an image, and a list of images with their tags.

Kept in the user's cache folder by the JSON file's path, size and time of change. A document is what the mask of one
image is painted from, so a corrected annotation changes one document, and with it the key of the scores alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from matlabel_bench.errors import DataError, near
from matlabel_bench.fields import canonical
from matlabel_datasets.coco_masks import flaw
from matlabel_datasets.coco_stream import elements
from matlabel_datasets.listing import some, stem
from matlabel_datasets.once import cache, once

VERSION = 1
"""Raise when the documents look otherwise."""

log = logging.getLogger("matlabel_bench")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image: its id (the file's stem) and its tags, those of annotations that are no crowd, ascending."""

    id: str
    tags: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """Images in the order of their numbers, and what cannot be painted: (annotation, image, what is wrong)."""

    folder: Path
    entries: tuple[Entry, ...]
    flaws: tuple[tuple[str, str, str], ...]

    def document(self, image: str) -> Path:
        """size: [h, w]; annotations: [[class 1..N, crowd, segmentation], ...] in the order of the JSON file."""
        return self.folder / "images" / f"{image}.json"


def index(source: Path, classes: Mapping[int, str]) -> Index:
    """The index of an instances file; made on first use, about a minute for the whole of COCO.

    Args:
        classes: the category ids that the file must have, with their names, in the order of the classes 1..N.

    Raises:
        DataError: no or broken JSON, other categories, images or annotations without what is needed, annotations of
            images or categories that the file does not list, or a cache folder that cannot be written.
    """
    try:
        stat = source.stat()
    except OSError as err:
        got = err.strerror or str(err)
        raise DataError(
            f"annotations {source}", got, "unpack COCO's annotations there, or check the data root"
        ) from err
    mark = [VERSION, str(source.resolve()), stat.st_size, stat.st_mtime_ns, list(classes.items())]
    name = f"{source.stem}-{hashlib.sha256(canonical(mark).encode()).hexdigest()[:12]}"

    def fill(folder: Path) -> None:
        log.info("taking %s apart into %s, once", source, folder.parent)
        _Making(source, classes).write(folder)

    return _load(once(cache() / "coco" / name, f"the index of {source.name}", fill, option=""))


@lru_cache(maxsize=4)
def _load(folder: Path) -> Index:
    try:
        found = json.loads((folder / "index.json").read_bytes())
        entries = tuple(Entry(i, tuple(tags)) for i, tags in found["entries"])
        return Index(folder, entries, tuple((a, i, why) for a, i, why in found["flaws"]))
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise DataError(f"an index of COCO in {folder}", str(err), "delete this folder; it is made again") from err


@dataclass
class _Making:
    """One walk through the file: annotations go to a spool on disk, of which only the places are remembered."""

    source: Path
    classes: Mapping[int, str]
    images: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    """Image number -> id, h, w."""
    categories: dict[int, str] = field(default_factory=dict)
    owners: array[int] = field(default_factory=lambda: array("q"))
    places: array[int] = field(default_factory=lambda: array("q"))
    used: dict[int, str] = field(default_factory=dict)
    """Category of some annotation -> that annotation."""

    def write(self, folder: Path) -> None:
        (folder / "images").mkdir()
        with tempfile.TemporaryFile(dir=folder) as spool:
            for key, element in elements(self.source):
                if key == "annotations":
                    self._spool(element, spool)
                elif key == "images":
                    self._image(element)
                elif key == "categories":
                    self.categories[self._number(element, "id", "a category")] = str(element.get("name"))
            self._check()
            entries, flaws = self._documents(folder, spool)
        (folder / "index.json").write_text(canonical({"entries": entries, "flaws": flaws}), encoding="utf-8")

    def _image(self, element: Any) -> None:
        number = self._number(element, "id", "an image")
        size = [self._number(element, side, f"image {number}") for side in ("height", "width")]
        if not isinstance(element.get("file_name"), str) or min(size) < 1 or number in self.images:
            got = f"image {number} {'twice' if number in self.images else 'without file name or of no size'}"
            raise DataError(f"images with id, file_name, height and width in {self.source}", got, "correct the file")
        self.images[number] = (stem(element["file_name"]), size[0], size[1])

    def _spool(self, element: Any, spool: IO[bytes]) -> None:
        who = f"annotation {element.get('id', '?')}" if isinstance(element, dict) else "an annotation"
        owner, category = (self._number(element, name, who) for name in ("image_id", "category_id"))
        self.used.setdefault(category, who)
        self.owners.append(owner)
        self.places.append(spool.tell())
        row = [str(element.get("id", "?")), category, bool(element.get("iscrowd", 0)), element.get("segmentation")]
        spool.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")

    def _number(self, element: Any, name: str, who: str) -> int:
        value = element.get(name) if isinstance(element, dict) else None
        if isinstance(value, bool) or not isinstance(value, int):
            raise DataError(
                f"instance annotations in {self.source}",
                f"{who} with {name} {value!r}",
                "give the file instances_*.json, not captions_*, person_keypoints_* or image_info_*",
            )
        return value

    def _check(self) -> None:
        """Categories, images and annotations fit each other. Raises DataError where they do not."""
        source, known = self.source, self.images
        if wrong := _differences(self.categories, self.classes):
            remedy = "give COCO's own annotations, or describe other classes with the data set `folder`"
            raise DataError(f"the {len(self.classes)} categories of COCO in {source}", some(wrong, 3), remedy)
        if lost := sorted({owner for owner in self.owners if owner not in known}):
            count = sum(owner not in known for owner in self.owners)
            raise DataError(
                f"annotations of the {len(known)} images that {source} lists",
                f"{count} of {len(lost)} others: {some([str(i) for i in lost])}",
                "add these images to `images`, or take their annotations out",
            )
        if strange := [c for c in self.used if c not in self.classes]:
            got = f"category_id {strange[0]} in {self.used[strange[0]]}"
            raise DataError(f"annotations of the categories that {source} lists", got, "correct the annotation")
        names = [name for name, _, _ in known.values()]
        if not names or len(set(names)) < len(names):
            got = f"{len(names)} images, {len(set(names))} different names"
            raise DataError(f"images with different file names in {source}", got, "complete or correct `images`")

    def _documents(self, folder: Path, spool: IO[bytes]) -> tuple[list[Any], list[Any]]:
        """Write the document of each image; the rows of the index."""
        of: dict[int, list[int]] = {}
        for owner, place in zip(self.owners, self.places, strict=True):
            of.setdefault(owner, []).append(place)
        numbers = {category: n for n, category in enumerate(self.classes, 1)}
        entries, flaws = [], []
        for number, (name, height, width) in sorted(self.images.items()):
            kept: list[Any] = []
            for place in of.get(number, ()):
                spool.seek(place)
                who, category, crowd, segmentation = json.loads(spool.readline())
                if wrong := flaw(segmentation, height, width):
                    flaws.append([who, name, wrong])
                else:
                    kept.append([numbers[category], crowd, segmentation])
            text = json.dumps({"size": [height, width], "annotations": kept}, separators=(",", ":"))
            (folder / "images" / f"{name}.json").write_text(text, encoding="utf-8")
            entries.append([name, sorted({number for number, crowd, _ in kept if not crowd})])
        return entries, flaws


def _differences(found: Mapping[int, str], wanted: Mapping[int, str]) -> list[str]:
    """What is wrong with the file's categories, in words."""
    absent = [f"no {name!r} (id {i})" for i, name in wanted.items() if i not in found]
    other = [f"{found[i]!r} instead of {name!r} (id {i})" for i, name in wanted.items() if found.get(i, name) != name]
    spare = [
        f"{name!r} (id {i}; {near(name, wanted.values()).partition('known')[0].strip() or 'unknown'})"
        for i, name in found.items()
        if i not in wanted
    ]
    return other + spare + absent
