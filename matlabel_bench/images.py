"""Pictures in and out: reading images and masks of any usable mode, writing palette PNGs, enlarging maps."""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import Float32
from PIL.Image import Resampling
from PIL.PngImagePlugin import PngInfo

from matlabel_bench.errors import ContractError, DataError
from matlabel_bench.types import IGNORE, Image, Label

RUNS = zlib.Z_RLE
"""How grey and palette pictures are compressed."""
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error, PIL.Image.DecompressionBombError)
"""What Pillow raises for a file that is absent, truncated, of another format or broken inside."""


def _voc_palette() -> np.ndarray:
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):  # bits 0, 1, 2 of each triple of bits go to red, green, blue, highest first
        for channel in range(3):
            colours[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


VOC_PALETTE = _voc_palette()
"""256 x 3 uint8: the colours of PASCAL VOC's masks; row 255, a pale grey, is the ignored border."""


def read_image(path: Path) -> Image:
    """The pixels of a picture as RGB, turned as its EXIF orientation says.

    Grey is repeated, 16-bit grey scaled to 8, palettes looked up, CMYK converted, transparency laid over white.

    Raises:
        DataError: the file is missing, corrupt, truncated or of a mode without colours (floating point).
    """
    picture = _load(Path(path), "image")
    if picture.mode in ("I", "F"):
        raise DataError(
            "an image with 8 or 16 bits a channel", f"{path} of mode {picture.mode}", "save it as an 8-bit PNG or JPEG"
        )
    picture = PIL.ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        grey = (np.asarray(picture).astype(np.uint32) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = PIL.Image.alpha_composite(PIL.Image.new("RGBA", picture.size, "white"), picture)
    return np.array(picture.convert("RGB"))


def read_label(path: Path, highest: int) -> Label:
    """A mask of class ids, from a palette or grey image.

    Args:
        highest: the largest class id; 0..highest and 255 are the only values allowed.

    Raises:
        DataError: the file is missing or corrupt, has colours instead of ids, or has a value out of range.
    """
    picture = _load(Path(path), "mask")
    if picture.mode not in ("P", "L", "1", "I", "I;16"):
        raise DataError(
            "a mask as a palette or grey PNG, one class id a pixel",
            f"{path} of mode {picture.mode}",
            "turn its colours into class ids (0 background, 1..N classes, 255 ignored) and save it as a grey PNG",
        )
    values = np.asarray(picture)
    # np.unique sorts, which takes longer
    seen = np.flatnonzero(np.bincount(values.ravel())) if values.dtype == np.uint8 else np.unique(values)
    odd = [int(v) for v in seen if not 0 <= v <= highest and v != IGNORE]
    if odd:
        raise DataError(
            f"mask values 0..{highest} and {IGNORE}",
            f"{path} with {', '.join(map(str, odd[:8]))}{' ...' if len(odd) > 8 else ''}",
            f"repaint these pixels with a known class or {IGNORE}, or check that the list of classes is complete",
        )
    return np.array(values, np.uint8)


def write_label(path: Path, label: Label, notes: Mapping[str, str] | None = None) -> None:
    """Write class ids as a PNG with VOC's colours; a reader never sees half a file.

    Args:
        label: h w uint8.
        notes: text chunks to keep in the file, e.g. which trimaps were degenerate.

    Raises:
        ContractError: not an h w uint8 array.
        DataError: the file cannot be written (no permission, full disk).
    """
    if label.dtype != np.uint8 or label.ndim != 2:
        raise ContractError(
            "a label as uint8, h x w", f"{label.dtype}, {' x '.join(map(str, label.shape))}", "write class ids 0..255"
        )
    picture = PIL.Image.fromarray(np.ascontiguousarray(label))
    picture.putpalette(VOC_PALETTE.tobytes())
    save_png(path, picture, notes)


def save_png(path: Path, picture: PIL.Image.Image, notes: Mapping[str, str] | None = None) -> None:
    """Write a picture under a temporary name and rename it. Raises DataError where that fails.

    Of grey and palette pictures, which hold labels, trimaps and alphas here, only runs of one value are compressed:
    that takes about half the time of zlib's default, and the files of photographs are smaller (docs/speed.md).
    """
    strategy = RUNS if picture.mode in ("L", "P") else zlib.Z_DEFAULT_STRATEGY
    info = PngInfo()
    for name, text in (notes or {}).items():
        info.add_text(name, text)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")  # unique: two processes may write one path
    try:
        picture.save(part, format="PNG", pnginfo=info, compress_type=strategy)
        os.replace(part, path)  # noqa: PTH105 - the atomic rename, by its own name
    except OSError as err:
        raise DataError(
            f"to write {path}", err.strerror or str(err), "free space, check the permissions or choose another folder"
        ) from err
    finally:
        part.unlink(missing_ok=True)


def resize_image(picture: np.ndarray, size: tuple[int, ...], how: Resampling = Resampling.BICUBIC) -> np.ndarray:
    """A picture (image, label or plane of float32) at another size, h w, by one of Pillow's filters.

    All but NEAREST average where they make smaller. A picture of that size already is returned as it is.
    """
    if picture.shape[:2] == tuple(size):
        return picture
    return np.asarray(PIL.Image.fromarray(np.ascontiguousarray(picture)).resize((size[1], size[0]), how))


def enlarge(maps: Float32[np.ndarray, "k gh gw"], size: tuple[int, int]) -> Float32[np.ndarray, "k h w"]:
    """Bring maps from a network's grid to the size of the image, bilinearly.

    A cell covers s x s pixels, s = ceil(h / gh) (the same for the width), from the top-left corner: the maps are
    enlarged to gh s x gw s, samples at the cells' centres, borders replicated, and cropped. Nothing is stretched.
    Equal to torch's interpolate(mode="bilinear", align_corners=False) followed by the crop.

    Args:
        size: (h, w) of the image.

    Raises:
        ContractError: not three axes, or an empty grid.
    """
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ContractError(
            "maps with axes k, gh, gw and a grid of at least 1 x 1",
            " x ".join(map(str, maps.shape)),
            "give one map a tag",
        )
    maps = np.asarray(maps, np.float32)
    if maps.shape[1:] == tuple(size):
        return maps.copy()
    low, high, part = _line(maps.shape[1], size[0])
    rows = maps[:, low] + (maps[:, high] - maps[:, low]) * part[:, None]
    low, high, part = _line(maps.shape[2], size[1])
    large: np.ndarray = rows[:, :, low]
    large += (rows[:, :, high] - large) * part
    return large


def _line(cells: int, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel of an axis: its two cells and the share of the second."""
    step = -(-pixels // cells)
    at = np.clip((np.arange(pixels) + 0.5) / step - 0.5, 0, cells - 1)
    low = np.floor(at).astype(np.intp)
    return low, np.minimum(low + 1, cells - 1), (at - low).astype(np.float32)


def _load(path: Path, what: str) -> PIL.Image.Image:
    """An opened, fully decoded picture."""
    try:
        picture = PIL.Image.open(path)
        with picture:
            picture.load()
    except FileNotFoundError as err:
        raise DataError(
            f"the {what} {path}", "no such file", "check the data root, or take its id out of the list"
        ) from err
    except UNREADABLE as err:
        reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err) or type(err).__name__
        raise DataError(
            f"a readable {what} {path}",
            f"a file that cannot be decoded ({reason})",
            "copy or download it again, or take its id out of the list",
        ) from err
    else:
        return picture
