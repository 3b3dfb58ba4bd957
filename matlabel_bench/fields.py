"""Fields of parts: one declaration is hyper-parameter, command-line option, cache key and table column."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from matlabel_bench.errors import UsageError, near

WORDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
"""How errors call the types of fields."""

KeyRule = Literal["value", "file", "folder", "open", "none"]


def knob(
    default: Any,
    help: str,  # noqa: A002 - the name argparse and every reader expect
    *,
    choices: Sequence[Any] | None = None,
    low: float | None = None,
    high: float | None = None,
    key: KeyRule = "value",
) -> Any:
    """A dataclass field of a part.

    Args:
        default: immutable default value.
        help: one line for `bench show`, with unit and source (paper equation, reference repository).
        choices: allowed values, if they can be listed.
        low, high: inclusive bounds for numbers.
        key: what enters the cache key: the value; the SHA-256 of the file the value names ("file"; a path that
            moves changes nothing, another content does; an address with :// and the word none enter as they are);
            the same for all files of a folder ("folder"); the value, but not in the key of a training ("open": what
            `fit` never looks at, so that a sweep over it trains nothing anew); or nothing ("none": where things lie
            and on which device they run, never what is computed).
    """
    meta = {"help": help, "choices": tuple(choices) if choices else None, "low": low, "high": high, "key": key}
    return dataclasses.field(default=default, metadata=meta)


def key_fields(part: Any, *, training: bool = False) -> dict[str, Any]:
    """The fields of a part that enter its cache key, as JSON-ready values; `training`: the key of its `fit`.

    Raises:
        UsageError: a field with key="file" names a file that cannot be read, or key="folder" a folder.
    """
    out: dict[str, Any] = {}
    for field in dataclasses.fields(part):
        rule = field.metadata.get("key", "value")
        value = getattr(part, field.name)
        if rule == "none" or (rule == "open" and training):
            continue
        local = rule in ("file", "folder") and value and value != "none" and "://" not in str(value)
        of = _digest if rule == "file" else _digest_folder
        out[field.name] = of(value, field.name) if local else plain(value)
    return out


def all_fields(part: Any) -> dict[str, Any]:
    """Every field of a part as JSON-ready values: what `build` needs to make it again in another process."""
    return {f.name: plain(getattr(part, f.name)) for f in dataclasses.fields(part)}


def plain(value: Any) -> Any:
    """Tuples to lists, paths to strings; the rest must already be JSON."""
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def canonical(value: Any) -> str:
    """One JSON text for one value: the only form that is ever hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _digest(path: str, field: str) -> str:
    try:
        with Path(path).open("rb") as handle:
            return "sha256:" + hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as err:
        raise UsageError(
            f"{field} to name a readable file",
            f"{path} ({err.strerror})",
            f"give the path of an existing file for {field}",
        ) from err


@lru_cache(maxsize=32)
def _digest_folder(path: str, field: str) -> str:
    """Names and contents of all files below a folder; read once in the life of the process."""
    root = Path(path)
    if not root.is_dir():
        got = f"{path} ({'a file' if root.exists() else 'no such folder'})"
        raise UsageError(f"{field} to name a readable folder", got, f"give the path of an existing folder for {field}")
    files = sorted(p for p in root.rglob("*") if p.is_file())
    rows = [[p.relative_to(root).as_posix(), _digest(str(p), field)] for p in files]
    return "sha256:" + hashlib.sha256(canonical(rows).encode()).hexdigest()


def build(cls: type, values: dict[str, Any], who: str) -> Any:
    """An instance of the frozen dataclass `cls` from field values, which may be strings from a command line.

    Raises:
        UsageError: an unknown field (near misses named), a value of the wrong type, out of bounds or not a choice.
    """
    known = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    ready: dict[str, Any] = {}
    for name, raw in values.items():
        if name not in known:
            raise UsageError(f"a field of {who}", f"{name!r}", near(name, known))
        ready[name] = _coerce(raw, hints[name], f"{who}.{name}")
        _bounds(ready[name], known[name].metadata, f"{who}.{name}")
    return cls(**ready)


def _bounds(value: Any, meta: Any, who: str) -> None:
    choices, low, high = meta.get("choices"), meta.get("low"), meta.get("high")
    members = value if isinstance(value, tuple) else (value,)
    if choices is not None and value is not None and value not in choices:
        for member in members:
            _choose(member, choices, who)
    for number in members:
        if isinstance(number, int | float) and not isinstance(number, bool):
            if low is not None and number < low:
                raise UsageError(f"{who} of at least {low}", repr(value), f"choose {who} >= {low}")
            if high is not None and number > high:
                raise UsageError(f"{who} of at most {high}", repr(value), f"choose {who} <= {high}")


def _choose(value: Any, choices: Sequence[Any], who: str) -> Any:
    """The choice that `value` is or, as a word of a command line, spells."""
    if value in choices:
        return value
    named = {str(c): c for c in choices}
    if isinstance(value, str) and value.strip() in named:
        return named[value.strip()]
    raise UsageError(f"{who} to be one of {', '.join(map(repr, choices))}", repr(value), near(str(value), named))


def _coerce(raw: Any, hint: Any, who: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if raw is None or (isinstance(raw, str) and raw.lower() in ("none", "")):
            return None
        return _coerce(raw, next(a for a in args if a is not type(None)), who)
    if origin is tuple:
        items = [p for p in raw.split(",") if p.strip()] if isinstance(raw, str) else raw
        if not isinstance(items, list | tuple):
            raise UsageError(f"{who} to be a list", repr(raw), "separate the values by commas")
        if args[-1] is not Ellipsis and len(items) != len(args):
            raise UsageError(f"{who} to be {len(args)} values", f"{len(items)} of them", "separate them by commas")
        return tuple(_coerce(i, args[0], who) for i in items)
    if origin is Literal:
        return _choose(raw, args, who)
    return _scalar(raw, hint, who)


def _scalar(raw: Any, hint: Any, who: str) -> Any:
    try:
        if hint is bool:
            if isinstance(raw, bool):
                return raw
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[str(raw).lower()]
        if hint is int:
            if isinstance(raw, bool) or (isinstance(raw, float) and not raw.is_integer()):
                raise ValueError
            return int(raw)
        if hint is float:
            if isinstance(raw, bool) or not math.isfinite(float(raw)):
                raise ValueError
            return float(raw)
        if not isinstance(raw, str | int | float | Path) or isinstance(raw, bool):
            raise TypeError
        return str(raw).strip()
    except (ValueError, KeyError, TypeError, OverflowError) as err:
        word = WORDS.get(hint, getattr(hint, "__name__", str(hint)))
        raise UsageError(f"{who} to be {word}", repr(raw), f"give {word} for {who}") from err
