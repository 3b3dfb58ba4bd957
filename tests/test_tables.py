"""Table files as they are read. (What they refuse: test_bad_input.py.)"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from matlabel_bench import tablecheck
from matlabel_bench.errors import UsageError
from matlabel_bench.tables import Column, Pictures, Row, Table, chosen, load_table, recipe, tables

OWN = """
title = "two rows"
compare = [["a", "b"]]
split = "val"
[[columns]]
name = "Seed"
[[columns]]
name = "w/ CRF"
refine = ["crf"]
threshold = "mask-free"
[[rows]]
name = "a"
cam = "cam"
matting = "knn"
needs = ["crf"]
set = { "knn.neighbours" = [10, 5] }
published = { "Seed" = 50 }
[[rows]]
name = "b"
extension = true
"""


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    table = load_table(str(tmp_path / "own.toml"))
    assert (table.name, table.title, table.split, table.published_classes) == ("own", "two rows", "val", 0)
    assert [(c.name, c.refine, c.threshold) for c in table.columns] == [
        ("Seed", (), "protocol"),
        ("w/ CRF", ("crf",), "mask-free"),
    ]
    first, second = table.rows
    assert (first.cam, first.matting, first.needs, first.threshold) == ("cam", "knn", ("crf",), "")
    assert first.set == {"knn.neighbours": [10, 5]}
    assert first.published == {"Seed": 50}
    assert second.cam is None
    assert second.extension
    assert table.compare == (("a", "b"),)


EVERY_KEY = """
form = "pictures"
row_label = "setting"
pictures = { before = "cam", after = "both", maps = ["cam"], rule = "even", count = 3 }
[[columns]]
name = "seed"
set = { "stub-cam.gain" = 2 }
[[columns]]
name = "network"
matting = "stub-matting"
segment = "stub-segmenter"
split = "val"
[[columns]]
name = "time"
metric = "seconds"
[[rows]]
name = "cam"
cam = "stub-cam"
[[rows]]
name = "both"
cam = "stub-cam"
refine = ["stub-shift", "stub-maps"]
trimap = "uncertainty"
[[rows]]
name = "full"
labels = "masks"
[[rows]]
name = "known"
supervision = "tags+saliency"
"""


def test_what_rows_columns_and_pictures_may_say(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(EVERY_KEY)
    table = load_table(str(tmp_path / "t.toml"))
    assert (table.form, table.row_label) == ("pictures", "setting")
    assert table.pictures == Pictures("cam", "both", ("cam",), "even", 3)
    seed, network, seconds = table.columns
    assert seed.set == {"stub-cam.gain": 2}
    assert (network.matting, network.segment, network.split) == ("stub-matting", "stub-segmenter", "val")
    assert (seed.metric, seconds.metric) == ("mIoU", "seconds")
    assert (seed.matting, seed.segment, seed.split) == (None, None, None)
    rows = {r.name: r for r in table.rows}
    assert (rows["both"].refine, rows["both"].trimap) == (("stub-shift", "stub-maps"), "uncertainty")
    assert (rows["full"].labels, rows["full"].cam) == ("masks", None)
    assert rows["known"].supervision == "tags+saliency"
    assert {n: r.computed for n, r in rows.items()} == {"cam": True, "both": True, "full": True, "known": False}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("segment = ", "segmnet = ", ["known keys", "'segmnet'", "did you mean 'segment'"]),
        ('segment = "stub-segmenter"', 'segment = [""]', ["segment of a column", "a text", "write segment as a text"]),
        ('split = "val"', 'split = ""', ["split of a column", "to be a text", "''"]),
        ('matting = "stub-matting"', "matting = 3", ["matting of a column", "to be a text", "got 3"]),
        ('"stub-cam.gain" = 2', "gain = 2", ["set of column 'seed'", "part.field", "gain = 2", '"gain.FIELD" = VALUE']),
        ('"seconds"', '"second"', ["the metric of column 'time'", "'second'", "did you mean 'seconds'"]),
        (
            '"seconds"',
            '"seconds"\nrefine = ["stub-shift"]\nsegment = "stub-segmenter"',
            ["column 'time' to time the seed alone", "got stub-shift, stub-segmenter", "take refine and segment out"],
        ),
        ('"uncertainty"', '"uncertain"', ["the trimap of row 'both'", "'uncertain'", "did you mean 'uncertainty'"]),
        ('"masks"', '"mask"', ["the labels of row 'full'", "'mask'", "did you mean 'masks'"]),
        ('"masks"', '"masks"\ncam = "stub-cam"', ["row 'full' with labels, or with a cam", "both", "keep one"]),
        ('"masks"', '"masks"\nrefine = ["stub-shift"]', ["row 'full' with labels, or with a cam", "keep one"]),
        ('"tags+saliency"', '["tags"]', ["supervision of a row", "a text", "['tags']"]),
        ('["stub-shift", "stub-maps"]', '"stub-shift"', ["refine of a row", 'a list of texts, such as ["crf"]']),
        ('"setting"', '" "', ["row_label of table", "to be a text"]),
        ('form = "pictures"', 'form = "picture"', ["form of table", "'picture'", "did you mean 'pictures'"]),
        (
            'form = "pictures"',
            'form = "grid"',
            ['form = "pictures" and pictures = {...}, or neither', "form = 'grid', pictures given", "add what lacks"],
        ),
        (
            'pictures = { before = "cam", after = "both", maps = ["cam"], rule = "even", count = 3 }',
            "",
            ["or neither", "form = 'pictures', pictures absent"],
        ),
        ('before = "cam", ', "", ["pictures of table", "to have a before", 'add before = "..."']),
        ("after = ", "aftre = ", ["pictures of table", "'aftre'", "did you mean 'after'"]),
        (
            'after = "both"',
            'after = "boht"',
            ["pictures of table", "to name its rows", "'boht'", "did you mean 'both'"],
        ),
        ('after = "both"', 'after = "full"', ["row 'full', named in pictures", "to have a cam", "a computed row"]),
        ('maps = ["cam"]', 'maps = ["known"]', ["row 'known', named in pictures", "to have a cam"]),
        ('"even"', '"evne"', ["the rule of pictures", "'evne'", "did you mean 'even'"]),
        ("count = 3", "count = 0", ["at least one picture", "got 0", "raise count"]),
        ("count = 3", "count = true", ["count of pictures", "a whole number", "got True"]),
    ],
)
def test_what_a_table_refuses(tmp_path: Path, old: str, new: str, said: list[str]) -> None:
    assert EVERY_KEY.count(old) == 1
    (tmp_path / "t.toml").write_text(EVERY_KEY.replace(old, new))
    with pytest.raises(UsageError) as err:
        load_table(str(tmp_path / "t.toml"))
    for words in said:
        assert words in str(err.value)
    assert "known: ," not in str(err.value), "that a key may be empty is no name to choose"


def test_every_key_has_a_form() -> None:
    for cls in (Table, Column, Row, Pictures):
        assert {f.name for f in dataclasses.fields(cls)} <= set(tablecheck._KINDS)


def test_pictures_that_are_no_section_of_keys(tmp_path: Path) -> None:
    line = next(line for line in EVERY_KEY.splitlines() if line.startswith("pictures"))
    (tmp_path / "t.toml").write_text(EVERY_KEY.replace(line, 'pictures = ["cam"]'))
    with pytest.raises(UsageError, match=r"pictures of table .* to be a section of keys"):
        load_table(str(tmp_path / "t.toml"))


def test_all_stands_for_every_table_in_the_papers_order() -> None:
    paper = ["table1", "table2", "table3", "table4", "figure2"]
    supplement = [*(f"tableS{i}" for i in range(1, 7)), *(f"figureS{i}" for i in range(1, 5))]
    assert chosen(["all"]) == [*paper, *supplement]
    assert set(chosen(["all"])) == set(tables())
    assert chosen(["own.toml", "all", "table3"]) == [*paper, *supplement, "own.toml"], "no table twice"
    assert chosen(["tableS1", "table1"]) == ["tableS1", "table1"], "names alone stay as they are given"


def test_every_table_and_recipe_of_the_project_can_be_read() -> None:
    for name in tables():
        assert load_table(name).name == name
    one = load_table(str(recipe("mat-label")))
    assert len(one.rows) == len(one.columns) == 1
    assert one.columns[0].threshold == "mask-free"


def test_table1_holds_the_papers_rows_and_numbers() -> None:
    """Table 1 of the paper: its own method's line, and one of the literature's."""
    table = load_table("table1")
    rows = {r.name: r for r in table.rows}
    assert dict(rows["Mat-Label (ours)"].published) == {"Seed": 62.3, "w/ CRF": 65.8, "w/ IRN": 72.9}
    assert dict(rows["RIB"].published) == {"Seed": 56.5, "w/ CRF": 62.9}
    assert rows["RIB"].cam is None
    assert {"Seed", "w/ CRF", "w/ IRN"} <= {c.name for c in table.columns}
    assert (table.published_dataset, table.published_split, table.published_classes) == ("voc12", "train", 21)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tabel1", "did you mean 'table1'"),
        ("no/such.toml", "a readable table file\n     got no/such.toml"),
    ],
)
def test_a_table_that_is_not_there(name: str, said: str) -> None:
    with pytest.raises(UsageError) as err:
        load_table(name)
    assert said in str(err.value)


def test_a_recipe_by_path_or_name() -> None:
    assert recipe("mine.toml") == Path("mine.toml")
    with pytest.raises(UsageError, match="did you mean 'mat-label'"):
        recipe("matlabel")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_bytes(b"title = '\xff\xfe'")
    with pytest.raises(UsageError, match="a readable table file"):
        load_table(str(tmp_path / "t.toml"))
