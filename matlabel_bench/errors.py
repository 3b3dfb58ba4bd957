"""Errors a user can act on: what was expected, what came, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """An error in three parts. All three are required, so that none is forgotten.

    Args:
        expected: what the program needed, with its shape, range or format.
        got: what it found instead.
        remedy: what the reader can do about it.
    """

    def __init__(self, expected: str, got: str, remedy: str) -> None:
        super().__init__(expected, got, remedy)  # args hold all three: the error survives pickling to and from workers
        self.expected, self.got, self.remedy = expected, got, remedy

    def __str__(self) -> str:
        return f"expected {self.expected}\n     got {self.got}\n  remedy {self.remedy}"


class UsageError(BenchError):
    """The command line, a table, a profile or an option is wrong; nothing was run. Exit code 2."""


class DataError(BenchError):
    """A data set or a file in it is not what its layout promises."""


class ContractError(BenchError):
    """A part returned something its protocol does not allow (shape, type, range)."""


class MattingFailed(BenchError):
    """A matting part cannot solve this trimap. The core falls back to the map and counts it."""


class TrainingFailed(BenchError):
    """A training diverged or could not start."""


class MissingPart(BenchError):
    """A table names a part that no installed plugin registers; the cell becomes a dash with this reason."""


def near(word: str, known: Iterable[str]) -> str:
    """`did you mean ...; known: ...` for error messages."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{hint}known: {', '.join(names) if names else 'none'}"
