"""Progress a person can follow: what runs, how far it is, how long it takes. Bars on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

LINE_EVERY = 20.0
"""Seconds between lines where standard error is no terminal."""


class Bar:
    """Progress of one stage, as a context manager."""

    def __init__(self, title: str, total: int, unit: str, say: Callable[[str], None]) -> None:
        self.title, self.total, self.unit, self.say = title, total, unit, say
        self.done = 0
        self.note = ""
        self.start = self.last = time.monotonic()
        self._first: int | None = None
        self._tqdm = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._tqdm = tqdm(total=total, desc=title, unit=unit, leave=False, dynamic_ncols=True)

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tqdm is not None:
            self._tqdm.close()

    def phase(self, total: int, unit: str) -> None:
        """Say what is counted; where that changes, as after the first part of a training, it begins anew."""
        if (total, unit) == (self.total, self.unit):
            return
        self.total, self.unit, self.done, self._first = total, unit, 0, None
        if self._tqdm is not None:
            self._tqdm.unit = unit

    def at(self, done: int, note: str = "") -> None:
        """Set how much is done. What was there at the first call does not count for the remaining time."""
        now = time.monotonic()
        if self._first is None:
            self._first, self.start = done, now
            if self._tqdm is not None:
                self._tqdm.reset(self.total)
                self._tqdm.initial = self._tqdm.n = self.done = done
        step, self.done, self.note = done - self.done, done, note
        if self._tqdm is not None:
            self._tqdm.set_postfix_str(note, refresh=False)
            self._tqdm.update(step)
        elif now - self.last > LINE_EVERY:
            self.last = now
            self.say(self.line())

    def line(self) -> str:
        """One line of progress with the remaining time."""
        fresh = self.done - (self._first or 0)
        left = (time.monotonic() - self.start) / fresh * (self.total - self.done) if fresh > 0 else None
        time_left = f", {clock(left)} left" if left is not None else ""
        note = f", {self.note}" if self.note else ""
        return f"  {self.title}: {self.done}/{self.total} {self.unit}s{note}{time_left}"


def clock(seconds: float) -> str:
    """`95` -> `1:35`; `7265` -> `2:01:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
