"""What a failed command says, and the code it ends with."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from matlabel_bench.errors import BenchError, DataError, MissingPart, UsageError

FAILED, USAGE, DEFECT, INTERRUPTED = 1, 2, 70, 130
GATE_USAGE = 3  # `bench gate` says 2 for "not measured"

_STORED = "what was finished is kept, and the same command resumes"
_OS_ERRORS = {
    errno.ENOSPC: (
        "room on the disk",
        f"free some space, or move on with --store and --out on another disk; {_STORED}",
    ),
    errno.EDQUOT: ("room within the disk quota", f"free some space, or choose --store and --out elsewhere; {_STORED}"),
    errno.EFBIG: ("room for a file of this size", f"raise the limit of file sizes (ulimit -f); {_STORED}"),
    errno.EACCES: ("permission to use the file or folder", "change its permissions, or choose another one"),
    errno.EPERM: ("permission to use the file or folder", "change its permissions, or choose another one"),
    errno.EROFS: ("a disk that can be written", "choose --store and --out on a disk that is not read-only"),
    errno.ENOENT: ("a file or folder that exists", "check the path for a misspelling"),
    errno.ENOTDIR: ("a folder", "a part of this path is a file; choose another path"),
    errno.EISDIR: ("a file", "this path is a folder; give the file inside it"),
    errno.EEXIST: ("a path that is free", "remove what lies there, or choose another path"),
    errno.ENAMETOOLONG: ("a shorter path", "choose a folder with a shorter name"),
    errno.EMFILE: ("fewer open files", "raise the limit (ulimit -n 4096) or use fewer --workers"),
    errno.ENOMEM: ("more memory", f"use fewer --workers; {_STORED}"),
}


def explain(err: BaseException, command: str) -> tuple[str, int]:
    """The text for a failure of `bench COMMAND` (three parts, no traceback) and its exit code."""
    head = f"bench {command}".rstrip() + ":"
    usage = GATE_USAGE if command == "gate" else USAGE
    if isinstance(err, BenchError):
        code = usage if isinstance(err, UsageError | DataError | MissingPart) else FAILED
        return f"{head}\n{_indent(str(err))}", code
    if isinstance(err, MemoryError):
        expected, remedy = _OS_ERRORS[errno.ENOMEM]
        return f"{head}\n{_indent(str(BenchError(expected, str(err) or 'none left', remedy)))}", FAILED
    if isinstance(err, OSError):
        expected, remedy = _OS_ERRORS.get(
            err.errno or 0, ("files and network to work", "repair what it names; --debug shows where it happened")
        )
        named = [str(name) for name in (err.filename, err.filename2) if name is not None]
        got = f"{' -> '.join(named)} ({err.strerror})" if named else str(err)
        return f"{head}\n{_indent(str(BenchError(expected, got, remedy)))}", usage
    if isinstance(err, ImportError):
        remedy = "`bench doctor` says what is missing or broken, and how to install it"
        return f"{head}\n{_indent(str(BenchError('every package we depend on to import', str(err), remedy)))}", usage
    where = traceback.extract_tb(err.__traceback__)[-1]
    got = f"{type(err).__name__}: {err} ({Path(where.filename).name}, line {where.lineno})"
    remedy = "this is a defect, of matlabel_bench or of a plugin: please report it with what --debug prints"
    return f"{head}\n{_indent(str(BenchError('no surprise', got, remedy)))}", DEFECT


def stopped(command: str, store: Path) -> str:
    """What Ctrl-C leaves behind, in one line."""
    if command in ("run", "label"):
        return f"\nbench {command}: stopped. Finished work lies in {store}; the same command resumes from it."
    if command == "perf":
        return "\nbench perf: stopped. What was measured is written; the same command goes on from there."
    return f"\nbench {command}".rstrip() + ": stopped."


def _indent(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())
