"""A report as one HTML page that needs nothing else but a gallery's picture, and the page that lists all reports."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from matlabel_bench.cells import Cell, read_cells
from matlabel_bench.errors import DataError
from matlabel_bench.report import figures, plots
from matlabel_bench.report.frame import MARKS, PICTURES, Report, interval


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list: a table's folder and what became of its cells."""

    folder: str
    link: str
    title: str
    warning: str
    dataset: str
    split: str
    profile: str
    counts: tuple[int, ...]
    """Measured, failed, missing, published only."""


def page(report: Report) -> str:
    """The page: table, notes, figure or pictures, stages, differences, threshold curves, classes."""
    extras = report.extras
    return _render(
        "page.html.jinja",
        report=report,
        info=report.info,
        extras=extras,
        bars=plots.bars(extras.stages),
        figure=figures.figure(report),
        chart=plots.curves(extras.curves) if extras.curves else "",
        picture_note=PICTURES,
        interval=interval,
        colour=plots.colour,
        value_at=plots.value_at,
        marks=MARKS,
    )


def listing(folder: Path) -> str:
    """The list of every table found below `folder`.

    Raises:
        DataError: there is none, or a cells.csv is damaged.
    """
    found = sorted(folder.rglob("cells.csv"))
    if not found:
        raise DataError("tables, each in a folder with cells.csv", f"none below {folder}", "run `bench run` first")
    return _render("index.html.jinja", entries=[_entry(folder, path) for path in found])


def _entry(root: Path, path: Path) -> Entry:
    cells = read_cells(path)
    where = path.parent.relative_to(root).as_posix()
    about = _about(path.with_name("record.json"))
    status = Counter(c.status for c in cells)
    return Entry(
        folder=cells[0].table if where == "." and cells else where,
        link=quote("table.html" if where == "." else f"{where}/table.html"),
        title=str(about.get("title", "")),
        warning=str(about.get("warning", "")),
        dataset=_all(cells, "dataset"),
        split=_all(cells, "split"),
        profile=_all(cells, "profile"),
        counts=(status["measured"], status["failed"], status["missing"], status["published-only"]),
    )


def _about(record: Path) -> dict[str, Any]:
    """The table's own lines of its record; nothing where there is none."""
    try:
        table = json.loads(record.read_text(encoding="utf-8"))["table"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return table if isinstance(table, dict) else {}


def _all(cells: list[Cell], name: str) -> str:
    return ", ".join(sorted({getattr(c, name) for c in cells} - {""}))


def _render(template: str, **values: Any) -> str:
    import jinja2
    import markupsafe

    home = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(home), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
    )  # fmt: skip
    files = [(home / name).read_text(encoding="utf-8") for name in ("figure.css", "style.css")]
    style = markupsafe.Markup("".join(files).rstrip())  # our own files
    return environment.get_template(template).render(style=style, **values)
