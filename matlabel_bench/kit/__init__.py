"""Conformance: does a part keep the promises its kind makes? For `bench check`, and for the tests of any plugin.

    from matlabel_bench import kit, registry
    parts, _ = registry.start()
    assert all(f.ok for f in kit.check(parts.get("matting", "knn")))

Everything is tried on synthetic scenes of discs and squares, small enough that a part is done in less than a minute.
Parts that train get one epoch on two dozen such images, with the smallest backbone they offer and random weights; a
field given explicitly is left as given. No mask is anywhere within reach of the part.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matlabel_bench.errors import BenchError
from matlabel_bench.fields import build
from matlabel_bench.kit import kinds, promises, scenes
from matlabel_bench.kit.trial import Finding, Trial
from matlabel_bench.registry import Entry

__all__ = ["Finding", "cheap", "check", "render"]


def check(entry: Entry, fields: Mapping[str, Any] | None = None) -> list[Finding]:
    """Every promise of the part's kind, tried in order; a broken one does not hide those that can still be tried.

    Args:
        entry: what the registry holds, `registry.start()[0].get(kind, name)`.
        fields: values of fields, typed or as strings; the rest has its defaults, or is made cheap.

    Raises:
        UsageError: a field that the part does not have, or a value it does not take.
    """
    given = dict(fields or {})
    trial = Trial()
    promises.common(trial, entry, build(entry.cls, given, entry.name))
    with tempfile.TemporaryDirectory(prefix="matlabel-check-") as folder:
        brought = _folders(entry.cls, Path(folder))
        part = build(entry.cls, cheap(entry.cls) | brought | given, entry.name)
        kinds.CHECKS[entry.kind](trial, part, Path(folder))
    return trial.findings


def _folders(cls: type, root: Path) -> dict[str, str]:
    """Small data for the fields that name a folder of a data set's."""
    wanted = {f.name for f in dataclasses.fields(cls) if f.metadata.get("key") == "folder"}
    return {n: str(path) for n, path in scenes.folders(root).items() if n in wanted} if wanted else {}


def cheap(cls: type) -> dict[str, Any]:
    """Values for those of the customary fields of a training that the class has, chosen to train fast."""
    known = {f.name: f.metadata for f in dataclasses.fields(cls)}
    wanted: dict[str, Any] = {"epochs": 1, "batch": 4, "weights": "none", "backbone": "small"}
    wanted |= {"side_low": 64, "side_high": 96, "crop": 64, "scales": (1.0,)}
    wanted |= {"steps": 4, "size": "small"}
    out = {}
    for name, value in wanted.items():
        if name in known:
            try:
                build(cls, {name: value}, cls.__name__)
            except BenchError:
                continue  # this part has no such choice: its default has to do
            out[name] = value
    return out


def render(entry: Entry, findings: Sequence[Finding], encoding: str | None = "utf-8") -> str:
    """The findings for a reader, with plain letters where the terminal has no check marks."""
    yes, no = "✓", "✗"
    try:
        (yes + no).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        yes, no = "ok  ", "FAIL"
    lines = [f"{entry.kind} {entry.name} ({entry.origin})"]
    lines += [f"  {yes if f.ok else no} {f.name}{f': {f.message}' if f.message else ''}" for f in findings]
    return "\n".join([*lines, f"{sum(f.ok for f in findings)} of {len(findings)} promises kept"])
