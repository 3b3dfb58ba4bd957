"""What a data set's files are, as one digest: a changed image or mask changes every key that depends on it.

Digests of file contents are remembered by path, size and time of change, so that a later run need not read
gigabytes again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from matlabel_bench import fields
from matlabel_bench.errors import DataError
from matlabel_bench.store import digest, read_json, write_json
from matlabel_bench.types import Split


class Fingerprints:
    """Digests of splits and masks, with a memory in the store's folder."""

    def __init__(self, store: Path) -> None:
        self.memory = store / "fingerprints"

    def split(self, split: Split) -> str:
        """Digest of ids, tags, class names and image contents. Raises DataError naming images that are absent."""
        files = self._digests({s.id: s.path for s in split}, f"split {split.name!r} of {split.dataset}")
        rows = [[s.id, list(s.tags), files[s.id]] for s in split]
        return _sha({"classes": list(split.classes), "rows": rows})

    def files(self, files: Mapping[str, Path]) -> str:
        """Digest of named files, e.g. a split's masks."""
        return _sha(self._digests(files, "the masks")) if files else "none"

    def _digests(self, files: Mapping[str, Path], who: str) -> dict[str, str]:
        if not files:
            return {}
        first = min(str(p.parent) for p in files.values())
        memory = self.memory / f"{_sha([first, len(files), min(files)])[:24]}.json"
        known: dict[str, Any] = {}
        with suppress(DataError):  # no memory yet, or an unreadable one: it is only a memory
            known = read_json(memory)
        out, fresh = {}, {}
        absent = []
        for name, path in files.items():
            try:
                stat = path.stat()
                mark = [str(path), stat.st_size, stat.st_mtime_ns]
                old = known.get(name)
                kept = old if isinstance(old, list) and len(old) == 4 and old[:3] == mark else None
                out[name] = kept[3] if kept else digest(path)
            except OSError:
                absent.append(name)
                continue
            fresh[name] = [*mark, out[name]]
        if absent:
            raise DataError(
                f"every file of {who}",
                f"{len(absent)} absent, e.g. {', '.join(absent[:3])} (looked in {first})",
                "complete the data set, or take the ids out of its list",
            )
        if fresh != known:
            self.memory.mkdir(parents=True, exist_ok=True)
            write_json(memory, fresh)
        return out


def _sha(value: Any) -> str:
    return hashlib.sha256(fields.canonical(value).encode()).hexdigest()
