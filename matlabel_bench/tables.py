"""Table files: rows and columns as the paper prints them, with the published numbers; or a user's own."""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matlabel_bench.errors import UsageError, near

RULES = ("protocol", "fixed", "mask-free", "oracle")
METRICS = ("mIoU", "seconds")
FORMS = ("table", "line", "grid", "pictures")
TRIMAPS = ("", "thresholds", "uncertainty")
LABELS = ("", "masks")
ALL = "all"
"""What a command line calls all tables that come with the project."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: what happens to a row's seed, and which number is printed of it."""

    name: str
    refine: tuple[str, ...] = ()
    """Refiners, one after another, behind the row's own."""
    threshold: str = "protocol"
    """How the seed's background threshold is chosen."""
    matting: str | None = None
    """For rows without a matting of their own."""
    segment: str | None = None
    """A segmenter that is trained on the labels; its masks are what is scored."""
    split: str | None = None
    """Scored split, where the column insists on one; else the table's, else the profile's."""
    set: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "mIoU"
    """mIoU, or the seconds that the seed of one image of 512 x 512 pixels takes."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row: which parts make its seed. A row without `cam` and `labels` is known from the literature only."""

    name: str
    cam: str | None = None
    matting: str | None = None
    trimap: str = ""
    """How its trimap is made: by the thresholds of equation 9, or by the uncertainty of the map."""
    labels: str = ""
    """`masks`: the true masks are its labels, for a fully supervised reference."""
    refine: tuple[str, ...] = ()
    """Refiners before the column's."""
    threshold: str = ""
    """The paper's protocol for this row: fixed or oracle. Default: fixed for alphas, oracle for maps."""
    set: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """Refiners without which the row is not that method; until they are installed it stays a dash."""
    extension: bool = False
    """Not in the paper's table; shown below its rows."""
    supervision: str = ""
    """Of a row from the literature."""

    @property
    def computed(self) -> bool:
        """Whether it has anything to compute."""
        return bool(self.cam or self.labels)


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a table of pictures shows: images chosen by a rule, never by hand."""

    before: str
    """Row whose seed is compared with that of `after`, image by image."""
    after: str
    maps: tuple[str, ...] = ()
    """Rows whose maps are shown; default: those of `before` and `after`."""
    rule: str = "worst"
    """`worst`: least change of IoU from before to after; `even`: evenly spread over all changes."""
    count: int = 8


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the paper, or a user's own."""

    name: str
    title: str
    source: str
    published_note: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    compare: tuple[tuple[str, str], ...] = ()
    """Pairs of rows whose difference is reported with a paired interval."""
    split: str | None = None
    """Scored split, where the table insists on one; else the profile's."""
    row_label: str = "method"
    form: str = "table"
    """How it is drawn besides: a line over rows, a grid of rows and columns, or pictures."""
    pictures: Pictures | None = None
    published_dataset: str = ""
    published_split: str = ""
    published_classes: int = 0
    """On what the published numbers were measured, background included; 0 where unknown."""


def home() -> Path:
    """Where the table and profile files lie: beside a source checkout's package, or in the installed share folder."""
    beside = Path(__file__).resolve().parent.parent / "configs"
    return beside if beside.is_dir() else Path(sys.prefix) / "share" / "matlabel_bench" / "configs"


def tables() -> dict[str, Path]:
    """Names of the tables that come with the project."""
    return {p.stem: p for p in sorted((home() / "tables").glob("*.toml"))}


def chosen(names: Sequence[str]) -> list[str]:
    """The names, with `all` replaced by every table that comes with the project, in the paper's order."""
    every = sorted(tables(), key=lambda n: (not n[-1].isdigit() or "S" in n, n.startswith("figure"), n))
    return [*every, *(n for n in names if n not in (ALL, *every))] if ALL in names else list(names)


def recipe(name: str) -> Path:
    """The file of a recipe for `bench label`, by name or path: a table of one row and one column."""
    known = {p.stem: p for p in sorted((home() / "recipes").glob("*.toml"))}
    if name.endswith(".toml"):
        return Path(name)
    if name not in known:
        raise UsageError("the name of a recipe, or the path of a .toml file", f"{name!r}", near(name, known))
    return known[name]


def load_table(name: str) -> Table:
    """A table by name or by the path of a TOML file. Raises UsageError with near misses."""
    from matlabel_bench.tablecheck import check_table, record

    raw = read_toml(name, tables(), "table")
    who = f"table {raw.get('name', name)!r}"
    known = {f.name for f in dataclasses.fields(Table)}
    only(raw, known, who)
    for key in ("columns", "rows"):
        blocks = raw.get(key, [])
        if not (isinstance(blocks, list) and blocks and all(isinstance(b, dict) for b in blocks)):
            raise UsageError(
                f"{who} to have {key}",
                repr(raw[key]) if raw.get(key) else "none",
                f"add [[{key}]], with double brackets; see configs/tables/table1.toml",
            )
    raw["columns"] = tuple(record(Column, c, f"a column of {who}") for c in raw["columns"])
    raw["rows"] = tuple(record(Row, r, f"a row of {who}") for r in raw["rows"])
    if "pictures" in raw:
        raw["pictures"] = record(Pictures, raw["pictures"], f"pictures of {who}")
    raw = {"title": "", "source": "", "published_note": "", "name": Path(name).stem} | raw
    table: Table = record(Table, raw, who)
    check_table(table, who)
    return table


def only(raw: Mapping[str, Any], known: set[str], who: str) -> None:
    for key in raw:
        if key not in known:
            raise UsageError(f"{who} with known keys", f"{key!r}", near(key, known))


def read_toml(name: str, known: Mapping[str, Path], what: str) -> dict[str, Any]:
    path = Path(name) if name.endswith(".toml") else known.get(name)
    if path is None:
        raise UsageError(f"the name of a {what}, or the path of a .toml file", f"{name!r}", near(name, known))
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as err:
        raise UsageError(f"a readable {what} file", f"{path} ({err})", near(path.stem, known)) from err
    except tomllib.TOMLDecodeError as err:
        raise UsageError(f"{what} file {path} to be TOML", str(err), "repair the line it names") from err
