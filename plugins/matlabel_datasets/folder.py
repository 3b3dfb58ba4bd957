"""`folder`: one's own images with a table of tags; masks, class names and splits where there are any.

ROOT/images/*.jpg     or the images in ROOT itself
ROOT/tags.csv         lines `image,tag tag`; image: file name or stem
ROOT/classes.txt      optional: one class a line, in the order of the masks' values 1..N
ROOT/masks/*.png      optional: palette or grey, 0 background, 1..N, 255 ignored
ROOT/splits/NAME.txt  optional: one image a line
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from matlabel_bench.errors import DataError
from matlabel_bench.fields import knob
from matlabel_bench.spec import MaskReader
from matlabel_bench.types import Split
from matlabel_datasets import listing
from matlabel_datasets.masks import reader

HOLDS = "images and a table of tags"
log = logging.getLogger("matlabel_bench")


@dataclass(frozen=True)
class Folder:
    """A folder of one's own images with a table of tags."""

    version: ClassVar[int] = 1

    root: str = knob("", "the folder; the paths below are relative to it, or absolute", key="none")
    images: str = knob("", "folder of images; default images/ where it exists, else the root itself", key="none")
    tags: str = knob("tags.csv", "table of tags: lines `image,tag tag`", key="none")
    masks_dir: str = knob("masks", "folder of masks, if there are any", key="none")
    lists: str = knob("splits", "folder of lists NAME.txt, if there are any", key="none")
    classes: tuple[str, ...] = knob((), "class names in the order of the masks' values; default classes.txt, else a-z")
    untagged: str = knob("error", "what to do with an image without tags", choices=("error", "keep"))

    def class_names(self) -> tuple[str, ...]:
        """The field `classes`, else classes.txt, else the names in the table of tags in alphabetical order.

        Raises:
            DataError: no name at all, one twice, or more than 254.
        """
        root, names = self._root(), self.classes
        if not names and (root / "classes.txt").is_file():
            lines = listing.read_text(root / "classes.txt", "the list of classes").splitlines()
            names = tuple(line.strip() for line in lines if line.strip())
        if not names:
            rows = listing.read_rows(root / self.tags).values()
            names = tuple(sorted({word for row in rows for word in listing.words(row, {})}))
        if not 1 <= len(names) <= 254 or len(set(names)) < len(names):
            twice = next((n for n in names if names.count(n) > 1), None)
            raise DataError(
                "1 to 254 different class names",
                f"{twice!r} twice" if twice else f"{len(names)} of them",
                "correct classes.txt, the field `classes`, or the table of tags",
            )
        return names

    def split_names(self) -> tuple[str, ...]:
        """`all`, and the lists; without lists train and train_aug are all images, without train_aug it is train."""
        lists = sorted(p.stem for p in (self._root() / self.lists).glob("*.txt"))
        aliases = ["train", "train_aug"] if not lists else ["train_aug"] if "train" in lists else []
        return tuple(dict.fromkeys(["all", *lists, *aliases]))

    def split(self, name: str) -> Split:
        """Samples in the order of the list, or of the table of tags; no image is opened.

        Raises:
            DataError: no such split, ids without image or tags, an unknown class, or an image without tags.
        """
        names = self.class_names()
        tags = listing.read_tags(self._root() / self.tags, names)
        images = listing.find_images(self._images())
        ids = self._ids(name, tags)
        empty = [i for i in ids if i in tags and not tags[i]]
        if empty and self.untagged == "error":
            raise DataError(
                f"at least one tag for every image of {self._root() / self.tags}",
                f"an empty tag list for {len(empty)}: {listing.some(empty)}",
                "add tags, delete these lines, or keep the images as background by --set folder.untagged=keep",
            )
        if name == "all" and (spare := len(images.keys() - tags.keys())):
            log.warning("%d of %d images have no line in %s and are left out", spare, len(images), self.tags)
        return Split("folder", name, names, listing.samples(ids, images, tags, f"folder, split {name!r}"))

    def masks(self, name: str) -> MaskReader | None:
        """A reader of the split's masks; None where no image has one."""
        tags = listing.read_rows(self._root() / self.tags)
        return reader(name, self._ids(name, tags), self.mask_files(name), len(self.class_names()))

    def mask_files(self, name: str) -> Mapping[str, Path]:
        """Image id -> mask, for those of the split's images that have one."""
        files = {p.stem: p for p in (self._root() / self.masks_dir).glob("*.png")}
        return {i: files[i] for i in self._ids(name, listing.read_rows(self._root() / self.tags)) if i in files}

    def _root(self) -> Path:
        return listing.need_root(self.root, "folder", HOLDS)

    def _images(self) -> Path:
        root = self._root()
        if self.images:
            return root / self.images
        return root / "images" if (root / "images").is_dir() else root

    def _ids(self, name: str, table: Mapping[str, object]) -> list[str]:
        listing.choose_split(name, self.split_names(), "folder")
        folder = self._root() / self.lists
        for stem in (name, "train") if name == "train_aug" else (name,):
            if (folder / f"{stem}.txt").is_file():
                return listing.read_ids(folder / f"{stem}.txt")
        return list(table)
