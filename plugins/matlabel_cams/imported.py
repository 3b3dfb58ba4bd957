"""Maps or pseudo-labels that other repositories wrote: with them any method can stand in a table by its authors' files.

Formats, as the repositories write them: IRN's and ReCAM's ID.npy (jiwoon-ahn/irn at a2ece00, step/make_cam.py), a
pickled dictionary of `keys` (0-based classes), `cam` (k, h/4, w/4) and `high_res` (k, h, w); SEAM's ID.npy
(YudeWang/SEAM at 17a8eb6, infer_SEAM.py), a pickled dictionary from class to map; masks ID.png of 0..N and 255, whose
maps are 1 where the mask has the class; ID.npz of this program's store (`cams`, and `size` of the image).
Pickles are read by a reader of our own that accepts arrays and tensors and nothing else (`pickles.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np
import PIL.Image

from matlabel_bench.errors import DataError, UsageError
from matlabel_bench.fields import knob
from matlabel_bench.images import UNREADABLE, read_label
from matlabel_bench.types import IGNORE, Cams, Image, Tags
from matlabel_cams.foreign import read_arrays, read_dictionary
from matlabel_cams.trained import scaled

SUFFIXES = {"irn": ".npy", "seam": ".npy", "png": ".png", "npz": ".npz"}
"""Of the files of each format."""
CELLS = range(2, 65)
"""Pixels a side that a cell of maps may cover: networks have strides up to 32, and IRN writes every fourth pixel."""
ORDER = "check that the file belongs to this image, and that height and width have not changed places"
"""What to do about maps of another size."""
Found = Mapping[int, np.ndarray]
"""Class id 1..N -> map, gh gw."""


@dataclass(frozen=True)
class Imported:
    """Maps or pseudo-labels from a folder of files that another program wrote."""

    version: ClassVar[int] = 1
    trains: ClassVar[bool] = False
    wants_id: ClassVar[bool] = True
    cost: ClassVar[float] = 0.05
    supervision: ClassVar[tuple[str, ...]] = ("imported",)

    maps: str = knob("", "folder with a file ID.npy, ID.png or ID.npz for each image", key="folder")
    format: str = knob("auto", "of the files; auto: as the folder's suffixes say", choices=("auto", *SUFFIXES))
    plane: str = knob("high_res", "which maps of IRN's files, where they hold both", choices=("high_res", "cam"))
    first: int = knob(0, "number of the first class in .npy files; 1 where they count the background", low=0, high=1)
    alien: str = knob(
        "error", "a file none of whose classes is a tag of its image: an error, or ignored", choices=("error", "ignore")
    )

    def note(self) -> str:
        """What a table must say of maps from elsewhere."""
        return "imported: maps were read from files; what their authors trained them on is not known to this program"

    def open(self, out: Path | None) -> Callable[[Image, Tags, str], Cams]:
        """The live function: maps of an image by its id, 0 for tags without one.

        Raises:
            UsageError: no folder given.
            DataError: no such folder, no file of the format in it, several formats for auto. From the live function:
                no file for an image, a damaged or forged file, maps of another size, of other classes or not finite.
        """
        folder = _folder(self.maps)
        suffix, names = _listed(folder, self.format)

        def read(image: Image, tags: Tags, name: str) -> Cams:
            size = (image.shape[0], image.shape[1])
            if not len(tags):
                return np.zeros((0, *size), np.float32)
            path = _file_of(name, folder, suffix, names)
            found = self._maps_in(path, size, tags)
            known = [int(tag) for tag in tags]
            if found and self.alien == "error" and not any(tag in found for tag in known):
                raise DataError(
                    f"maps of class {' or '.join(map(str, known))}, the tags of {name}",
                    f"{path} with {', '.join(map(str, sorted(found)[:8]))}",
                    "compare its authors' list of classes with this data set's; " + self._renumber(path),
                )
            shape = next(iter(found.values())).shape if found else size
            return scaled(np.stack([found.get(tag, np.zeros(shape, np.float32)) for tag in known]))

        return read

    def _maps_in(self, path: Path, size: tuple[int, int], tags: Tags) -> Found:
        if path.suffix == ".png":
            return _of_mask(path, size)
        if path.suffix == ".npz":
            found = _of_store(path, size, tags)
        else:
            content = read_dictionary(path)
            irn = self.format == "irn" or (self.format == "auto" and "keys" in content)
            of_class = _of_irn(path, content, self.plane) if irn else content
            found = {_class(key, path) + 1 - self.first: value for key, value in of_class.items()}
            found.pop(0, None)  # the background, where it is counted
        return _checked(found, path, size)

    def _renumber(self, path: Path) -> str:
        other = f"set first={1 - self.first}, if they count otherwise; " if path.suffix == ".npy" else ""
        return f"{other}alien=ignore takes the image for empty"


def _folder(given: str) -> Path:
    if not given:
        raise UsageError("a folder with maps", "none given", "give it by --set imported.maps=FOLDER")
    if not Path(given).is_dir():
        raise DataError(f"the folder {given}", "no such folder", "check --set imported.maps=FOLDER")
    return Path(given)


def _listed(folder: Path, form: str) -> tuple[str, frozenset[str]]:
    """The suffix of the format and the names of its files without it."""
    files = sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    held = Counter(Path(name).suffix for name in files)
    present = [s for s in dict.fromkeys(SUFFIXES.values()) if held[s]]
    wanted = [s for s in present if form in ("auto", *(f for f, suffix in SUFFIXES.items() if suffix == s))]
    told = ", ".join(f"{n} {s or 'without suffix'}" for s, n in held.most_common(4)) or "no files"
    if not wanted:
        expected = f"files {' or '.join(f'ID{s}' for s in dict.fromkeys(SUFFIXES.values()))}"
        expected = expected if form == "auto" else f"files ID{SUFFIXES[form]} (format={form})"
        more = f", first {', '.join(files[:3])}" if files else ""
        raise DataError(f"{expected} in {folder}", told + more, "name the folder that holds them, or set format")
    if len(wanted) > 1:
        raise DataError(f"files of one format in {folder}", told, "set format to that of the maps")
    return wanted[0], frozenset(name.removesuffix(wanted[0]) for name in files if name.endswith(wanted[0]))


def _file_of(name: str, folder: Path, suffix: str, names: frozenset[str]) -> Path:
    """An image's file. COCO's files are named like the images, or by their number, with or without leading zeros."""
    tried = [name, quote(name, safe=" ")]
    if number := re.fullmatch(r"(?:COCO_\w+_)?(\d+)", name):
        tried += [str(int(number[1])), number[1].zfill(12)]
    for one in tried:
        if one in names:
            return folder / (one + suffix)
    first = ", ".join(n + suffix for n in sorted(names)[:3])
    raise DataError(
        f"a file {name}{suffix} in {folder}",
        f"no such file among the {len(names)} there, first {first}",
        "write maps for every image of the split, under its id; or choose the split they were written for",
    )


def _class(key: Any, path: Path) -> int:
    if isinstance(key, bool) or not isinstance(key, int | np.integer) or not 0 <= key < IGNORE - 1:
        raise DataError(
            f"classes 0..{IGNORE - 2} in {path}", repr(key)[:60], "choose another format, or write it again"
        )
    return int(key)


def _of_irn(path: Path, content: Mapping[Any, Any], plane: str) -> Mapping[Any, np.ndarray]:
    planes = [p for p in dict.fromkeys((plane, "high_res", "cam")) if content.get(p) is not None]
    if not planes or "keys" not in content:
        raise DataError(
            f"`keys` with `cam` or `high_res` in {path}",
            f"{', '.join(map(repr, list(content)[:6]))}",
            "set format=seam",
        )
    keys, maps = np.asarray(content["keys"]).reshape(-1), np.asarray(content[planes[0]])
    return dict(zip(*_paired(keys.tolist(), maps, path), strict=True))


def _of_store(path: Path, size: tuple[int, int], tags: Tags) -> Found:
    content = read_arrays(path)
    if "cams" not in content:
        raise DataError(f"an array `cams` in {path}", ", ".join(content) or "nothing", "choose another format")
    if "size" in content and tuple(content["size"].tolist()) != size:
        raise DataError(f"maps of an image of {size[0]}x{size[1]} in {path}", str(content["size"].tolist()), ORDER)
    return dict(zip(*_paired([int(tag) for tag in tags], content["cams"], path), strict=True))


def _paired(classes: list[Any], maps: np.ndarray, path: Path) -> tuple[list[Any], np.ndarray]:
    if maps.ndim != 3 or len(maps) != len(classes):
        shape = " x ".join(map(str, maps.shape))
        raise DataError(f"{len(classes)} maps in {path}, one a class", f"an array of {shape}", "write the file again")
    return classes, maps


def _of_mask(path: Path, size: tuple[int, int]) -> Found:
    """1 where the mask has the class; what it ignores is background."""
    try:
        with PIL.Image.open(path) as picture:  # reads the header only: the size is known before anything is unpacked
            width, height = picture.size
    except UNREADABLE as err:
        raise DataError(f"a readable mask {path}", str(err) or type(err).__name__, "copy it again") from err
    if (height, width) != size:
        raise DataError(f"a mask of {size[0]}x{size[1]} in {path}", f"{height}x{width}", ORDER)
    mask = read_label(path, IGNORE - 1)
    return {c: (mask == c).astype(np.float32) for c in np.unique(mask).tolist() if c not in (0, IGNORE)}


def _checked(found: Found, path: Path, size: tuple[int, int]) -> Found:
    """The maps as finite float32 on one grid of square cells that cover the image."""
    shapes = {np.shape(m) for m in found.values()}
    if len(shapes) > 1 or any(len(s) != 2 or 0 in s for s in shapes):
        raise DataError(f"maps of one size in {path}", ", ".join(str(s) for s in sorted(shapes)[:3]), "write it again")
    for shape in shapes:
        if shape != size and not any(all(-(-a // s) == b for a, b in zip(size, shape, strict=True)) for s in CELLS):
            raise DataError(
                f"maps of {size[0]}x{size[1]} in {path}, or of that size divided by a whole number",
                f"{shape[0]}x{shape[1]}",
                ORDER,
            )
    out = {c: np.asarray(m) for c, m in found.items()}
    if any(m.dtype.kind not in "fiub" or not np.isfinite(m).all() for m in out.values()):
        raise DataError(f"finite numbers in {path}", "others (nan, infinity or no numbers)", "write its maps again")
    return {c: m.astype(np.float32) for c, m in out.items()}
