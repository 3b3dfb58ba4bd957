"""Large JSON files element by element: COCO's annotations of 2014 are 450 MB and would take gigabytes at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from matlabel_bench.errors import DataError

CHUNK = 1 << 22
"""Characters read at once."""
BLANK = " \t\r\n"
ENDS = tuple(BLANK + ",:]}")


def elements(path: Path) -> Iterator[tuple[str, Any]]:
    """(key, element) for each element of each array of the file's outermost object, in the file's order.

    What is no array comes as one element. No more than a few megabytes and one element are held at a time.

    Raises:
        DataError: the file is absent, ends early, or is no JSON object in UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as handle:
            yield from _Text(handle).members()
    except OSError as err:
        got = err.strerror or str(err)
        raise DataError(f"annotations {path}", got, "unpack COCO's annotations there, or check the data root") from err
    except ValueError as err:  # JSONDecodeError and UnicodeDecodeError are among them
        got = f"broken JSON ({err})"
        raise DataError(f"a JSON object in {path}", got, "copy or download it again; a download may end early") from err


class _Text:
    """What is left to read of a file, of which only a part is in memory."""

    def __init__(self, handle: TextIO) -> None:
        self.handle, self.text, self.at, self.passed = handle, "", 0, 0
        self.decode = json.JSONDecoder().raw_decode

    def members(self) -> Iterator[tuple[str, Any]]:
        self.take("{")
        if self.peek() == "}":
            self.take("}")
        else:
            more = ","
            while more == ",":
                key = self.value()
                self.take(":")
                if self.peek() == "[":
                    yield from ((key, element) for element in self.array())
                else:
                    yield key, self.value()
                more = self.take(",}")
        if self.peek():
            raise ValueError(f"more text after its end at character {self.passed + self.at}")

    def array(self) -> Iterator[Any]:
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        more = ","
        while more == ",":
            yield self.value()
            more = self.take(",]")

    def peek(self) -> str:
        """The next character that is no blank; empty at the end of the file."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in BLANK:
                    return self.text[self.at]
                self.at += 1
            if not self.more():
                return ""

    def take(self, allowed: str) -> str:
        found = self.peek()
        if not found or found not in allowed:
            wanted = " or ".join(allowed)
            got = repr(found) if found else "the end of the file"
            raise ValueError(f"{got} instead of {wanted} at character {self.passed + self.at}")
        self.at += 1
        return found

    def value(self) -> Any:
        """The next value. It is whole only where what ends a value follows: a number may go on in the next chunk."""
        self.peek()
        while True:
            try:
                value, end = self.decode(self.text, self.at)
            except json.JSONDecodeError as err:
                if not self.more():
                    raise ValueError(f"{err.msg} at character {self.passed + err.pos}") from err
                continue
            if self.text[end : end + 1] in ENDS or not self.more():
                self.at = end
                return value

    def more(self) -> bool:
        """Read on, and forget what was used."""
        chunk = self.handle.read(CHUNK)
        self.passed += self.at
        self.text, self.at = self.text[self.at :] + chunk, 0
        return bool(chunk)
