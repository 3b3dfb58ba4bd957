"""Content-addressed stage outputs: what a key names is computed once, by whichever run comes first.

    STORE/STAGE/KEY/record.json    what the key stands for, in words
                   /files/...      one small file an image, or the weights of a training
                   /done.json      written last: digests of all files and the seconds they took
    STORE/locks/KEY.lock           held while a run works on the key; the system releases it when the run dies

A folder without done.json is work in progress: its finished files are kept and the rest is computed. Nothing that
failed is ever marked done.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matlabel_bench.errors import DataError, UsageError
from matlabel_bench.files import write_bytes

DONE, RECORD, FILES = "done.json", "record.json", "files"
KIND = ("cpu", "vectors", "gpus")
"""Of `record.hardware`: what alike machines share."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One key's place in the store."""

    stage: str
    key: str
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / self.stage / self.key

    @property
    def files(self) -> Path:
        return self.folder / FILES

    @property
    def done(self) -> bool:
        return (self.folder / DONE).is_file()

    def report(self) -> dict[str, Any]:
        """What done.json says: `seconds`, `bytes`, `notes`, and `files` (name -> digest)."""
        return read_json(self.folder / DONE)


class Store:
    """The store under a folder. Raises UsageError where the folder cannot be made or written."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()  # workers may stand in another folder
        try:
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
            probe = self.root / "locks" / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as err:
            raise UsageError(
                "a store folder that can be written",
                f"{self.root} ({err.strerror})",
                "give another folder with --store, or change its permissions",
            ) from err

    def slot(self, stage: str, key: str) -> Slot:
        return Slot(stage, key, self.root)

    @contextmanager
    def claim(self, slot: Slot, record: Mapping[str, Any], waiting: Callable[[str], None]) -> Iterator[bool]:
        """Hold the key's lock; yields whether there is work left (another run may have finished it meanwhile)."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.root / "locks" / f"{slot.key}.lock")
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            waiting(f"{slot.stage} {slot.key[:8]} is being computed by another run on this store; waiting for it")
            lock.acquire()
        try:
            if not slot.done:
                slot.files.mkdir(parents=True, exist_ok=True)
                write_json(slot.folder / RECORD, record)
            yield not slot.done
        finally:
            lock.release()

    def finish(self, slot: Slot, seconds: float, notes: Mapping[str, Any]) -> None:
        """Mark the key done: from now on its files are taken as they are."""
        files = {p.relative_to(slot.files).as_posix(): digest(p) for p in _walk(slot.files)}
        size = sum((slot.files / name).stat().st_size for name in files)
        whole = {"seconds": round(seconds + self.spent(slot), 2), "bytes": size, "notes": dict(notes), "files": files}
        write_json(slot.folder / DONE, whole)

    def spent(self, slot: Slot) -> float:
        """Seconds that earlier, interrupted runs put into the key."""
        with suppress(DataError, KeyError, TypeError):
            return float(read_json(slot.folder / "spent.json")["seconds"])
        return 0.0

    def interrupt(self, slot: Slot, seconds: float) -> None:
        """Remember the seconds of a run that ends before the key is done."""
        if slot.folder.is_dir() and not slot.done:
            with suppress(OSError):  # the disk may be full: the reason of the end matters more than its seconds
                write_json(slot.folder / "spent.json", {"seconds": round(seconds + self.spent(slot), 2)})

    def slots(self) -> Iterator[Slot]:
        """Every key on disk, in a fixed order."""
        for record in sorted(self.root.glob(f"*/*/{RECORD}")):
            yield Slot(record.parent.parent.name, record.parent.name, self.root)

    def rates(self, hardware: Mapping[str, Any] | None = None) -> dict[tuple[str, str, str], float]:
        """Seconds an item that finished keys of each (stage, part, device) took: what `bench plan` forecasts from.

        Args:
            hardware: as `record.hardware` has it; keys made on this processor and these cards count alone, where
                there are any.

        A device is "cpu", "cuda", or "" where the record does not tell.
        """
        seen: dict[tuple[str, str, str], dict[bool, list[float]]] = {}
        for slot in self.slots():
            with suppress(DataError, KeyError, TypeError):
                record, report = read_json(slot.folder / RECORD), slot.report()
                rate = report["seconds"] / max(int(record["items"]), 1)
                there = record.get("environment", {}).get("hardware", {})
                alike = hardware is not None and all(there.get(n) == hardware.get(n) for n in KIND)
                work = slot.stage, record["part"] or "", record.get("device", "")
                seen.setdefault(work, {}).setdefault(alike, []).append(rate)
        best = {k: sorted(by.get(True) or by[False]) for k, by in seen.items()}
        return {k: v[len(v) // 2] for k, v in best.items()}

    def verify(self) -> list[str]:
        """Problems found by reading every finished file again: missing, changed or unreadable ones, and the remedy."""
        problems = []
        for slot in self.slots():
            if not slot.done:
                continue
            try:
                files = slot.report()["files"]
            except (DataError, KeyError) as err:
                problems.append(f"{slot.stage}/{slot.key}: {err}")
                continue
            for name, want in files.items():
                path = slot.files / name
                if not path.is_file():
                    problems.append(f"{slot.stage}/{slot.key}/{name}: missing")
                elif digest(path) != want:
                    problems.append(f"{slot.stage}/{slot.key}/{name}: changed since it was written")
        if problems:
            problems.append(f"remedy: remove these STAGE/KEY folders from {self.root}; the next run computes them anew")
        return problems

    def gc(self, *, days: float = 30.0, dry: bool = False) -> tuple[int, int]:
        """Remove keys that no run used for `days` and unfinished ones nobody works on; (folders, bytes) removed.

        Raises:
            UsageError: `days` is no number of days.
        """
        from filelock import FileLock, Timeout

        if not days >= 0:  # nan among them
            raise UsageError(
                "a number of days of at least 0", repr(days), "give --days 0 to remove all that is finished"
            )
        count = size = 0
        for slot in self.slots():
            marker = slot.folder / (DONE if slot.done else RECORD)
            if slot.done and time.time() - marker.stat().st_mtime < days * 86400:
                continue
            try:
                with FileLock(self.root / "locks" / f"{slot.key}.lock", timeout=0):
                    count, size = count + 1, size + sum(p.stat().st_size for p in _walk(slot.folder))
                    if not dry:
                        shutil.rmtree(slot.folder)
            except Timeout:
                continue
        return count, size

    def touch(self, slot: Slot) -> None:
        """Note that a finished key was used, for `gc`."""
        with suppress(OSError):
            os.utime(slot.folder / DONE)


def digest(path: Path) -> str:
    """BLAKE2b-128 of a file's bytes, hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Raises DataError for a file that is missing or no JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise DataError(
            "a readable JSON file of the store",
            f"{path} ({err})",
            "remove the folder it lies in and run again: what it held is computed anew",
        ) from err
    if not isinstance(value, dict):
        raise DataError(
            "a JSON object", f"{path} with {type(value).__name__}", "remove the folder it lies in and run again"
        )
    return value


def _walk(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
