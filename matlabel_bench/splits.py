"""Splits as a plan takes them: what cannot be worked on is refused before anything is computed."""

from __future__ import annotations

from typing import Any

from matlabel_bench.errors import DataError
from matlabel_bench.types import Split


def usable(data: Any, name: str) -> Split:
    """The split, if it can be worked on. Raises DataError for one without images or with an id twice."""
    split: Split = data.split(name)
    ids = [s.id for s in split]
    if not ids or len(set(ids)) < len(ids):
        got = f"{len(ids) - len(set(ids))} ids more than once" if ids else "no image"
        raise DataError(
            f"images with different ids in split {name!r} of {split.dataset}", got, "complete or correct its list"
        )
    return split


def need_masks(data: Any, split: Split) -> None:
    """Raises DataError where images of a scored split have no mask: found now rather than after hours of training."""
    files = data.mask_files(split.name)
    lacking = [s.id for s in split if s.id not in files] if files or data.masks(split.name) is None else []
    if lacking:
        raise DataError(
            f"a mask for each of the {len(split)} images of split {split.name!r} of {split.dataset}, to score them",
            f"{len(lacking)} without, e.g. {', '.join(lacking[:3])}",
            "add the missing files, or score a split where every image has a mask; `bench label` needs none",
        )
