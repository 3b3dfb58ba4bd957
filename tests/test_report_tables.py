"""Every table of the project, with made-up cells, in all formats: none is left out, and each says what it is."""

from __future__ import annotations

import csv
import dataclasses
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from matlabel_bench.cells import Cell, read_cells
from matlabel_bench.report import Extras, TableInfo, write
from matlabel_bench.tables import Column, Row, Table, load_table, tables

NOTE = "weights: trained here on composites"


def info_of(table: Table) -> TableInfo:
    return TableInfo(
        name=table.name, title=table.title, source=table.source, dataset="shapes", split="train", profile="tiny",
        columns=tuple(c.name for c in table.columns), rows=tuple(r.name for r in table.rows), synthetic=True,
        published_note=table.published_note, published_dataset=table.published_dataset,
        published_split=table.published_split, published_classes=table.published_classes,
        extensions=tuple(r.name for r in table.rows if r.extension), row_label=table.row_label, form=table.form,
    )  # fmt: skip


def cells_of(table: Table) -> Iterator[Cell]:
    """Rows of the literature unmeasured, one column in three failed, the rest measured."""
    for i, row in enumerate(table.rows):
        for j, column in enumerate(table.columns):
            yield _cell(table, row, column, 40 + i + j / 10, failed=(i + j) % 3 == 2)


def _cell(table: Table, row: Row, column: Column, value: float, *, failed: bool) -> Cell:
    base = Cell(
        table.name, row.name, column.name, metric=column.metric, published=row.published.get(column.name),
        dataset="shapes", split=column.split or "train", profile="tiny", supervision=row.supervision,
    )  # fmt: skip
    if not row.computed:
        return dataclasses.replace(base, status="published-only")
    if failed:
        return dataclasses.replace(base, status="failed", reason="TrainingFailed: 50 % <nan>")
    return dataclasses.replace(
        base, status="measured", value=value, low=value - 1, high=value + 1, images=300, classes=6, seeds=1,
        threshold=0.5, threshold_rule="fixed", supervision="masks" if row.labels else "tags",
    )  # fmt: skip


@pytest.fixture(params=sorted(tables()))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Table, Path]:
    table = load_table(request.param)
    write(tmp_path, info_of(table), list(cells_of(table)), Extras(notes={table.rows[0].name: (NOTE,)}))
    return table, tmp_path


def test_every_format_holds_every_row_and_every_published_number(made: tuple[Table, Path]) -> None:
    table, folder = made
    with (folder / "table.csv").open(newline="") as handle:
        lines = {line[0]: line[1:] for line in csv.reader(handle)}
    assert list(lines)[1:] == [r.name for r in table.rows]
    names = ("table.md", "table.tex", "table.html")
    texts = {name: (folder / name).read_text() for name in names}
    for row in table.rows:
        for column, number in row.published.items():
            shown = f"{number:.2f}" if column == "Time (s)" else f"{number:.1f}"
            if table.form == "grid":
                assert all(f"published: {shown}" in text for text in texts.values())
            else:
                assert shown in lines[row.name], (row.name, column)
    for name, text in texts.items():
        assert "SYNTHETIC DATA: not comparable with published numbers" in text and NOTE in text, name
    assert len(read_cells(folder / "cells.csv")) == len(table.rows) * len(table.columns)


def test_lines_of_a_format_have_equal_cells(made: tuple[Table, Path]) -> None:
    table, folder = made
    (block,) = re.findall(r"(?:^\|.*\n)+", (folder / "table.md").read_text(), flags=re.MULTILINE)
    assert len(block.splitlines()) == len(table.rows) + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    latex = (folder / "table.tex").read_text()
    body = latex[latex.index(r"\toprule") : latex.index(r"\bottomrule")].splitlines()
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in body if line.endswith(r"\\")}) == 1
    assert latex.isascii()
    page = ET.fromstring((folder / "table.html").read_text().split("<body>")[1].split("</body>")[0])
    first = next(page.iter("table"))
    assert len({len(list(line)) for line in first.iter("tr")}) == 1
    assert (folder / "figure.svg").exists() == (table.form in ("line", "grid"))


def test_supervision_of_the_literature_stands_beside_its_numbers(tmp_path: Path) -> None:
    table = load_table("table2")
    write(tmp_path, info_of(table), list(cells_of(table)))
    with (tmp_path / "table.csv").open(newline="") as handle:
        shown = {line["method (SYNTHETIC DATA)"]: line["supervision"] for line in csv.DictReader(handle)}
    assert shown["SEAM"] == shown["Mat-Label (I.)"] == "tags"
    assert shown["EPS"] == "tags+saliency"
    assert shown["Fully supervised"] == "masks"


def test_a_table_of_other_splits_shows_the_usual_one_on_its_face(tmp_path: Path) -> None:
    table = load_table("table2")
    write(tmp_path, dataclasses.replace(info_of(table), synthetic=False), list(cells_of(table)))
    text = (tmp_path / "table.md").read_text()
    assert "split: val" in text and "</sup> split test\n" in text and "split train" not in text
    assert "class subset (6 of 21 classes): not comparable with published" in text
