"""One pandas frame for all formats: rows and columns as printed, each measured column before its published one.

A cell of the frame is `Printed`; its `str` is what table.csv shows. A number that was not measured is a dash with a
footnote, and so is anything that sets a cell apart from the table's face (other images, fewer classes): nothing is
averaged, hidden or ranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from matlabel_bench.cells import Cell
from matlabel_bench.errors import UsageError, near
from matlabel_bench.report.face import SECONDS, Usual
from matlabel_bench.report.model import Extras, TableInfo

if TYPE_CHECKING:
    import pandas as pd

DASH = "—"
MARKS = {"fixed": "f", "mask-free": "m", "oracle": "o"}
LEGEND = {
    "fixed": "background threshold fixed in advance",
    "mask-free": "background threshold chosen on this split without its masks",
    "oracle": "background threshold searched with the masks of this split, as the literature does; "
    "it counts as supervision",
}
REPAIRS = "trimaps repaired / matting fallbacks"
SUPERVISION = "supervision"
EXTENSION = "†"
PICTURES = (
    "mIoU of each image alone, in %, over the classes of its mask; maps, trimap and alpha are those of the class "
    "whose IoU changes most."
)
"""What stands with every gallery."""


@dataclass(frozen=True, slots=True)
class Printed:
    """One cell as printed: its text, the letter of its threshold rule, the numbers of its footnotes."""

    text: str
    mark: str = ""
    notes: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.text} {self.mark}".strip()


@dataclass(frozen=True, slots=True)
class Heading:
    """A column's name and, small beneath it, what kind of column it is (empty for measured ones)."""

    name: str
    small: str = ""
    words: bool = False
    """Of words, which stand to the left; numbers stand to the right."""

    def __str__(self) -> str:
        return f"{self.name}: {self.small}" if self.small else self.name


@dataclass
class Report:
    """The frame and everything printed around it."""

    info: TableInfo
    extras: Extras
    cells: tuple[Cell, ...]
    headings: list[Heading] = field(default_factory=list)
    body: list[list[Printed]] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
    row_notes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Numbers of the footnotes of a whole row."""
    face: list[tuple[str, str]] = field(default_factory=list)
    warning: str = ""

    @property
    def legend(self) -> list[tuple[str, str]]:
        """Signs that occur and what they mean."""
        used = {c.threshold_rule for c in self.cells if c.status == "measured"}
        signs = [(MARKS[rule], text) for rule, text in LEGEND.items() if rule in used]
        return signs + ([(EXTENSION, "not a row of the paper's table")] if self.info.extensions else [])

    def sign(self, row: str) -> str:
        """The sign after a row's name."""
        return EXTENSION if row in self.info.extensions else ""

    @property
    def published(self) -> str:
        """Where the published numbers come from; empty where the table has none."""
        if all(c.published is None for c in self.cells):
            return ""
        note = self.info.published_note.removeprefix("published:").strip()
        return "; ".join(p for p in (self.info.source, note) if p)

    def frame(self) -> pd.DataFrame:
        """The table as a pandas frame of `Printed`, rows and columns named as printed; synthetic data say so."""
        import pandas as pd

        name = self.info.row_label + (" (SYNTHETIC DATA)" if self.info.synthetic else "")
        index = pd.Index(self.info.rows, name=name)
        return pd.DataFrame(self.body, index=index, columns=[str(h) for h in self.headings], dtype=object)

    def note(self, text: str) -> int:
        """The number of a footnote; equal texts share one."""
        if text not in self.footnotes:
            self.footnotes.append(text)
        return self.footnotes.index(text) + 1


