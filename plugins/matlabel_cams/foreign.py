"""Arrays from files that other repositories wrote, the pickled dictionaries in old .npy files among them."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from matlabel_bench.errors import DataError
from matlabel_cams.pickles import Alien, Array, Pickles

LARGEST = 1 << 30
"""Bytes of the largest file, or content of a compressed one, that is read."""


def read_dictionary(path: Path) -> dict[Any, Any]:
    """The dictionary that `np.save` pickled into a file: arrays and tensors as arrays, numbers and texts as they are.

    Raises:
        DataError: a pickle that names anything but arrays, tensors and plain containers (the name is told); a file
            that is no .npy, damaged, larger than LARGEST, or of something else than one dictionary.
    """
    data = _bytes(path)
    try:
        found = _object(io.BytesIO(data), Pickles(len(data)))
    except Alien as err:
        raise DataError(
            "a file of arrays",
            f"{path}, which asks for `{err}`",
            "do not use this file: maps need no such name, and another reader would call it; ask its authors about it",
        ) from err
    except Exception as err:  # what a forged file can raise has no end
        raise _damaged(path, err, "an .npy file with a dictionary of maps, as IRN's or SEAM's") from err
    if not isinstance(found, dict):
        kind = f"an array of shape {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise DataError(
            "an .npy file with a dictionary of maps", f"{path} with {kind}", "choose another format or folder"
        )
    return {key: value.value if isinstance(value, Array) else value for key, value in found.items()}


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Raises DataError: damaged, larger than LARGEST unpacked, Python objects."""
    data = _bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if (size := sum(m.file_size for m in members)) > LARGEST:
                raise ValueError(f"{size} bytes unpacked, at most {LARGEST} are read")
            if any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members):
                raise ValueError("a compression whose length cannot be bounded")
            return {m.filename.removesuffix(".npy"): _plain(io.BytesIO(archive.read(m))) for m in members}
    except Exception as err:  # as above
        raise _damaged(path, err, "an .npz file of arrays") from err


def _bytes(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise DataError(f"a file of at most {LARGEST} bytes", f"{path} of {size}", "check what the file is")
        return path.read_bytes()
    except OSError as err:
        raise DataError(f"a readable file {path}", err.strerror or str(err), "check the folder's permissions") from err


def _header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of an .npy file; the stream stands behind its header then."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return shape, fortran, dtype


def _object(stream: io.BytesIO, file: Pickles) -> Any:
    if not _header(stream)[2].hasobject:
        stream.seek(0)
        return _plain(stream)
    found = file.load(stream)
    if not isinstance(found, Array):
        raise pickle.UnpicklingError("no array around the dictionary")
    return found.value


def _plain(stream: io.BytesIO) -> np.ndarray:
    """An array of numbers. np.load would allocate whatever the header announces."""
    shape, fortran, dtype = _header(stream)
    if dtype.hasobject:
        raise ValueError("Python objects instead of numbers")
    return np.frombuffer(stream.read(), dtype).reshape(shape, order="F" if fortran else "C")


def _damaged(path: Path, err: Exception, expected: str) -> DataError:
    reason = (str(err) or type(err).__name__).splitlines()[0]
    return DataError(expected, f"{path}: {reason}", "write or copy the file again, or take its image out of the split")
