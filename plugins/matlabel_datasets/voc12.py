"""`voc12` and `voc12-animals`: PASCAL VOC 2012 in its official layout, whole or a choice of its classes.

Expected below VOC2012: JPEGImages/ID.jpg, ImageSets/Segmentation/SPLIT.txt, SegmentationClass/ID.png (or
SegmentationClassAug/ID.png, the masks of SBD, where the first is absent), and tags from image_labels.csv or
Annotations/ID.xml. Ids are strings: `2007_000032` is no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from matlabel_bench.errors import DataError, UsageError, near
from matlabel_bench.fields import knob
from matlabel_bench.spec import MaskReader
from matlabel_bench.types import IGNORE, Split
from matlabel_datasets import listing
from matlabel_datasets.masks import reader

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
ANIMALS = ("cat", "cow", "dog", "horse", "person", "sheep")
HOLDS = "VOC2012 with JPEGImages and ImageSets/Segmentation, or the folder above it"
Tags = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Voc12:
    """PASCAL VOC 2012, 20 classes or a choice of them."""

    version: ClassVar[int] = 1
    title: ClassVar[str] = "voc12"

    root: str = knob("", "VOC2012, VOCdevkit, or the folder that holds one of them", key="none")
    classes: tuple[str, ...] = knob((), "classes to keep, renumbered 1..n in this order; none given: all 20")
    labels: str = knob(
        "auto",
        "where tags come from: image_labels.csv, XML annotations, or masks (only if asked); auto: CSV, else XML",
        choices=("auto", "csv", "xml", "masks"),
    )
    others: str = knob(
        "ignore", "pixels of classes not kept count as this when scored", choices=("ignore", "background")
    )

    def __post_init__(self) -> None:
        for number, name in enumerate(self.classes):
            if name not in CLASSES:
                raise UsageError("classes of PASCAL VOC", repr(name), near(name, CLASSES))
            if name in self.classes[:number]:
                raise UsageError("each class once", f"{name!r} twice", "name it once")

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes 1..N: those chosen, else all 20."""
        return self.classes or CLASSES

    def split_names(self) -> tuple[str, ...]:
        """The lists in ImageSets/Segmentation, such as train, train_aug and val."""
        return tuple(sorted(p.stem for p in self._lists().glob("*.txt")))

    def split(self, name: str) -> Split:
        """Samples in the order of the list; no image is opened.

        Under a choice of classes an image may keep no tag. It stays, so that a split is the same set of images
        whatever is chosen: its mask is all background, and parts that train skip what has no tag.

        Raises:
            DataError: no such split, ids without image or tags, an unknown class, or, with all 20 classes, an image
                without any.
        """
        ids = self._ids(name)
        images = listing.find_images(self._home() / "JPEGImages")
        where = f"{self.title}, split {name!r}"
        tags = self._tags([i for i in ids if i in images], name)
        found = listing.samples(ids, images, tags, where)
        if empty := [s.id for s in found if not s.tags]:
            raise DataError(
                f"at least one of the 20 classes for every image of {where}",
                f"an empty tag list for {len(empty)}: {listing.some(empty)}",
                "add their tags, or take these ids out of the list",
            )
        if self.classes:
            number = self._numbers()
            kept = (tuple(sorted(number[t] for t in s.tags if t in number)) for s in found)
            found = tuple(replace(s, tags=tags) for s, tags in zip(found, kept, strict=True))
        return Split(self.title, name, self.class_names(), found)

    def masks(self, name: str) -> MaskReader | None:
        """A reader of the split's masks in the numbering of `class_names`; None where no image has one.

        Asked for an image without mask (train_aug has some), it raises DataError that says how many there are.
        """
        lookup = None
        if self.classes:
            other = IGNORE if self.others == "ignore" else 0
            numbers = self._numbers() | {0: 0, IGNORE: IGNORE}
            lookup = tuple(numbers.get(value, other) for value in range(256))
        return reader(name, self._ids(name), self.mask_files(name), len(CLASSES), lookup)

    def mask_files(self, name: str) -> Mapping[str, Path]:
        """Image id -> mask, for those of the split's images that have one."""
        return self._mask_files(self._ids(name))

    def _numbers(self) -> dict[int, int]:
        """VOC's number of a class -> its number under the choice."""
        return {CLASSES.index(c) + 1: n for n, c in enumerate(self.classes, 1)}

    def _mask_files(self, ids: list[str]) -> dict[str, Path]:
        folders = [self._home() / n for n in ("SegmentationClassAug", "SegmentationClass")]
        files = {p.stem: p for folder in folders for p in folder.glob("*.png")}  # the later one, the official, wins
        return {i: files[i] for i in ids if i in files}

    def _home(self) -> Path:
        root = listing.need_root(self.root, self.title, HOLDS)
        for home in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
            if (home / "JPEGImages").is_dir():
                return home
        inside = sorted(p.name for p in root.iterdir())
        near_by = next((p for p in root.parents if (p / "JPEGImages").is_dir()), None)
        raise DataError(
            f"the data root of {self.title}: {HOLDS}",
            f"{root} with {listing.some(inside) if inside else 'nothing in it'}",
            f"give --data-root {near_by}" if near_by else "give the right folder with --data-root DIR",
        )

    def _lists(self) -> Path:
        folder = self._home() / "ImageSets" / "Segmentation"
        if not folder.is_dir():
            raise DataError(
                f"lists of ids in {folder}", "no such folder", "unpack the whole of VOC 2012, or write train.txt there"
            )
        return folder

    def _ids(self, name: str) -> list[str]:
        listing.choose_split(name, self.split_names(), self.title)
        return listing.read_ids(self._lists() / f"{name}.txt")

    def _tags(self, ids: list[str], split: str) -> Tags:
        home = self._home()
        table, notes = home / "image_labels.csv", home / "Annotations"
        if self.labels == "csv" or (self.labels == "auto" and table.is_file()):
            return listing.read_tags(table, CLASSES)
        if self.labels == "masks":
            return _tags_of_masks(self._mask_files(ids))
        if self.labels == "xml" or notes.is_dir():
            return _tags_of_xml(ids, notes)
        masks = len(self._mask_files(ids))
        raise DataError(
            f"image tags in {table} or {notes}",
            f"neither; masks for {masks} of {len(ids)} images of {split!r}",
            "write image_labels.csv with lines `image,class class`"
            + (f", or read the tags off the masks by --set {self.title}.labels=masks" if masks else ""),
        )


