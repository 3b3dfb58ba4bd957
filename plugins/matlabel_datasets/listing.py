"""What all data sets share: tables of tags, lists of ids, folders of images, and their error messages."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matlabel_bench.errors import DataError, UsageError, near
from matlabel_bench.types import Sample

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
HEADERS = {"image", "images", "image_id", "id", "name", "file", "filename", "file_name"}


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


def stem(entry: str) -> str:
    """Image id of a list's entry: the file's name without folders and without the suffix of an image."""
    name = entry.replace("\\", "/").rstrip("/").rpartition("/")[2]
    base, dot, suffix = name.rpartition(".")
    return base if dot and "." + suffix.lower() in SUFFIXES else name


def read_ids(path: Path) -> list[str]:
    """Ids of a list, one a line: an id, an image's name, or an image's path followed by its mask's (IRN's lists).

    Raises:
        DataError: the file is absent, empty, not UTF-8, or repeats an id.
    """
    lines = [line.strip() for line in read_text(path, "the list").splitlines() if line.strip()]
    firsts = [line.split()[0] for line in lines]  # names may hold spaces: only a first word with a suffix stands alone
    return _unique([stem(f if stem(f) != f else line) for f, line in zip(firsts, lines, strict=True)], path)


def read_rows(path: Path) -> dict[str, list[str]]:
    """Image id -> tags as written, from a CSV file of lines `image,tag tag ...`; order kept.

    The image is a file's name, with or without suffix. Tags stand in one column or in several, separated by spaces,
    commas or semicolons. A first line that starts with `image`, `id`, `name` or `file` is a header.

    Raises:
        DataError: the file is absent, empty, not UTF-8, or names an image twice.
    """
    rows = []
    for row in csv.reader(read_text(path, "the table of tags").splitlines()):
        cells = row if len(row) > 1 else re.split(r"[;\t]", row[0]) if row else []
        if any(cell.strip() for cell in cells):
            rows.append([cell.strip() for cell in cells])
    if rows and rows[0][0].lower() in HEADERS:
        rows = rows[1:]
    ids = _unique([stem(row[0]) for row in rows], path)
    return {image: re.split(r"\s*[,;]\s*", ",".join(row[1:])) for image, row in zip(ids, rows, strict=True)}


def read_tags(path: Path, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Image id -> ascending class ids 1..N, from a table as `read_rows` describes it.

    Raises:
        DataError: as `read_rows`, and for a class that is not among `names`, with near misses.
    """
    ids = {name: i for i, name in enumerate(names, 1)}
    rows = read_rows(path).items()
    return {image: class_ids(words(cells, ids), ids, f"{path}, image {image!r}") for image, cells in rows}


def words(cells: Iterable[str], known: Mapping[str, int]) -> list[str]:
    """Class names in the cells: a known name may hold spaces (`dining table`), other cells are split at them."""
    return [word for cell in cells for word in ([cell] if cell in known else cell.split())]


def class_ids(names: Iterable[str], ids: Mapping[str, int], where: str) -> tuple[int, ...]:
    """Ascending ids without repetition. Raises DataError, with near misses, for a name that is not known."""
    found = set()
    for name in names:
        if name not in ids:
            raise DataError(f"known classes in {where}", repr(name), near(name, ids))
        found.add(ids[name])
    return tuple(sorted(found))


def find_images(folder: Path) -> dict[str, Path]:
    """Id -> image for the images directly in a folder. Raises DataError for none, or two of one name."""
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    except OSError as err:
        raise DataError(f"a folder of images {folder}", err.strerror or str(err), "check the data root") from err
    if not files:
        raise DataError(
            f"images ({', '.join(sorted(SUFFIXES))}) in {folder}",
            "none",
            "check the data root; images are not looked for in subfolders",
        )
    _unique([p.stem for p in files], folder)
    return {p.stem: p for p in files}


def samples(
    ids: Sequence[str], images: Mapping[str, Path], tags: Mapping[str, tuple[int, ...]], where: str
) -> tuple[Sample, ...]:
    """One sample an id. Raises DataError for ids without an image or without tags, saying how many and which."""
    for known, what in ((images, "an image file"), (tags, "tags")):
        if lacking := [i for i in ids if i not in known]:
            raise DataError(
                f"{what} for each of the {len(ids)} ids of {where}",
                f"{len(lacking)} without: {some(lacking)}",
                "add what is missing, or take these ids out of the list",
            )
    return tuple(Sample(i, images[i], tags[i]) for i in ids)


def choose_split(name: str, known: Iterable[str], dataset: str) -> str:
    """`name`, if the data set has that split. Raises DataError with near misses."""
    names = list(known)
    if name not in names:
        raise DataError(f"a split of {dataset}", repr(name), near(name, names))
    return name


def need_root(root: str, dataset: str, holds: str) -> Path:
    """The data root. Raises UsageError where none was given, DataError where there is no such folder."""
    if not root:
        raise UsageError(f"the folder of {dataset}: {holds}", "no data root", "give it with --data-root DIR")
    path = Path(root).expanduser()
    if not path.is_dir():
        got = "a file" if path.exists() else "no such folder"
        raise DataError(f"the data root {path}: {holds}", got, "give an existing folder with --data-root DIR")
    return path


def _unique(ids: list[str], where: Path) -> list[str]:
    if not ids:
        raise DataError(f"at least one image in {where}", "none", "write one image a line, or choose another file")
    seen: set[str] = set()
    if twice := [i for i in ids if i in seen or seen.add(i)]:  # type: ignore[func-returns-value]
        raise DataError(
            f"each image once in {where}",
            f"{len(twice)} repeated: {some(twice)}",
            "keep one of each: an image counts once in a score",
        )
    return ids
