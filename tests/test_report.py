"""Reports: every number where it belongs, dashes with reasons, marks, and the same bytes every time."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matlabel_bench.cells import Cell, read_cells
from matlabel_bench.errors import ContractError, DataError, UsageError
from matlabel_bench.report import (
    ClassScores,
    Curve,
    Extras,
    Repairs,
    RowDifference,
    StageScore,
    TableInfo,
    index,
    pictures,
    plots,
    write,
)
from matlabel_bench.report import frame as frames
from matlabel_bench.report.text import md, tex

INFO = TableInfo(
    name="table1", title="Quality of pseudo-labels", source="ICCV 2023, Table 1", dataset="shapes", split="val",
    profile="tiny", columns=("Seed", "w/ CRF", "Seed (mask-free)"), rows=("CAM", "RIB", "Mat-Label <ours>"),
    synthetic=True, published_note="VOC 2012 train, 21 classes", published_dataset="voc12", published_split="train",
    published_classes=21,
)  # fmt: skip
SEED = Cell(
    "table1", "CAM", "Seed", value=52.345, low=50.9, high=53.64, published=48.0, dataset="shapes", split="val",
    images=100, classes=6, profile="tiny", seeds=1, threshold=0.31, threshold_rule="oracle",
    supervision="tags+masks(threshold)", status="measured", seconds=1.0, key="k",
)  # fmt: skip


def cell(row: str, column: str, **changes) -> Cell:
    return dataclasses.replace(SEED, row=row, column=column, published=None, **changes)


def dash(row: str, column: str, status: str, reason: str, published: float | None = None) -> Cell:
    return Cell("table1", row, column, published=published, dataset="shapes", split="val", profile="tiny",
                status=status, reason=reason)  # fmt: skip


CELLS = [
    SEED,
    cell("CAM", "w/ CRF", value=54.0, low=None, high=None, threshold_rule="none", supervision="tags"),
    cell("CAM", "Seed (mask-free)", value=49.96, low=48.0, high=51.0, threshold_rule="mask-free", supervision="tags"),
    dash("RIB", "Seed", "published-only", "literature", 56.5),
    dash("RIB", "w/ CRF", "missing", "refiner 'x|y' is not installed", 62.9),
    dash("RIB", "Seed (mask-free)", "missing", "refiner 'x|y' is not installed"),
    cell(
        "Mat-Label <ours>",
        "Seed",
        value=60.0,
        low=58.0,
        high=62.0,
        threshold_rule="fixed",
        supervision="tags",
        classes=5,
    ),
    dash("Mat-Label <ours>", "w/ CRF", "failed", "MattingFailed: 100% & more"),
]
EXTRAS = Extras(
    differences=(RowDifference("Mat-Label <ours>", "CAM", "Seed", 7.655, 5.0, 9.96, 5),),
    stages=(
        StageScore("CAM", "cam", 52.3, 50.9, 53.6, 0.31, "oracle"),
        StageScore("CAM", "crf", 54.0),
        StageScore("Mat-Label <ours>", "cam", 52.3),
        StageScore("Mat-Label <ours>", "alpha", 50.1, threshold=0.5, threshold_rule="fixed"),
        StageScore("Mat-Label <ours>", "crf", 60.0),
    ),
    curves=(Curve("CAM", tuple(30 + 0.2 * j for j in range(100)), {"oracle": 0.99, "fixed": 0.3}),),
    class_names=("background", "disc"),
    classes=(ClassScores("CAM", "Seed", (80.126, float("nan"))),),
    repairs={"Mat-Label <ours>": Repairs(181, 7, 1)},
    record={"python": "3.11"},
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "table1", INFO, CELLS, EXTRAS)
    return tmp_path / "table1"


def test_the_csv_has_rows_and_columns_as_printed(folder: Path):
    with (folder / "table.csv").open(newline="") as handle:
        rows = list(csv.reader(handle))
    assert rows == [
        ["method (SYNTHETIC DATA)", "Seed", "Seed: published (VOC 2012 train, 21 classes)", "w/ CRF",
         "w/ CRF: published (VOC 2012 train, 21 classes)", "Seed (mask-free)", "trimaps repaired / matting fallbacks"],
        ["CAM", "52.3 [50.9, 53.6] o", "48.0", "54.0", "", "50.0 [48.0, 51.0] m", ""],
        ["RIB", "—", "56.5", "—", "62.9", "—", ""],
        ["Mat-Label <ours>", "60.0 [58.0, 62.0] f", "", "—", "", "—", "7 of 181 / 1"],
    ]  # fmt: skip


def test_markdown_says_what_the_numbers_are(folder: Path):
    text = (folder / "table.md").read_text()
    assert text.startswith(
        "# table1: Quality of pseudo-labels\n\n**SYNTHETIC DATA: not comparable with published numbers**\n"
    )
    for said in ("dataset: shapes · split: val · images: 100 · classes: 6, background included · profile: tiny · "
                 "seeds: 1 · supervision: tags, masks(threshold)",
                 r"| CAM | 52.3 \[50.9, 53.6\]<sup>o</sup> | 48.0 | 54.0 |  | 50.0 \[48.0, 51.0\]<sup>m</sup> |  |",
                 r"| Mat-Label \<ours\> | 60.0 \[58.0, 62.0\]<sup>f, 3</sup> |  | —<sup>4</sup> |  | —<sup>5</sup> |",
                 "- <sup>1</sup> literature\n", r"- <sup>2</sup> refiner 'x\|y' is not installed",
                 "- <sup>3</sup> mean over 5 classes, not 6: not comparable with the other cells",
                 "- <sup>4</sup> failed: MattingFailed: 100% & more", "- <sup>5</sup> not run",
                 "- published: ICCV 2023, Table 1; VOC 2012 train, 21 classes",
                 r"| Mat-Label \<ours\> − CAM | Seed | +7.7 \[+5.0, +10.0\] |",
                 "| row | cam | alpha | crf |", r"| CAM | 52.3 \[50.9, 53.6\] |  | 54.0 |"):  # fmt: skip
        assert said in text
    assert "searched with the masks of this split" in text and "chosen on this split without its masks" in text


def test_every_line_of_a_markdown_table_has_as_many_cells_as_its_head(folder: Path):
    blocks = re.findall(r"(?:^\|.*\n)+", (folder / "table.md").read_text(), flags=re.MULTILINE)
    assert len(blocks) == 3
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_latex_is_escaped_and_its_lines_have_equal_columns(folder: Path):
    text = (folder / "table.tex").read_text()
    assert r"CAM & 52.3 {[}50.9, 53.6{]}\textsuperscript{o} & 48.0 & 54.0 &  & 50.0" in text
    assert r"Mat-Label \textless{}ours\textgreater{}" in text and r"100\% \& more" in text
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")].splitlines()
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body if line.endswith(r"\\")} == {6}
    assert text.count(r"\begin{") == text.count(r"\end{") == 2 and r"{lrrrrrr}" in text
    plain = re.sub(r"\\[a-z]+\{?\}?|\\.", "", text)
    assert plain.isascii() and plain.count("{") >= 1


class Page(HTMLParser):
    """Checks that tags are closed in order, and gathers links, ids and text."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text())
    page.close()
    assert page.open == [] and len(page.ids) == len(set(page.ids))
    return page


