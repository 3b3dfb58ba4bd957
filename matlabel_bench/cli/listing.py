"""`bench list`, `bench show`, `bench doctor`: what is installed, and whether it works."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import sys
import textwrap
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matlabel_bench.cli.options import store_folder
from matlabel_bench.errors import UsageError, near

if TYPE_CHECKING:
    from matlabel_bench.registry import Entry

FILES = ("tables", "profiles", "recipes")


def list_parts(args: argparse.Namespace) -> int:
    """`bench list [KIND]`: parts with origin and supervision; tables; profiles; recipes."""
    from matlabel_bench import registry
    from matlabel_bench.spec import KINDS

    kind = args.kind
    if kind is not None and kind not in KINDS + FILES:
        singular = {f"{k}s": k for k in KINDS} | {f.removesuffix("s"): f for f in FILES}
        if kind not in singular:
            raise UsageError("a kind of part, tables, profiles or recipes", f"{kind!r}", near(kind, KINDS + FILES))
        kind = singular[kind]
    parts = [] if kind in FILES else [_row(e) for e in registry.start()[0] if kind in (None, e.kind)]
    files = {name: _files(name) for name in FILES if kind in (None, name)}
    if args.json:
        print(json.dumps({"parts": parts, **files}, indent=1, ensure_ascii=False))
        return 0
    if kind not in FILES:
        print(columns(["kind", "name", "origin", "version", "trains", "learns from", "summary"], map(_cells, parts)))
    for name, rows in files.items():
        print(("\n" if kind is None else "") + columns([name, "title"], ((r["name"], r["title"]) for r in rows)))
    return 0


def show(args: argparse.Namespace) -> int:
    """`bench show PART`: every part of that name."""
    from matlabel_bench import registry

    entries = registry.start()[0].find(args.part)
    if args.json:
        whole = [
            _row(e) | {"doc": inspect.getdoc(e.cls) or "", "file": _file(e), "fields": _fields(e)} for e in entries
        ]
        print(json.dumps(whole, indent=1, ensure_ascii=False))
    else:
        print("\n\n".join(_describe(e) for e in entries))
    return 0


def doctor(args: argparse.Namespace) -> int:
    """`bench doctor`: exit 1 where a check fails."""
    from matlabel_bench import doctor as examination

    checks = examination.examine(store_folder(args.store))
    if args.json:
        print(json.dumps([dataclasses.asdict(c) for c in checks], indent=1, ensure_ascii=False))
    else:
        print("\n".join(map(examination.line, checks)))
    return 1 if any(c.status == "fail" for c in checks) else 0


def columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns under a head; the last one as wide as it likes."""
    lines = [list(head), *(list(map(str, row)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _row(entry: Entry) -> dict[str, Any]:
    cls = entry.cls
    return {
        "kind": entry.kind,
        "name": entry.name,
        "origin": entry.origin,
        "version": getattr(cls, "version", 1),
        "trains": bool(getattr(cls, "trains", False)),
        "supervision": ["tags", *getattr(cls, "supervision", ())],
        "summary": entry.summary,
        "published_in": getattr(cls, "published_in", ""),
    }


def _cells(row: Mapping[str, Any]) -> list[str]:
    trains = "yes" if row["trains"] else "no"
    return [
        row["kind"],
        row["name"],
        row["origin"],
        str(row["version"]),
        trains,
        "+".join(row["supervision"]),
        row["summary"],
    ]


def _files(what: str) -> list[dict[str, str]]:
    from matlabel_bench import profiles, tables

    if what == "recipes":
        found = {p.stem: p for p in sorted((tables.home() / "recipes").glob("*.toml"))}
    else:
        known = tables.tables()
        found = {n: known[n] for n in tables.chosen([tables.ALL])} if what == "tables" else profiles.profiles()
    return [{"name": name, "title": _title(path)} for name, path in found.items()]


def _title(path: Path) -> str:
    """A table's title, or the comment a profile begins with."""
    import tomllib

    text = path.read_text(encoding="utf-8")
    comment = text.splitlines()[0].removeprefix("#").strip() if text.startswith("#") else ""
    try:
        return str(tomllib.loads(text).get("title") or comment)
    except tomllib.TOMLDecodeError as err:
        return f"not TOML: {err}"


def _describe(entry: Entry) -> str:
    row = _row(entry)
    facts = [
        ("origin", entry.origin),
        ("file", _file(entry)),
        ("version", str(row["version"])),
        ("trains", "yes" if row["trains"] else "no"),
        ("learns from", " + ".join(row["supervision"])),
        ("paper", row["published_in"]),
    ]
    lines = [f"{entry.kind} {entry.name}", "", textwrap.indent(inspect.getdoc(entry.cls) or "", "  "), ""]
    lines += [f"  {name:<12} {text}" for name, text in facts if text]
    fields = _fields(entry)
    lines += ["", "  fields (--set " + entry.name + ".FIELD=VALUE):"] if fields else ["", "  no fields"]
    for field in fields:
        lines.append(f"    {field['name']}: {field['type']} = {field['default']!r}{_limits(field)}")
        lines.append(textwrap.fill(field["help"], 110, initial_indent=" " * 8, subsequent_indent=" " * 8))
    return "\n".join(lines)


def _limits(field: Mapping[str, Any]) -> str:
    said = []
    if field["choices"]:
        said.append("one of " + ", ".join(map(str, field["choices"])))
    said += [f"{sign} {field[end]:g}" for sign, end in ((">=", "low"), ("<=", "high")) if field[end] is not None]
    if field["key"] == "none":
        said.append("not part of the cache key")
    return f"   ({'; '.join(said)})" if said else ""


def _fields(entry: Entry) -> list[dict[str, Any]]:
    from matlabel_bench.fields import plain

    hints = typing.get_type_hints(entry.cls)
    out = []
    for field in dataclasses.fields(entry.cls):
        meta = field.metadata
        default = None if field.default is dataclasses.MISSING else plain(field.default)
        kind = hints[field.name]
        name = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
        row = {
            "name": field.name,
            "type": name.replace("typing.", ""),
            "default": default,
            "help": meta.get("help", ""),
        }
        limits = {"choices": plain(meta.get("choices")), "low": meta.get("low"), "high": meta.get("high")}
        out.append({**row, **limits, "key": meta.get("key", "value")})
    return out


def _file(entry: Entry) -> str:
    module = sys.modules.get(entry.cls.__module__)
    return str(getattr(module, "__file__", "") or "")
