"""`coco14`: MS COCO 2014 (Lin et al., ECCV 2014), 80 classes, in its official layout.

Expected below the root: train2014/ and val2014/ with the images (or images/train2014/ ...), and
annotations/instances_train2014.json, annotations/instances_val2014.json. A split is there if its annotations are. Ids
are the files' stems, such as COCO_train2014_000000000790.

Masks are painted from the annotations as ReCAM paints them (mscoco/annToMask.py): classes 1..80 in the order of the
category ids, of which 91 numbers are in use, later annotations over earlier ones, crowds left out, nothing ignored.
Others score COCO on masks of other origin, so numbers across papers need not have the same ground truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matlabel_bench.errors import DataError
from matlabel_bench.fields import knob
from matlabel_bench.spec import MaskReader
from matlabel_bench.types import Split
from matlabel_datasets import listing
from matlabel_datasets.coco_index import Entry, Index, index
from matlabel_datasets.coco_masks import CocoMasks, need_pycocotools

CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
"""Category ids 1..91 that COCO never used."""
CATEGORIES = dict(zip((i for i in range(1, 92) if i not in UNUSED), CLASSES, strict=True))
"""Category id -> name."""
YEARS = {"train": "train2014", "train_aug": "train2014", "val": "val2014"}
HOLDS = "train2014, val2014 and annotations/instances_*2014.json"


@dataclass(frozen=True)
class Coco14:
    """MS COCO 2014, 80 classes; masks painted from the instance annotations."""

    version: ClassVar[int] = 1

    root: str = knob("", f"the folder with {HOLDS}", key="none")
    crowd: str = knob(
        "skip",
        "crowd regions when scored: background (skip, as ReCAM's masks), or 255 where no object covers them (ignore)",
        choices=("skip", "ignore"),
    )
    label_free: str = knob(
        "keep",
        "images without an object: keep them (no tags, a mask of background; trainings pass them over), or drop them",
        choices=("keep", "drop"),
    )
    broken: str = knob(
        "error",
        "annotations whose polygons or run-length codes cannot be painted: stop with an error, or do without them",
        choices=("error", "skip"),
    )

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes 1..80, in the order of COCO's category ids."""
        return CLASSES

    def split_names(self) -> tuple[str, ...]:
        """train, train_aug (the same images) and val: those whose annotations are there."""
        return tuple(name for name in YEARS if self._annotations(name).is_file())

    def split(self, name: str) -> Split:
        """Samples in the order of COCO's image numbers; no image is opened. Tags are those of no crowd.

        Raises:
            DataError: no such split, annotations that `coco_index.index` refuses or that cannot be painted, or images
                without a file.
        """
        entries, where = self._entries(name), f"coco14, split {name!r}"
        tags = {entry.id: entry.tags for entry in entries}
        samples = listing.samples([e.id for e in entries], listing.find_images(self._images(name)), tags, where)
        return Split("coco14", name, CLASSES, samples)

    def masks(self, name: str) -> MaskReader | None:
        """A reader that paints the split's masks. Raises UsageError where pycocotools is not installed."""
        return CocoMasks(name, self.mask_files(name), self.crowd == "ignore")

    def mask_files(self, name: str) -> Mapping[str, Path]:
        """Image id -> what its mask is painted from: a document of this image's annotations in the cache folder."""
        need_pycocotools()
        found = self._index(name)
        return {entry.id: found.document(entry.id) for entry in self._entries(name)}

    def _home(self) -> Path:
        root = listing.need_root(self.root, "coco14", HOLDS)
        for home in (root, *(root / name for name in ("coco14", "coco2014", "coco", "COCO", "mscoco"))):
            if (home / "annotations").is_dir():
                return home
        inside = sorted(p.name for p in root.iterdir())
        near_by = next((p for p in root.parents if (p / "annotations").is_dir()), None)
        raise DataError(
            f"the data root of coco14: {HOLDS}",
            f"{root} with {listing.some(inside) if inside else 'nothing in it'}",
            f"give --data-root {near_by}" if near_by else "give the right folder with --data-root DIR",
        )

    def _annotations(self, name: str) -> Path:
        return self._home() / "annotations" / f"instances_{YEARS[name]}.json"

    def _images(self, name: str) -> Path:
        folder = self._home() / YEARS[name]
        nested = self._home() / "images" / YEARS[name]
        return nested if nested.is_dir() and not folder.is_dir() else folder

    def _index(self, name: str) -> Index:
        listing.choose_split(name, YEARS, "coco14")
        found = index(self._annotations(name), CATEGORIES)
        if found.flaws and self.broken == "error":
            shown = [f"{who} of {image}: {why}" for who, image, why in found.flaws]
            raise DataError(
                f"segmentations that can be painted in {self._annotations(name)}",
                f"{len(shown)} that cannot: annotation {listing.some(shown, 3)}",
                "correct or delete them, or do without them by --set coco14.broken=skip",
            )
        return found

    def _entries(self, name: str) -> list[Entry]:
        entries = self._index(name).entries
        return [e for e in entries if e.tags or self.label_free == "keep"]
