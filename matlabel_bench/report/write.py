"""Write a table's folder: the output contract. Each file appears whole; the same cells give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matlabel_bench.cells import Cell, write_cells
from matlabel_bench.files import write_text
from matlabel_bench.report import figures, frame, html, text
from matlabel_bench.report.model import Extras, TableInfo


def write(folder: Path, info: TableInfo, cells: Sequence[Cell], extras: Extras | None = None) -> None:
    """Write cells.csv, table.csv, table.md, table.tex, table.html, record.json, the CSVs of the extras, and figure.svg.

    The last for a table whose form is a line or a grid. A gallery's picture was written when it was made.

    cells.csv keeps the order of `cells`. It is written first: it holds what was measured, the others only show it.

    Raises:
        UsageError: a cell of an unknown row or column, or two in one place; nothing is written.
        OSError: the folder cannot be written.
    """
    extras = extras or Extras()
    report = frame.build(info, cells, extras)
    about = asdict(info) | {"warning": report.warning}
    files = {
        "record.json": json.dumps({**extras.record, "table": about}, indent=2, sort_keys=True, ensure_ascii=False)
        + "\n",
        "table.csv": text.to_csv(report),
        "table.md": text.to_markdown(report),
        "table.tex": text.to_latex(report),
        "table.html": html.page(report),
        **text.extra_files(extras),
    }
    if drawn := figures.figure(report):
        files["figure.svg"] = figures.standalone(drawn)
    write_cells(folder / "cells.csv", cells)
    for name, content in files.items():
        write_text(folder / name, content)


def index(folder: Path) -> Path:
    """Write `folder`/index.html, which lists every table below, and return its path. Raises DataError for none."""
    path = folder / "index.html"
    write_text(path, html.listing(folder))
    return path
