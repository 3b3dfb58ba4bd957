"""Writes the README's table from committed results: `python docs/readme.py`; --check only says if it is current."""

from __future__ import annotations

import sys
from pathlib import Path

from matlabel_bench.cells import Cell, read_cells
from matlabel_bench.report.frame import MARKS, interval

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
SOURCE = "reports/light-voc12-animals/held_out"
COLUMNS = ("Seed", "Seed (mask-free)")
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def table() -> str:
    """The rows that were measured."""
    cells = {(c.row, c.column): c for c in read_cells(ROOT / SOURCE / "cells.csv")}
    rows = list(dict.fromkeys(row for (row, _), c in cells.items() if c.status == "measured"))
    face = next(c for c in cells.values() if c.status == "measured")
    lines = [f"| {' | '.join(['', *COLUMNS])} |", f"|---|{'---:|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join([row, *(_shown(cells[row, c]) for c in COLUMNS)])} |" for row in rows]
    note = (
        f"mIoU in %, 95 % interval over images; {face.dataset}, {face.split} (the half of train that no setting was "
        f"chosen on), {face.images} images, {face.classes} classes, profile {face.profile}, {face.seeds} "
        f"seed{'s' * (face.seeds != 1)}. Threshold: o searched with masks, f fixed, m without masks. **Not "
        f"comparable** with published numbers of VOC 2012's 21 classes and ResNet-50. From "
        f"[{SOURCE}]({SOURCE}/table.md), made by the command in its record."
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
