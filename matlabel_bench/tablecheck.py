"""What a table file may say: every key's form, and what must fit together. Slips are named before hours are spent."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from matlabel_bench.errors import UsageError, near
from matlabel_bench.tables import FORMS, LABELS, METRICS, RULES, TRIMAPS, Column, Pictures, Row, Table, only

PICTURES = ("worst", "even")


def check_table(table: Table, who: str) -> None:
    """Raises UsageError where parts of a table do not fit together; near misses are named."""
    if not re.fullmatch(r"\w[\w .+-]*", table.name):
        raise UsageError(
            "the name of a table that can name a folder", repr(table.name), "use letters, digits, - and _ alone"
        )
    names, columns = [r.name for r in table.rows], [c.name for c in table.columns]
    for what, given in (("row", names), ("column", columns)):
        if twice := [n for n in given if given.count(n) > 1]:
            raise UsageError(f"{who} to name every {what} once", f"{twice[0]!r} twice", "rename one of them")
    for column in table.columns:
        _check_column(column)
    for row in table.rows:
        _check_row(row, columns, who)
    _choice(table.form, FORMS, f"form of {who}")
    for pair in table.compare:
        if len(pair) != 2:
            raise UsageError(f"compare of {who} as pairs of rows", repr(list(pair)), 'write [["one row", "other row"]]')
        for name in pair:
            _choice(name, names, f"compare of {who} to name its rows")
    if (table.form == "pictures") != (table.pictures is not None):
        got = f"form = {table.form!r}, pictures {'given' if table.pictures else 'absent'}"
        raise UsageError(f'{who} to have form = "pictures" and pictures = {{...}}, or neither', got, "add what lacks")
    if table.pictures is not None:
        _check_pictures(table.pictures, {r.name: r for r in table.rows}, who)


def _check_column(column: Column) -> None:
    _choice(column.threshold, RULES, f"the threshold rule of column {column.name!r}")
    _choice(column.metric, METRICS, f"the metric of column {column.name!r}")
    _check_set(column.set, f"column {column.name!r}")
    if column.metric == "seconds" and (column.refine or column.segment):
        got = ", ".join([*column.refine, *([column.segment] if column.segment else [])])
        raise UsageError(f"column {column.name!r} to time the seed alone", got, "take refine and segment out of it")


def _check_row(row: Row, columns: Sequence[str], who: str) -> None:
    _choice(row.threshold, ("", *RULES[1:]), f"the threshold rule of row {row.name!r}")
    _choice(row.trimap, TRIMAPS, f"the trimap of row {row.name!r}")
    _choice(row.labels, LABELS, f"the labels of row {row.name!r}")
    _check_set(row.set, f"row {row.name!r}")
    for name in row.published:
        _choice(name, columns, f"published numbers of {row.name!r} under columns of {who}")
    if row.matting and not row.cam:
        raise UsageError(
            f"row {row.name!r} to say which cam its trimap comes from", "a matting alone", 'add cam = "..."'
        )
    if row.labels and (row.cam or row.refine):
        raise UsageError(f"row {row.name!r} with labels, or with a cam", "both", "keep one: the masks are its labels")


def _check_set(given: Mapping[str, Any], who: str) -> None:
    if odd := [k for k in given if "." not in k.strip(".")]:
        raise UsageError(
            f"set of {who} to name fields as part.field",
            f"{odd[0]} = {given[odd[0]]!r}",
            f'write set = {{ "{odd[0]}.FIELD" = VALUE }}, with the quotes',
        )


def _check_pictures(pictures: Pictures, rows: Mapping[str, Row], who: str) -> None:
    _choice(pictures.rule, PICTURES, f"the rule of pictures of {who}")
    for name in (pictures.before, pictures.after, *pictures.maps):
        _choice(name, rows, f"pictures of {who} to name its rows")
        if not rows[name].cam:
            raise UsageError(f"row {name!r}, named in pictures of {who}, to have a cam", "none", "name a computed row")
    if pictures.count < 1:
        raise UsageError(f"at least one picture in {who}", str(pictures.count), "raise count")


def _choice(got: str, known: Collection[str], what: str) -> None:
    if got not in known:
        raise UsageError(what, repr(got), near(got, filter(None, known)))


def record(cls: type, raw: Any, who: str) -> Any:
    """A Table, Row, Column or Pictures from TOML. Raises UsageError for keys absent, unknown or of another kind."""
    if not isinstance(raw, Mapping):
        raise UsageError(f"{who} to be a section of keys", repr(raw), "write key = value pairs in braces or a section")
    only(raw, {f.name for f in dataclasses.fields(cls)}, who)
    needed = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    for name in needed:
        if name not in raw:
            raise UsageError(f"{who} to have a {name}", str(dict(raw)), f'add {name} = "..."')
    ready = {k: _tuples(v) for k, v in raw.items()}
    for key, value in ready.items():
        words, fits = _KINDS[key]
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


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("name", "cam", "matting", "segment", "split", "before", "after", "row_label"), ("a text", _text)),
    **dict.fromkeys(
        ("title", "source", "published_note", "published_dataset", "published_split", "threshold", "supervision"),
        ("a text", lambda v: isinstance(v, str)),
    ),
    **dict.fromkeys(("trimap", "labels", "metric", "form", "rule"), ("a text", lambda v: isinstance(v, str))),
    **dict.fromkeys(("refine", "needs", "maps"), ('a list of texts, such as ["crf"]', _texts)),
    **dict.fromkeys(("columns", "rows", "pictures"), ("blocks", lambda v: True)),
    "compare": ("a list of pairs of rows", lambda v: isinstance(v, tuple) and all(map(_texts, v))),
    "set": ("a table of part.field = value", lambda v: isinstance(v, dict)),
    "published": ("numbers under columns", lambda v: isinstance(v, dict) and all(map(_number, v.values()))),
    "extension": ("true or false", lambda v: isinstance(v, bool)),
    **dict.fromkeys(
        ("published_classes", "count"), ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool))
    ),
}
"""What each key of a table, a row or a column must be: in words, and as a test."""
