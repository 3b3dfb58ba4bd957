"""Folders that are filled on first use, whole or not at all, and a mapping that fills them only when asked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from matlabel_bench.errors import DataError

CACHE = "MATLABEL_BENCH_CACHE"


def cache() -> Path:
    """$MATLABEL_BENCH_CACHE, else matlabel_bench in $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get(CACHE):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matlabel_bench"


def once(final: Path, what: str, fill: Callable[[Path], None], option: str = "--data-root or ") -> Path:
    """`final`, filled by `fill` if it is not there; any number of processes may ask at once.

    `fill` gets an empty temporary folder, which is renamed: `final` exists only when it is complete.

    Args:
        option: what else than the environment decides where the folder lies, for the error message.

    Raises:
        DataError: the folder cannot be written.
    """
    if final.is_dir():
        return final
    from filelock import FileLock

    part = final.with_name(final.name + ".part")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(final.with_name(final.name + ".lock")):
            if not final.is_dir():
                shutil.rmtree(part, ignore_errors=True)  # what an interrupted call left
                part.mkdir()
                fill(part)
                part.rename(final)
    except OSError as err:
        raise DataError(
            f"to write {what} to {final}",
            err.strerror or str(err),
            f"free space, or choose another folder with {option}{CACHE}",
        ) from err
    return final


@dataclass(frozen=True)
class Lazy(Mapping[str, Path]):
    """Name -> folder; a folder is made when it is asked for, not when names are listed."""

    makers: Mapping[str, Callable[[], Path]]

    def __getitem__(self, name: str) -> Path:
        return self.makers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self.makers

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)
