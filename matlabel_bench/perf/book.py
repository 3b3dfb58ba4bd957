"""The numbers of a measurement: a line of JSON for each step as it ends, and from all lines perf.csv."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matlabel_bench.files import write_text

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("section", "subject", "setting", "metric", "value", "unit", "low", "high", "n", "note")
MISSING = "missing"
"""The metric of a line that says, in its note, why there is no number."""


@dataclass(frozen=True, slots=True)
class Metric:
    """How the rounds of a number become one."""

    unit: str
    joined: str = "median"
    """`median`, `mean` or `max` over the rounds; low and high are their least and greatest in any case."""


METRICS = {
    "seconds": Metric("s"),
    "reference seconds": Metric("s"),
    "speed ratio": Metric("x"),
    "peak memory": Metric("MiB"),
    "reference peak memory": Metric("MiB"),
    "memory ratio": Metric("x"),
    "largest alpha difference": Metric("alpha", "max"),
    "mean alpha difference": Metric("alpha", "mean"),
    "labels that differ": Metric("%", "mean"),
    "reference largest alpha difference": Metric("alpha", "max"),
    "reference mean alpha difference": Metric("alpha", "mean"),
    "reference labels that differ": Metric("%", "mean"),
    "labels unlike the reference": Metric("%", "mean"),
    "unknown pixels": Metric("%", "mean"),
    "first use": Metric("s"),
    "next use": Metric("s"),
    "ratio to the first row": Metric("x"),
    "published seconds": Metric("s"),
    "published ratio": Metric("x"),
    "images per second": Metric("1/s"),
    "ratio to one worker": Metric("x"),
    "seconds of a core an image": Metric("s"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """What was measured, in which round."""

    section: str
    subject: str
    setting: str
    round: int = 0
    what: str = ""
    """Which of several measurements of one setting this is."""


@dataclass
class Book:
    """The steps done so far, in a file that is only ever added to.

    Lines of another `digest` (another machine, code, images or options) stay in the file and are not looked at.
    """

    path: Path
    digest: str
    done: dict[Place, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # half a line, of a run that was killed as it wrote
            if isinstance(row, dict) and row.get("digest") == self.digest:
                self.done[_place(row)] = row  # what was missing before may be there since

    def has(self, place: Place) -> bool:
        """Whether that was measured. What was missing is tried again."""
        return place in self.done and not self.done[place]["missing"]

    def add(self, place: Place, values: Mapping[str, float], missing: str = "") -> None:
        """Write a step: its numbers by metric, and why some are missing. Raises OSError."""
        row: dict[str, Any] = {"digest": self.digest, "section": place.section, "subject": place.subject}
        row |= {"setting": place.setting, "round": place.round, "what": place.what}
        row |= {"values": dict(values), "missing": missing}
        row["load"] = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
        self.done[place] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as out:
            if out.tell() and not _ends_a_line(self.path):
                out.write(b"\n")
            out.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The steps, in the order in which they were first measured."""
        return list(self.done.values())

    def frame(self) -> pd.DataFrame:
        """One line for each section, subject, setting and metric, in the order in which they were first measured."""
        import pandas as pd

        found: dict[tuple[str, str, str, str], list[float]] = {}
        reasons: dict[tuple[str, str, str, str], str] = {}
        for row in self.rows:
            where = row["section"], row["subject"], row["setting"]
            for metric, value in row["values"].items():
                found.setdefault((*where, metric), []).append(value)
            if row["missing"]:
                reasons[*where, MISSING] = row["missing"]
        lines: list[tuple[Any, ...]] = [(*where, *_joined(where[-1], values), "") for where, values in found.items()]
        lines += [(*where, None, "", None, None, 0, reason) for where, reason in reasons.items()]
        return pd.DataFrame(lines, columns=list(COLUMNS))

    def write(self, path: Path) -> None:
        """`frame` as CSV."""
        write_text(path, str(self.frame().to_csv(index=False, float_format="%.6g", lineterminator="\n")))


def _joined(metric: str, values: Sequence[float]) -> tuple[float, str, float, float, int]:
    """Value, unit, low, high and n of a metric's rounds."""
    import numpy as np

    how = METRICS[metric]
    ways: Mapping[str, Any] = {"median": np.median, "mean": np.mean, "max": np.max}
    return float(ways[how.joined](values)), how.unit, min(values), max(values), len(values)


def _place(row: Mapping[str, Any]) -> Place:
    return Place(row["section"], row["subject"], row["setting"], row["round"], row["what"])


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