def test_the_page_is_well_formed_and_its_links_lead_somewhere(folder: Path):
    page = read_page(folder / "table.html")
    for link in page.links:
        assert (link[1:] in page.ids) if link.startswith("#") else (folder / link).is_file()
    for said in ("SYNTHETIC DATA", "Mat-Label <ours>", "52.3 [50.9, 53.6]", "7 of 181 / 1", "refiner 'x|y'",
                 "Score after every stage", "+9.9", "-2.2", "+7.7 [+5.0, +10.0]", "80.1", "49.8"):  # fmt: skip
        assert said in page.text
    source = (folder / "table.html").read_text()
    assert "<ours>" not in source and "http" not in source  # escaped; self-contained
    assert source.count("<polyline") == 1 and source.count("<circle") == 2


def test_cells_and_record_come_with_the_table(folder: Path):
    assert [c.row for c in read_cells(folder / "cells.csv")] == [c.row for c in CELLS]
    assert read_cells(folder / "cells.csv")[0] == SEED
    record = json.loads((folder / "record.json").read_text())
    assert record["python"] == "3.11" and record["table"]["rows"] == list(INFO.rows)
    assert record["table"]["warning"].startswith("SYNTHETIC")
    assert (folder / "differences.csv").read_text() == (
        "row_a,row_b,column,difference,low,high,classes\nMat-Label <ours>,CAM,Seed,7.66,5.00,9.96,5\n"
    )
    assert (folder / "classes.csv").read_text().splitlines()[1:] == ["CAM,Seed,background,80.13", "CAM,Seed,disc,"]
    assert (folder / "curves.csv").read_text().splitlines()[100] == "CAM,0.99,49.80"
    assert (folder / "stages.csv").read_text().splitlines()[1] == "CAM,cam,52.30,50.90,53.60,0.31,oracle"


