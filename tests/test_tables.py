"""Table files as they are read. (What they refuse: test_bad_input.py.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from matlabel_bench.errors import UsageError
from matlabel_bench.tables import load_table, recipe, tables

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
