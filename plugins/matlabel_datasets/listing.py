"""What all data sets share: tables of tags, lists of ids, readers of masks, and their error messages."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matlabel_bench.errors import DataError, UsageError, near
from matlabel_bench.types import Label


def some(items: Sequence[str], most: int = 5) -> str:
    """The first few of a list, and how many more."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def read_text(path: Path, what: str) -> str:
    """A UTF-8 text file, with or without byte order mark. Raises DataError where it is absent or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as err:
        byte = f"byte 0x{err.object[err.start]:02x} at position {err.start}"
        raise DataError(
            f"{what} {path} in UTF-8", f"{byte}, which UTF-8 does not allow", "save the file as UTF-8 text"
        ) from err
    except OSError as err:
        raise DataError(f"{what} {path}", err.strerror or str(err), "check the data root and the file's name") from err


def read_tags(path: Path, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Image -> ascending class ids, from a CSV file of lines `image,tag tag ...`.

    Tags are separated by spaces, commas or semicolons, and may be in one column or in several. A first line that
    starts with `image`, `id`, `name`, `file` or `filename` is a header. An image may have no tag.

    Raises:
        DataError: the file is absent, not UTF-8, holds an unknown class name or an image twice.
    """
    rows = [r for r in csv.reader(read_text(path, "the table of tags").splitlines()) if any(c.strip() for c in r)]
    if rows and rows[0][0].strip().lower() in ("image", "id", "name", "file", "filename"):
        rows = rows[1:]
    ids = {name: i for i, name in enumerate(names, 1)}
    table: dict[str, tuple[int, ...]] = {}
    for row in rows:
        image, words = row[0].strip(), re.split(r"[\s,;]+", " ".join(row[1:]).strip())
        if image in table:
            raise DataError(
                f"each image once in {path}", f"{image!r} twice", "join its tags on one line and drop the other"
            )
        if unknown := [word for word in words if word and word not in ids]:
            raise DataError(f"known classes in {path}", f"{unknown[0]!r} for image {image!r}", near(unknown[0], ids))
        table[image] = tuple(sorted({ids[word] for word in words if word}))
    return table


def unique(ids: Iterable[str], where: Path) -> list[str]:
    """The ids as a list. Raises DataError where one occurs twice."""
    seen: dict[str, None] = {}
    twice: list[str] = []
    for name in ids:
        if name in seen:
            twice.append(name)
        seen[name] = None
    if twice:
        raise DataError(
            f"each image once in {where}",
            f"{len(twice)} repeated: {some(twice)}",
            "drop the repeated lines; every image counts once in a score",
        )
    return list(seen)


def choose_split(name: str, known: Iterable[str], dataset: str) -> str:
    """`name`, if the data set has that split. Raises UsageError with near misses."""
    names = list(known)
    if name not in names:
        raise UsageError(f"a split of {dataset}", repr(name), near(name, names))
    return name


@dataclass(frozen=True)
class MaskFiles:
    """Reads the masks of a split by image id. It pickles, so that workers may hold one."""

    split: str
    files: Mapping[str, Path]
    lacking: tuple[str, ...]
    """Images of the split without a mask file."""
    highest: int
    lookup: tuple[int, ...] | None = None
    """New value of each of the 256 values on disk; None keeps them."""

    def __call__(self, image: str) -> Label:
        """The mask, h w. Raises DataError for an image without one, or a file that `read_label` refuses."""
        import numpy as np

        from matlabel_bench.images import read_label

        if image not in self.files:
            total = len(self.files) + len(self.lacking)
            raise DataError(
                f"a mask for image {image!r} of split {self.split!r}",
                f"{len(self.lacking)} of its {total} images have none: {some(self.lacking)}",
                "add the missing files, or score on a split where every image has a mask",
            )
        label = read_label(self.files[image], self.highest)
        return label if self.lookup is None else np.asarray(self.lookup, np.uint8)[label]