@dataclass(frozen=True)
class Voc12Animals(Voc12):
    """PASCAL VOC 2012 scored on background and six animals (person among them)."""

    title: ClassVar[str] = "voc12-animals"

    classes: tuple[str, ...] = knob(ANIMALS, "classes to keep, renumbered 1..n in this order")


def _tags_of_xml(ids: list[str], folder: Path) -> Tags:
    """Classes of all objects of an annotation, the difficult ones among them, as IRN's labels."""
    from xml.etree import ElementTree

    known = {name: i for i, name in enumerate(CLASSES, 1)}
    tags: Tags = {}
    for image in ids:
        path = folder / f"{image}.xml"
        try:
            names = [n.text or "" for n in ElementTree.parse(path).iterfind("object/name")]
        except FileNotFoundError:
            continue  # reported with all others that are missing
        except ElementTree.ParseError as err:
            raise DataError(f"an XML annotation {path}", f"broken XML ({err})", "copy or download it again") from err
        tags[image] = listing.class_ids((n.strip() for n in names), known, str(path))
    return tags


def _tags_of_masks(files: Mapping[str, Path]) -> Tags:
    import numpy as np

    from matlabel_bench.images import read_label

    return {
        image: tuple(int(v) for v in np.unique(read_label(path, len(CLASSES))) if v not in (0, IGNORE))
        for image, path in files.items()
    }
