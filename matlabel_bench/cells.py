"""A cell: one number of one table, with everything a reader needs to trust or doubt it."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matlabel_bench.errors import DataError
from matlabel_bench.files import write_text

Status = Literal["measured", "failed", "missing", "published-only"]
ThresholdRule = Literal["fixed", "mask-free", "oracle", "none"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of `cells.csv`; the order of the fields is the order of its columns (a contract with readers)."""

    table: str
    row: str
    column: str
    metric: str = "mIoU"
    value: float | None = None
    """Per cent, mean over seeds; None where not measured."""
    low: float | None = None
    """Lower end of the 95 % bootstrap interval over images, per cent."""
    high: float | None = None
    published: float | None = None
    """The paper's number on the paper's data: never comparable with a value on another data set."""
    dataset: str = ""
    split: str = ""
    images: int = 0
    classes: int = 0
    """Classes in the mean, background included."""
    profile: str = ""
    seeds: int = 0
    threshold: float | None = None
    threshold_rule: ThresholdRule = "none"
    supervision: str = ""
    """What was learned from, e.g. `tags` or `tags+saliency`; an oracle threshold adds `+masks(threshold)`."""
    status: Status = "missing"
    reason: str = ""
    seconds: float | None = None
    """Seconds of computing behind this cell, shared stages counted in full."""
    key: str = ""
    """Key of the score in the store."""


HEADER = tuple(f.name for f in dataclasses.fields(Cell))
_FLOATS = {"value", "low", "high", "published", "threshold", "seconds"}
_INTS = {"images", "classes", "seeds"}


def write_cells(path: Path, cells: Iterable[Cell]) -> None:
    """Write `cells.csv`, whole or not at all; numbers keep enough digits to be compared exactly."""
    content = io.StringIO()
    out = csv.writer(content, lineterminator="\n")
    out.writerow(HEADER)
    for cell in cells:
        out.writerow(_text(name, getattr(cell, name)) for name in HEADER)
    write_text(path, content.getvalue())


def read_cells(path: Path) -> list[Cell]:
    """Read `cells.csv`. Raises DataError where the header or a number is not what `write_cells` writes."""
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.reader(handle))
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(
            "a readable cells.csv", f"{path} ({err})", "run `bench run` first, or give the folder that holds cells.csv"
        ) from err
    if not rows or tuple(rows[0]) != HEADER:
        raise DataError(
            f"the header {','.join(HEADER)}",
            f"{path} with {','.join(rows[0]) if rows else 'nothing'}",
            "write the file anew with `bench run`",
        )
    return [_cell(row, path) for row in rows[1:]]


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1f}" if name == "seconds" else f"{value:.6g}"
    return str(value)


def _cell(row: Sequence[str], path: Path) -> Cell:
    try:
        values: dict[str, object] = dict(zip(HEADER, row, strict=True))
        for name in _FLOATS:
            values[name] = float(str(values[name])) if values[name] != "" else None
        for name in _INTS:
            values[name] = int(str(values[name]))
        return Cell(**values)  # type: ignore[arg-type]
    except (ValueError, TypeError) as err:
        raise DataError(
            "a line of numbers and words as in the header",
            f"{path}: {','.join(row)}",
            "write the file anew with `bench run`",
        ) from err