def test_the_same_cells_give_the_same_bytes(folder: Path, tmp_path: Path):
    write(tmp_path / "again", INFO, CELLS, EXTRAS)
    names = sorted(p.name for p in folder.iterdir())
    assert names == sorted(p.name for p in (tmp_path / "again").iterdir())
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_report_of_nothing_measured_is_still_a_table(tmp_path: Path):
    plain = dataclasses.replace(INFO, synthetic=False, published_note="", source="")
    write(tmp_path, plain, [dash("RIB", "Seed", "published-only", "", 56.5)])
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[0] == "method,Seed,Seed: published,w/ CRF,Seed (mask-free)" and lines[2] == "RIB,—,56.5,—,—"
    text = (tmp_path / "table.md").read_text()
    assert "published number only" in text and "## " not in text
    assert (tmp_path / "differences.csv").read_text() == "row_a,row_b,column,difference,low,high,classes\n"
    read_page(tmp_path / "table.html")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "voc12-animals"}, "class subset (6 of 21 classes): not comparable with published"),
        ({"published_classes": 6, "split": "train"}, "dataset other than published (voc12)"),
        ({"published_classes": 6, "dataset": "voc12"}, "split other than published (train)"),
        ({"published_classes": 6, "dataset": "voc12", "split": "train"}, ""),
        ({"published_classes": 0, "published_dataset": "", "published_split": ""}, ""),
    ],
)
def test_a_table_says_when_it_must_not_be_compared_with_the_paper(changes, said):
    info = dataclasses.replace(INFO, synthetic=False, **changes)
    report = frames.build(info, [dataclasses.replace(SEED, dataset=info.dataset, split=info.split)], Extras())
    assert report.warning.startswith(said) if said else report.warning == ""


def test_a_cell_that_departs_from_the_face_says_so():
    odd = cell("Mat-Label <ours>", "Seed", images=95, split="train", seeds=3)
    report = frames.build(INFO, [*CELLS[:3], odd], Extras())
    place = report.frame().loc["Mat-Label <ours>", "Seed"]
    notes = [report.footnotes[n - 1] for n in place.notes]
    assert notes == ["split train", "over 95 images", "3 seeds"]


def test_supervision_beyond_tags_has_its_column_and_new_rows_their_sign():
    info = dataclasses.replace(INFO, extensions=("Mat-Label <ours>",))
    ours = cell("Mat-Label <ours>", "Seed", supervision="tags+saliency+masks(threshold)")
    frame = frames.build(info, [SEED, ours], Extras()).frame()
    assert [str(s) for s in frame["supervision"]] == ["tags", "", "tags+saliency"]
    assert ("†", "not a row of the paper's table") in frames.build(info, [SEED], Extras()).legend


def test_what_parts_have_to_say_stands_at_their_row(tmp_path: Path):
    said = ("weights: own_training", "rule: not verified")
    write(tmp_path, INFO, CELLS, Extras(notes={"Mat-Label <ours>": said, "CAM": said[1:]}))
    text = (tmp_path / "table.md").read_text()
    assert "| CAM<sup>1</sup> | 52.3" in text and r"| Mat-Label \<ours\><sup>4, 1</sup> | 60.0" in text
    assert "- <sup>1</sup> rule: not verified\n" in text and r"- <sup>4</sup> weights: own\_training" in text
    assert r"CAM\textsuperscript{1} & 52.3" in (tmp_path / "table.tex").read_text()
    page = read_page(tmp_path / "table.html")
    assert "#note-4" in page.links and "note-4" in page.ids and "Mat-Label <ours>4 1" in page.text
    assert "method" in (tmp_path / "table.csv").read_text() and "rule" not in (tmp_path / "table.csv").read_text()


def test_the_tables_own_word_published_is_not_doubled():
    info = dataclasses.replace(INFO, published_note="published: VOC 2012 train, 21 classes")
    assert str(frames.build(info, CELLS, Extras()).headings[1]) == "Seed: published (VOC 2012 train, 21 classes)"


