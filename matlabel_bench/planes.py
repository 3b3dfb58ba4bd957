"""Several 8-bit planes of one image in one grey PNG, stacked, with notes in a text chunk: trimaps and alphas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from matlabel_bench.errors import DataError
from matlabel_bench.images import UNREADABLE, save_png

CHUNK = "matlabel"
"""Name of the PNG text chunk that holds a file's notes as JSON."""


def write_planes(path: Path, planes: UInt8[np.ndarray, "k h w"], size: Sequence[int], notes: dict[str, Any]) -> None:
    """Stack k planes into one grey PNG; an image without classes becomes one black plane, noted as none."""
    from PIL import Image

    stack = planes.reshape(-1, planes.shape[-1]) if len(planes) else np.zeros(tuple(size), np.uint8)
    text = json.dumps(notes | {"planes": len(planes)}, sort_keys=True)
    save_png(path, Image.fromarray(np.ascontiguousarray(stack)), {CHUNK: text})


def read_planes(path: Path) -> tuple[UInt8[np.ndarray, "k h w"], dict[str, Any]]:
    """k h w uint8 and the notes of a file that `write_planes` wrote. Raises DataError for any other."""
    from PIL import Image

    try:
        with Image.open(path) as handle:
            notes = json.loads(handle.text[CHUNK])  # type: ignore[attr-defined]
            stack = np.asarray(handle, dtype=np.uint8)
        count = int(notes["planes"])
        planes = stack.reshape(count, -1, stack.shape[1]) if count else np.zeros((0, *stack.shape), np.uint8)
    except (*UNREADABLE, KeyError, AttributeError) as err:
        raise DataError("planes that this program wrote", f"{path} ({err})", "run `bench store verify`") from err
    return planes, notes
