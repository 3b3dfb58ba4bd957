"""docs/decisions.md names every open question once, and fields that exist."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from matlabel_bench import registry
from matlabel_bench.label import LabelRule
from matlabel_bench.trimap import TrimapRule

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "decisions.md").read_text(encoding="utf-8")


def test_all_34_questions_are_answered_once() -> None:
    assert [int(n) for n in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)] == list(range(1, 35))


def test_the_fields_it_names_exist() -> None:
    parts, _ = registry.start()
    classes = {entry.name: entry.cls for entry in parts} | {"trimap": TrimapRule, "label": LabelRule}
    named = re.findall(r"`(\w+)\.(\w+)`", TEXT)
    unknown = [
        f"{part}.{field}"
        for part, field in named
        if (part, field) != ("part", "field")
        and (part not in classes or field not in {f.name for f in dataclasses.fields(classes[part])})
    ]
    assert unknown == []
    assert len(named) > 30
