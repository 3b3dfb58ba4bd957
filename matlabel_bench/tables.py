"""Table files: rows and columns as the paper prints them, with the published numbers; or a user's own."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matlabel_bench.errors import UsageError, near

RULES = ("protocol", "fixed", "mask-free", "oracle")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: which refiners run after the seed, and how the seed's background threshold is chosen."""

    name: str
    refine: tuple[str, ...] = ()
    threshold: str = "protocol"


@dataclass(frozen=True, slots=True)
class Row:
    """A row: which parts make its seed. A row without `cam` is known from the literature only."""

    name: str
    cam: str | None = None
    matting: str | None = None
    threshold: str = ""
    """The paper's protocol for this row: fixed or oracle. Default: fixed for alphas, oracle for maps."""
    set: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """Refiners without which the row is not that method; until they are installed it stays a dash."""
    extension: bool = False
    """Not in the paper's table; shown below its rows."""


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
    raw["columns"] = tuple(_record(Column, c, f"a column of {who}") for c in raw["columns"])
    raw["rows"] = tuple(_record(Row, r, f"a row of {who}") for r in raw["rows"])
    raw = {"title": "", "source": "", "published_note": "", "name": Path(name).stem} | raw
    table: Table = _record(Table, raw, who)
    _check_table(table, who)
    return table


def _check_table(table: Table, who: str) -> None:
    if not re.fullmatch(r"\w[\w .+-]*", table.name):
        raise UsageError(
            "the name of a table that can name a folder", repr(table.name), "use letters, digits, - and _ alone"
        )
    names, columns = [r.name for r in table.rows], [c.name for c in table.columns]
    for what, given in (("row", names), ("column", columns)):
        if twice := [n for n in given if given.count(n) > 1]:
            raise UsageError(f"{who} to name every {what} once", f"{twice[0]!r} twice", "rename one of them")
    for column in table.columns:
        if column.threshold not in RULES:
            raise UsageError(
                f"the threshold rule of column {column.name!r}", f"{column.threshold!r}", near(column.threshold, RULES)
            )
    for row in table.rows:
        if row.threshold and row.threshold not in RULES[1:]:
            raise UsageError(
                f"the threshold rule of row {row.name!r}", f"{row.threshold!r}", near(row.threshold, RULES[1:])
            )
        if odd := [k for k in row.set if "." not in k.strip(".")]:
            raise UsageError(
                f"set of row {row.name!r} to name fields as part.field",
                f"{odd[0]} = {row.set[odd[0]]!r}",
                f'write set = {{ "{odd[0]}.FIELD" = VALUE }}, with the quotes',
            )
        if unknown := set(row.published) - set(columns):
            raise UsageError(
                f"published numbers of {row.name!r} under columns of {who}",
                f"{min(unknown)!r}",
                near(min(unknown), columns),
            )
        if row.matting and not row.cam:
            raise UsageError(
                f"row {row.name!r} to say which cam its trimap comes from", "a matting alone", 'add cam = "..."'
            )
    for pair in table.compare:
        if len(pair) != 2:
            raise UsageError(f"compare of {who} as pairs of rows", repr(list(pair)), 'write [["one row", "other row"]]')
        for name in pair:
            if name not in names:
                raise UsageError(f"compare of {who} to name its rows", f"{name!r}", near(name, names))


def _record(cls: type, raw: Mapping[str, Any], who: str) -> Any:
    only(raw, {f.name for f in dataclasses.fields(cls)}, who)
    if "name" not in raw:
        raise UsageError(f"{who} to have a name", str(dict(raw)), 'add name = "..."')
    ready = {k: _tuples(v) for k, v in raw.items()}
    for key, value in ready.items():
        words, fits = _FORMS[key]
        if not fits(value):
            raise UsageError(f"{key} of {who} to be {words}", repr(raw[key]), f"write {key} as {words}")
    return cls(**ready)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_text, value))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("name", "cam", "matting", "split"), ("a text", _text)),
    **dict.fromkeys(
        ("title", "source", "published_note", "published_dataset", "published_split", "threshold"),
        ("a text", lambda v: isinstance(v, str)),
    ),
    **dict.fromkeys(("refine", "needs"), ('a list of texts, such as ["crf"]', _texts)),
    **dict.fromkeys(("columns", "rows"), ("blocks", lambda v: True)),
    "compare": ("a list of pairs of rows", lambda v: isinstance(v, tuple) and all(map(_texts, v))),
    "set": ("a table of part.field = value", lambda v: isinstance(v, dict)),
    "published": ("numbers under columns", lambda v: isinstance(v, dict) and all(map(_number, v.values()))),
    "extension": ("true or false", lambda v: isinstance(v, bool)),
    "published_classes": ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
}
"""What each key of a table, a row or a column must be: in words, and as a test."""


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
