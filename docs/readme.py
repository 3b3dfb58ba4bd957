"""Writes the README's table from committed results: `python docs/readme.py`; --check only says if it is current."""

from __future__ import annotations

import sys
from pathlib import Path

from matlabel_bench.cells import Cell, read_cells
from matlabel_bench.report.frame import MARKS, interval

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SOURCE = "reports/light-voc12-animals/table1"
COLUMNS = ("Seed", "w/ CRF", "w/ IRN", "Seed (mask-free)", "w/ CRF (mask-free)")
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def table() -> str:
    """The rows that were measured, with the paper's numbers (another data set) in columns of their own."""
    cells = {(c.row, c.column): c for c in read_cells(ROOT / SOURCE / "cells.csv")}
    rows = list(dict.fromkeys(row for (row, _), c in cells.items() if c.status == "measured"))
    face = next(c for c in cells.values() if c.status == "measured")
    published = [c for c in COLUMNS if any(cells[r, c].published is not None for r in rows)]
    heads = ["", *COLUMNS, *(f"{c}, paper" for c in published)]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for row in rows:
        ours = [_shown(cells[row, c]) for c in COLUMNS]
        theirs = ["" if (p := cells[row, c].published) is None else f"{p:.1f}" for c in published]
        lines.append(f"| {' | '.join([row, *ours, *theirs])} |")
    note = (
        f"mIoU in %, 95 % interval over images; {face.dataset}, {face.split}, {face.images} images, {face.classes} "
        f"classes, profile {face.profile}, {face.seeds} seed{'s' * (face.seeds != 1)}. Threshold: o searched with "
        f"masks, f fixed, m without masks. The paper's numbers are of VOC 2012 train, 21 classes, ResNet-50, and **not "
        f"comparable**. From [{SOURCE}]({SOURCE}/table.md), made by the command in its record."
    )
    return "\n".join([*lines, "", note, ""])


def _shown(cell: Cell) -> str:
    if cell.value is None:
        return "—"
    return f"{interval(cell.value, cell.low, cell.high)} {MARKS.get(cell.threshold_rule, '')}".strip()


def main(check: bool) -> int:
    text = README.read_text(encoding="utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    new = text[:start] + table() + text[end:]
    if check:
        return int(new != text)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