def build(info: TableInfo, cells: Sequence[Cell], extras: Extras) -> Report:
    """Arrange cells as printed.

    Raises:
        UsageError: a cell of another table, of an unknown row or column, or two cells in one place.
    """
    places = _places(info, cells)
    report = Report(info, extras, tuple(places[r, c] for r in info.rows for c in info.columns if (r, c) in places))
    usual = Usual(info, report.cells)
    report.face, report.warning = usual.face(), usual.warning()
    columns = [(_headings(info, c, report.cells), c) for c in info.columns]
    beyond = {row: _beyond_tags(row, report.cells) for row in info.rows}
    told = any(text not in ("", "tags") for text in beyond.values())
    report.headings = [Heading(SUPERVISION, words=True)] * told + [h for headings, _ in columns for h in headings]
    report.headings += [Heading(REPAIRS)] * bool(extras.repairs)
    for row in info.rows:
        report.row_notes[row] = tuple(report.note(text) for text in extras.notes.get(row, ()))
        line = [Printed(beyond[row])] * told
        for headings, column in columns:
            cell = places.get((row, column), Cell(info.name, row, column, reason="not run"))
            published = "" if cell.published is None else interval(cell.published, None, None, metric=cell.metric)
            line.append(_measured(cell, usual, report, published if len(headings) == 1 else ""))
            if len(headings) > 1:
                line.append(Printed(published))
        report.body.append(line + [Printed(str(extras.repairs.get(row, "")))] * bool(extras.repairs))
    return report


def interval(value: float, low: float | None, high: float | None, *, sign: bool = False, metric: str = "mIoU") -> str:
    """`52.3 [50.9, 53.6]`; without ends only the value. `sign`: every number carries one. Times: `0.36`, `1.42`."""
    numbers = [v for v in (value, low, high) if v is not None]
    if metric == SECONDS:
        shown = [_seconds(v) for v in numbers]
    else:
        form = "{:+.1f}" if sign else "{:.1f}"
        shown = [form.format(v + 0.0 if round(v, 1) else 0.0) for v in numbers]  # no -0.0
    return shown[0] if len(shown) < 3 else f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _seconds(value: float) -> str:
    """Two digits that count below one second, three above, and whole seconds from a hundred on."""
    if value < 0.995:
        return f"{value:#.2g}" if value >= 1e-4 else "0"
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def _places(info: TableInfo, cells: Sequence[Cell]) -> dict[tuple[str, str], Cell]:
    places: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        for got, known, what in ((cell.row, info.rows, "row"), (cell.column, info.columns, "column")):
            if got not in known:
                raise UsageError(f"a {what} of {info.name}", f"{got!r}", near(got, known))
        if cell.table != info.name or (cell.row, cell.column) in places:
            raise UsageError(
                f"one cell of {info.name} for {cell.row!r}, {cell.column!r}",
                f"another, of table {cell.table!r}",
                "give every column of a table a name of its own",
            )
        places[cell.row, cell.column] = cell
    return places


def _headings(info: TableInfo, column: str, cells: Sequence[Cell]) -> list[Heading]:
    if info.form == "grid" or all(c.published is None for c in cells if c.column == column):
        return [Heading(column)]  # a grid keeps its columns side by side: published numbers go to footnotes
    note = info.published_note.removeprefix("published:").strip()  # tables may write the word themselves
    return [Heading(column), Heading(column, f"published ({note})" if note else "published")]


def _measured(cell: Cell, usual: Usual, report: Report, published: str) -> Printed:
    more = [report.note(f"published: {published}")] if published else []
    if cell.status == "measured" and cell.value is not None:
        text = interval(cell.value, cell.low, cell.high, metric=cell.metric)
        notes = [*(report.note(n) for n in usual.oddities(cell)), *more]
        return Printed(text, MARKS.get(cell.threshold_rule, ""), tuple(notes))
    reason = cell.reason or "no reason recorded"
    text = {"failed": f"failed: {reason}", "published-only": cell.reason or "published number only"}.get(
        cell.status, reason
    )
    return Printed(DASH, notes=(report.note(text), *more))


def _beyond_tags(row: str, cells: Sequence[Cell]) -> str:
    """What a row learned from, also one of the literature; an oracle threshold is marked at its cells instead."""
    used = [s for c in cells if c.row == row for s in c.supervision.split("+") if s]
    return "+".join(dict.fromkeys(s for s in used if s != "masks(threshold)"))
