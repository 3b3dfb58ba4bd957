"""Two results side by side: is the second as good as the first, and where do they part?

`gate` is for CI. What was not measured is no pass: a baseline cell that the candidate lacks, or has measured on other
data, gives code 2, and so does a comparison of nothing. `compare` is for people and judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from matlabel_bench.cells import Cell, read_cells
from matlabel_bench.errors import BenchError, DataError, UsageError

if TYPE_CHECKING:
    import pandas as pd

SAME, WORSE, NOT_MEASURED, USAGE = 0, 1, 2, 3
TOLERANCE = 0.05
"""Points of mIoU; half of the last printed digit."""
_CONDITIONS = ("metric", "dataset", "split", "images", "classes", "profile", "seeds", "threshold_rule")
_EPSILON = 1e-9  # a difference of exactly the tolerance is within it, however its digits round

Place = tuple[str, str, str]
Verdict = Literal["same", "better", "worse", "not measured"]


@dataclass(frozen=True, slots=True)
class GateResult:
    """An exit code (0 same or better, 1 worse, 2 not measured, 3 usage) and what to print."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """One cell of the baseline and what became of it."""

    place: Place
    verdict: Verdict
    text: str


def gate(baseline: Path, candidate: Path, tolerance: float = TOLERANCE, *, interval: bool = False) -> GateResult:
    """Judge each measured cell of `baseline` by the same cell of `candidate`.

    Args:
        baseline, candidate: a cells.csv, or a folder with such files below it.
        tolerance: a value may fall by so many points (CPU stages are exact: the default forgives only print).
        interval: judge by the baseline's 95 % interval instead, for stages that differ from run to run: worse is a
            value below its lower end.
    """
    try:
        if not tolerance >= 0:
            raise UsageError("a tolerance of at least 0", repr(tolerance), "give points of mIoU, e.g. 0.05")
        if candidate.resolve() == baseline.resolve():
            raise UsageError("a candidate other than the baseline", str(candidate), "give the results of a new run")
        before = _cells(baseline)
        after = _cells(candidate) if _files(candidate) else {}  # no results at all: nothing was measured
    except BenchError as err:
        return GateResult(USAGE, str(err))
    judged = [
        _judge(place, cell, after.get(place), None if interval else tolerance)
        for place, cell in before.items()
        if cell.status == "measured"
    ]
    return _sum_up(judged)


def compare(first: Path, second: Path) -> pd.DataFrame:
    """All cells of both, a line each, with their difference where they were measured alike.

    Columns: table, row, column, a, b, difference, note. The note says what forbids a difference, e.g. `≠ dataset`.

    Raises:
        DataError: one of them has no cells.csv, or a damaged one.
    """
    import pandas as pd

    a, b = _cells(first), _cells(second)
    lines = []
    for place in dict.fromkeys([*a, *b]):
        one, other = a.get(place), b.get(place)
        note = _obstacle(one, other)
        values = [c.value if c else None for c in (one, other)]
        difference = None if note else float(values[1] or 0) - float(values[0] or 0)
        lines.append((*place, *values, difference, note))
    frame = pd.DataFrame(lines, columns=["table", "row", "column", "a", "b", "difference", "note"])
    return frame.astype({"a": float, "b": float, "difference": float})


def comparison(first: Path, second: Path) -> str:
    """`compare` as aligned text. Raises DataError as it does."""
    frame = compare(first, second)
    for name, form in (("a", "{:.2f}"), ("b", "{:.2f}"), ("difference", "{:+.2f}")):
        frame[name] = ["—" if v != v else form.format(v) for v in frame[name]]
    return f"a: {first}\nb: {second}\n" + str(frame.to_string(index=False))


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("cells.csv"))


def _cells(path: Path) -> dict[Place, Cell]:
    files = _files(path)
    if not files:
        raise DataError("a cells.csv, or a folder with some below it", f"none in {path}", "run `bench run` first")
    out: dict[Place, Cell] = {}
    for file in files:
        for cell in read_cells(file):
            place = (cell.table, cell.row, cell.column)
            if place in out:
                raise DataError(
                    "each cell once",
                    f"{' / '.join(place)} again in {file}",
                    "compare one results folder (a profile and data set) at a time",
                )
            out[place] = cell
    return out


def _obstacle(one: Cell | None, other: Cell | None) -> str:
    """Why the two cannot be subtracted; empty where they can."""
    for cell, name in ((one, "a"), (other, "b")):
        if cell is None:
            return f"not in {name}"
        if cell.status != "measured" or cell.value is None:
            return f"{name}: {cell.status}{f' ({cell.reason})' if cell.reason else ''}"
    odd = [n for n in _CONDITIONS if getattr(one, n) != getattr(other, n)]
    return f"≠ {', '.join(odd)}" if odd else ""


def _judge(place: Place, old: Cell, new: Cell | None, tolerance: float | None) -> Judged:
    """By tolerance, or by the old cell's interval where `tolerance` is None."""
    where = " / ".join(place)
    if obstacle := _obstacle(old, new):
        shown = obstacle.replace("not in b", "no such cell").removeprefix("b: ")
        if new is not None and obstacle.startswith("≠"):
            odd = [n for n in _CONDITIONS if getattr(old, n) != getattr(new, n)]
            shown = "; ".join(f"{n} {getattr(new, n)}, baseline {getattr(old, n)}" for n in odd)
        return Judged(place, "not measured", f"not measured  {where}: {shown}")
    before, after = float(old.value or 0), float(new.value or 0) if new else 0.0
    if tolerance is None and (old.low is None or old.high is None):
        return Judged(place, "not measured", f"not measured  {where}: the baseline has no interval")
    low = before - tolerance if tolerance is not None else float(old.low or 0)
    high = before + tolerance if tolerance is not None else float(old.high or 0)
    verdict: Verdict = "worse" if after < low - _EPSILON else "better" if after > high + _EPSILON else "same"
    allowed = f"allowed from {low:.2f}" if verdict == "worse" else f"expected up to {high:.2f}"
    return Judged(
        place, verdict, f"{verdict:12}  {where}: {before:.2f} -> {after:.2f} ({after - before:+.2f}; {allowed})"
    )


