"""Figures of sweeps and times: what is drawn is what was measured, and says whose numbers it shows."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from matlabel_bench.cells import Cell
from matlabel_bench.report import Extras, TableInfo, write
from matlabel_bench.report import frame as frames
from matlabel_bench.report.figures import figure, standalone

SVG = "{http://www.w3.org/2000/svg}"
LINE = TableInfo(
    name="figureS1", title="Margin", source="supplement, Figure 1", dataset="shapes", split="train", profile="tiny",
    columns=("mIoU", "mIoU (mask-free)"), rows=("0.1", "0.2", "0.4"), synthetic=True, row_label="m", form="line",
    published_note="VOC 2012 train",
)  # fmt: skip
GRID = dataclasses.replace(LINE, name="figureS3", columns=("0.10", "0.20"), rows=("0.65", "0.75"), form="grid",
                           row_label="ε_fg ↓ ε_bg →")  # fmt: skip


def cell(info: TableInfo, row: str, column: str, value: float | None, published: float | None = None, **more) -> Cell:
    ends = {} if value is None else {"low": value - 1, "high": value + 2, "status": "measured", "images": 9}
    ends |= {} if value is None else {"classes": 6, "seeds": 1, "supervision": "tags"}
    base = Cell(info.name, row, column, value=value, published=published, dataset="shapes", split="train",
                profile="tiny")  # fmt: skip
    return dataclasses.replace(base, **(ends | more))


def drawn(info: TableInfo, cells: list[Cell]) -> ET.Element:
    return ET.fromstring(standalone(figure(frames.build(info, cells, Extras()))))


def texts(root: ET.Element) -> list[str]:
    return ["".join(t.itertext()) for t in root.iter(f"{SVG}text")]


def test_a_line_stands_to_scale_with_intervals_and_published_squares() -> None:
    values = {"0.1": 40.0, "0.2": 50.0, "0.4": 45.0}
    cells = [cell(LINE, row, "mIoU", v, 58.0 if row == "0.2" else None) for row, v in values.items()]
    root = drawn(LINE, cells)
    (path,) = [p.get("points") for p in root.iter(f"{SVG}polyline")]
    (x0, y0), (x1, y1), (x2, y2) = [tuple(map(float, p.split(","))) for p in str(path).split()]
    assert (x2 - x1) == pytest.approx(2 * (x1 - x0), abs=0.2)
    assert (y0 - y2) == pytest.approx((y0 - y1) / 2, abs=0.2) and y1 < y2 < y0
    bars = [b for b in root.iter(f"{SVG}line") if b.get("class") == "line c0"]
    length = [float(str(b.get("y1"))) - float(str(b.get("y2"))) for b in bars]
    assert length == pytest.approx([(y0 - y1) * 0.3] * 3, abs=0.2)  # 3 of the 10 points between the first two
    squares = [r for r in root.iter(f"{SVG}rect") if r.get("class") == "published mark"]
    assert len(squares) == 2  # one in the key
    assert [t.text for r in squares for t in r] == ["0.2: published 58.0"]
    said = texts(root)
    assert "m" in said and "0.1" in said and "60" in said
    assert "shapes · train · profile tiny · SYNTHETIC DATA: not comparable with published numbers" in said
    assert "published (VOC 2012 train)" in said and "measured, with 95 % interval over images" in said


def test_a_line_breaks_where_nothing_was_measured() -> None:
    rows = ("1", "2", "3", "4", "5")
    info = dataclasses.replace(LINE, rows=rows)
    cells = [cell(info, row, "mIoU", None if row == "3" else 50.0) for row in rows]
    root = drawn(info, cells)
    assert [len(str(p.get("points")).split()) for p in root.iter(f"{SVG}polyline")] == [2, 2]
    dots = [c for c in root.iter(f"{SVG}circle") if len(c)]
    assert len(dots) == 4


@pytest.mark.parametrize("rows", [("a", "b", "c"), ("3", "1", "2"), ("1", "2", "nan")])
def test_rows_that_are_no_rising_numbers_stand_at_even_distances(rows: tuple[str, ...]) -> None:
    info = dataclasses.replace(LINE, rows=rows)
    root = drawn(info, [cell(info, row, "mIoU", 50.0) for row in rows])
    xs = [float(str(c.get("cx"))) for c in root.iter(f"{SVG}circle") if len(c)]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.11) and xs[0] < xs[1]


def test_a_single_row_and_equal_values_are_drawn_too() -> None:
    info = dataclasses.replace(LINE, rows=("7",))
    one = dataclasses.replace(cell(info, "7", "mIoU", 50.0), low=None, high=None)
    root = drawn(info, [one])
    assert not list(root.iter(f"{SVG}polyline"))
    assert len([c for c in root.iter(f"{SVG}circle") if len(c)]) == 1


def test_a_grid_has_a_tile_for_every_place_and_outlines_the_highest() -> None:
    cells = [
        cell(GRID, "0.65", "0.10", 40.0),
        cell(GRID, "0.65", "0.20", 60.0),
        cell(GRID, "0.75", "0.10", None, reason="failed <here>"),
        cell(GRID, "0.75", "0.20", 50.0, 62.3),
    ]
    root = drawn(GRID, cells)
    tiles = [r for r in root.iter(f"{SVG}rect") if r.get("height") == "50"]
    assert [t.get("class") for t in tiles] == [None, "best", "empty", None]
    assert tiles[0].get("fill") == "rgb(68,1,84)" and tiles[1].get("fill") == "rgb(253,231,37)"
    assert texts(root)[:4] == [
        "shapes · train · profile tiny · SYNTHETIC DATA: not comparable with published numbers",
        "ε_fg ↓ ε_bg →", "0.10", "0.20",
    ]  # fmt: skip
    assert [t for t in texts(root) if re.fullmatch(r"[\d.]{4}|—|published.*", t)][2:] == [
        "0.65", "40.0", "60.0", "0.75", "—", "50.0", "published 62.3",
    ]  # fmt: skip


def test_a_grid_keeps_published_numbers_in_footnotes() -> None:
    report = frames.build(GRID, [cell(GRID, "0.75", "0.20", 50.0, 62.3)], Extras())
    assert [str(h) for h in report.headings] == ["0.10", "0.20"]
    place = report.frame().loc["0.75", "0.20"]
    assert [report.footnotes[n - 1] for n in place.notes] == ["published: 62.3"]
    assert report.published == "supplement, Figure 1; VOC 2012 train"


def test_other_forms_and_empty_tables_have_no_figure(tmp_path: Path) -> None:
    table = dataclasses.replace(LINE, form="table")
    assert figure(frames.build(table, [cell(table, "0.1", "mIoU", 50.0)], Extras())) == ""
    for info in (LINE, GRID):
        assert figure(frames.build(info, [], Extras())) == ""
    write(tmp_path, LINE, [])
    assert not (tmp_path / "figure.svg").exists()
    assert "figure.svg" not in (tmp_path / "table.html").read_text() + (tmp_path / "table.md").read_text()


def test_the_page_holds_the_figure_and_the_folder_its_file(tmp_path: Path) -> None:
    write(tmp_path, LINE, [cell(LINE, "0.1", "mIoU", 50.0)])
    page = (tmp_path / "table.html").read_text()
    assert page.count('<svg viewBox="0 0 720 360"') == 1 and 'href="figure.svg"' in page and "http" not in page
    assert "![The table's numbers, drawn](figure.svg)" in (tmp_path / "table.md").read_text()
    alone = ET.parse(tmp_path / "figure.svg").getroot()
    assert alone.tag == f"{SVG}svg" and "prefers-color-scheme" in "".join(alone.itertext())


TIMES = TableInfo(
    name="tableS6", title="Speed", source="supplement, Table 6", dataset="voc12", split="train", profile="paper",
    columns=("Time (s)", "mIoU"), rows=("CAM", "Mat-Label"), published_note="one GPU", published_split="train",
    published_dataset="voc12", published_classes=21,
)  # fmt: skip


def test_times_are_seconds_without_per_cent_and_have_no_images_or_classes() -> None:
    same = {"dataset": "voc12", "profile": "paper", "seeds": 1, "status": "measured"}
    cells = [
        cell(TIMES, "CAM", "Time (s)", 0.2, 0.36, metric="seconds", low=0.1834, high=1.249, **(same | {"images": 1})),
        cell(TIMES, "CAM", "mIoU", 48.0, 48.0, classes=21, **same),
        cell(TIMES, "Mat-Label", "Time (s)", None, 1.42, metric="seconds", reason="not run"),
    ]
    report = frames.build(TIMES, cells, Extras())
    assert [str(c) for c in report.body[0]] == ["0.20 [0.18, 1.25]", "0.36", "48.0 [47.0, 50.0]", "48.0"]
    assert [str(c) for c in report.body[1][:2]] == ["—", "1.42"]
    assert report.footnotes == ["not run"] and report.warning == ""
    assert dict(report.face)["numbers"] == (
        "mIoU in %, mean over seeds [95 % interval over images]; "
        "seconds for the seed of one image of 512 x 512 pixels [least, most of the repeats]"
    )
    only = frames.build(dataclasses.replace(TIMES, columns=("Time (s)",)), [cells[0]], Extras())
    assert "images" not in dict(only.face) and "%" not in dict(only.face)["numbers"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.00321, "0.0032"), (0.996, "1.00"), (1.4163, "1.42"), (9.996, "10.0"), (31.26, "31.3"),
     (99.96, "100"), (1234.5, "1234")],
)  # fmt: skip
def test_seconds_keep_two_or_three_digits(value: float, shown: str) -> None:
    assert frames.interval(value, None, None, metric="seconds") == shown
