"""Splits as a plan takes them: what cannot be worked on is refused before anything is computed.

Wherever a split is named, `NAME:1/2` is every second image of NAME from the first on, and `NAME:2/2` the others:
settings are chosen on one part of a split and reported on another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from matlabel_bench.errors import DataError, UsageError
from matlabel_bench.fingerprint import Fingerprints
from matlabel_bench.types import Split


class Splits:
    """Splits of a data set with their fingerprints, each looked at once.

    Raises:
        UsageError, DataError: a split, or an image or mask of it, is not there.
    """

    def __init__(self, dataset: Any, prints: Fingerprints) -> None:
        self.dataset, self.prints = dataset, prints
        self.known: dict[str, tuple[Split, str]] = {}
        self.masked: dict[str, str] = {}
        self.having: dict[str, bool] = {}

    def split(self, name: str) -> Split:
        if name not in self.known:
            split = usable(self.dataset, name)
            self.known[name] = split, self.prints.split(split)
        return self.known[name][0]

    def images(self, split: Split) -> str:
        """Fingerprint of the split's images and tags."""
        return self.known[split.name][1]

    def masks(self, split: Split) -> str:
        """Fingerprint of the split's masks. Raises DataError where one lacks."""
        if split.name not in self.masked:
            self.masked[split.name] = self.prints.files(need_masks(self.dataset, split))
            self.having[split.name] = True
        return self.masked[split.name]

    def has_masks(self, split: Split) -> bool:
        if split.name not in self.having:
            self.having[split.name] = self.dataset.masks(whole(split.name)) is not None
        return self.having[split.name]


def usable(data: Any, name: str) -> Split:
    """The split, if it can be worked on.

    Raises:
        DataError: no such split, one without images or with an id twice. UsageError: an impossible part of it.
    """
    split: Split = data.split(whole(name))
    if part := name.partition(":")[2]:
        first, every = _part(name, part)
        split = replace(split, name=name, samples=split.samples[first - 1 :: every])
    ids = [s.id for s in split]
    if not ids or len(set(ids)) < len(ids):
        got = f"{len(ids) - len(set(ids))} ids more than once" if ids else "no image"
        raise DataError(
            f"images with different ids in split {name!r} of {split.dataset}", got, "complete or correct its list"
        )
    return split


def need_masks(data: Any, split: Split) -> Mapping[str, Path]:
    """Image id -> mask file; empty where the masks are in no files.

    Raises DataError where images of a scored split have no mask: found now rather than after hours of training.
    """
    files: Mapping[str, Path] = data.mask_files(whole(split.name))
    lacking = [s.id for s in split if s.id not in files] if files or data.masks(whole(split.name)) is None else []
    if lacking:
        raise DataError(
            f"a mask for each of the {len(split)} images of split {split.name!r} of {split.dataset}, to score them",
            f"{len(lacking)} without, e.g. {', '.join(lacking[:3])}",
            "add the missing files, or score a split where every image has a mask; `bench label` needs none",
        )
    return files if split.name == whole(split.name) or not files else {s.id: files[s.id] for s in split}


def whole(name: str) -> str:
    """The split of the data set that a name means, or means a part of."""
    return name.partition(":")[0]


def _part(name: str, part: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", part)
    if not found or int(found[1]) > int(found[2]):
        base = whole(name)
        raise UsageError(f"a part of split {base!r} as {base}:1/2 or {base}:2/2", repr(name), "write part/parts")
    return int(found[1]), int(found[2])
