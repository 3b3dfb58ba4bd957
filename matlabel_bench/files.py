"""Whole files or none: what a reader finds under a name is never half written."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Write under a temporary name beside `path`, then rename; makes the folder. Raises OSError where that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as err:
        if err.filename is None:  # a full disk does not say where
            err.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """`write_bytes` in UTF-8 with line ends as given."""
    write_bytes(path, content.encode("utf-8"))


def share(source: Path, target: Path) -> None:
    """A second name for a file that is never changed, or a copy where the disk has no such thing."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    with suppress(FileNotFoundError):
        part.unlink()
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)