def test_cells_without_a_place_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"a row of table1\n.*'CAMM'\n.*did you mean 'CAM'"):
        write(tmp_path / "t", INFO, [cell("CAMM", "Seed")])
    with pytest.raises(UsageError, match=r"a column of table1\n.*'seed'"):
        write(tmp_path / "t", INFO, [cell("CAM", "seed")])
    with pytest.raises(UsageError, match="one cell of table1 for 'CAM', 'Seed'"):
        write(tmp_path / "t", INFO, [SEED, SEED])
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(("value", "shown"), [(-0.04, "+0.0"), (-0.06, "-0.1"), (0.0, "+0.0"), (12.25, "+12.2")])
def test_differences_carry_a_sign_and_no_negative_zero(value, shown):
    assert frames.interval(value, None, None, sign=True) == shown


def test_bars_split_into_what_was_there_and_what_came():
    first, second, third = plots.bars(EXTRAS.stages)[1]
    assert (first.base, first.gain, first.loss, first.change) == (52.3, 0, 0, None)
    assert (second.base, second.gain) == (50.1, 0) and second.loss == pytest.approx(2.2)
    assert third.base == 50.1 and third.gain == pytest.approx(9.9)


def test_escapes():
    assert md("a|b_c*<d>") == r"a\|b\_c\*\<d\>"
    assert tex("50 % of α_1 & {x}") == r"50 \% of $\alpha$\_1 \& \{x\}"


def test_the_index_lists_every_table_below_a_folder(folder: Path, tmp_path: Path):
    real = dataclasses.replace(INFO, name="t 2", dataset="voc12", synthetic=False, published_classes=0)
    write(tmp_path / "light voc12" / "t 2", real, [dataclasses.replace(SEED, table="t 2", dataset="voc12")])
    (tmp_path / "light voc12" / "t 2" / "record.json").unlink()
    page = read_page(index(tmp_path))
    assert page.links == ["light%20voc12/t%202/table.html", "table1/table.html"]
    assert "SYNTHETIC DATA" in page.text and "Quality of pseudo-labels" in page.text
    source = (tmp_path / "index.html").read_text()
    assert "<td>4</td><td>1</td><td>2</td><td>1</td>" in source  # measured, failed, missing, published only
    alone = read_page(index(folder))
    assert alone.links == ["table.html"]
    with pytest.raises(DataError, match="run `bench run` first"):
        index(tmp_path / "light voc12" / "nothing")


def test_pictures_stand_in_a_grid(tmp_path: Path):
    image = np.full((20, 30, 3), 100, dtype=np.uint8)
    values = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    trimap = np.full((20, 30), 128, dtype=np.uint8)
    label = np.zeros((20, 30), dtype=np.uint8)
    label[5:] = 1
    line = pictures.stages(image, values, trimap, values, [label, label], "an image")
    titles = ["image", "map", "trimap", "alpha", "label", "mask"]
    pictures.grid([line, line], titles, tmp_path / "a" / "one.png", height=40)
    pictures.grid([line, line], titles, tmp_path / "two.png", height=40)
    assert (tmp_path / "a" / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "two.png") as made:
        assert made.size == (6 * 60 + 7 * 6, 24 + 2 * (24 + 40) + 6)
        pixels = np.asarray(made)
    top = 48
    assert (pixels[top + 20, 6 + 30] == 100).all()
    assert (pixels[top + 20, 2 * 66 + 6 + 30] == 128).all()
    pictures.grid([line], ["a title wider than its panel", *titles[1:]], tmp_path / "wide.png", height=40)
    with Image.open(tmp_path / "wide.png") as made:
        assert 6 * 60 + 7 * 6 + 100 < made.size[0] < 6 * 60 + 7 * 6 + 200
    with pytest.raises(ContractError, match="lines of 2 panels"):
        pictures.grid([line], ["a", "b"], tmp_path / "x.png")


def test_heat_runs_from_violet_to_yellow_and_labels_wear_voc_colours():
    ends = pictures.heat(np.array([[0.0, 1.0]], dtype=np.float32))
    assert ends.tolist() == [[[68, 1, 84], [253, 231, 37]]]
    assert pictures.paint(np.array([[0, 1, 15]], dtype=np.uint8)).tolist() == [
        [[0, 0, 0], [128, 0, 0], [192, 128, 128]]
    ]
    black = np.zeros((1, 3, 3), dtype=np.uint8)
    assert pictures.paint(np.array([[1, 1, 1]], dtype=np.uint8), black, 0.5)[0, 0].tolist() == [64, 0, 0]


def test_a_matting_without_trimaps_says_so() -> None:
    assert (str(Repairs(181, 7, 1)), str(Repairs(0, 0, 2))) == ("7 of 181 / 1", "none / 2")