def _sum_up(judged: list[Judged]) -> GateResult:
    groups = {v: [j for j in judged if j.verdict == v] for v in ("worse", "not measured", "better", "same")}
    lines = [j.text for verdict in ("worse", "not measured", "better") for j in groups[verdict]]
    lines += _departures(judged)
    counts = ", ".join(f"{len(group)} {verdict}" for verdict, group in groups.items())
    lines.append(f"{len(judged)} cells of the baseline: {counts}")
    if groups["worse"]:
        return GateResult(WORSE, "\n".join(lines))
    if groups["not measured"] or not judged:
        lines += [] if judged else ["nothing was compared: the baseline has no measured cell"]
        return GateResult(NOT_MEASURED, "\n".join(lines))
    if groups["better"]:
        lines.append("better than the baseline: renew it in a commit that says why")
    return GateResult(SAME, "\n".join(lines))


def _departures(judged: list[Judged]) -> list[str]:
    """For each row the first column that departs: columns stand in the order of the stages."""
    lines, rows = [], dict.fromkeys(j.place[:2] for j in judged)
    for table, row in rows:
        of_row = [j for j in judged if j.place[:2] == (table, row)]
        first = next((n for n, j in enumerate(of_row) if j.verdict in ("worse", "better")), None)
        if first is not None:
            before = f", equal up to {of_row[first - 1].place[2]}" if first and _all_same(of_row[:first]) else ""
            lines.append(f"{table} / {row} departs first in {of_row[first].place[2]}{before}")
    return lines


def _all_same(judged: list[Judged]) -> bool:
    return all(j.verdict == "same" for j in judged)
