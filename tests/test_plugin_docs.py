"""docs/plugins.md is the promise to plugin authors: everything the code promises is named there, exactly."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from matlabel_bench import kit, spec
from matlabel_bench.fields import knob
from matlabel_bench.registry import BLOCK

TEXT = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text(encoding="utf-8")
HOOKS = [name for name in vars(spec.Hooks) if not name.startswith("_")]


def arguments(function: object) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]  # type: ignore[arg-type]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_exact_arguments(hook: str) -> None:
    assert f"`{hook}({', '.join(arguments(getattr(spec.Hooks, hook)))})`\n: " in TEXT


def test_no_hook_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(r"`(matlabel_\w+)\(", TEXT)) == set(HOOKS)


@pytest.mark.parametrize(
    ("kind", "method"),
    [(kind, m) for kind, protocol in spec.PROTOCOLS.items() for m in vars(protocol) if not m.startswith("_")],
)
def test_every_method_of_every_protocol_is_documented(kind: str, method: str) -> None:
    rows = TEXT[TEXT.index("| Kind | Method") :].split("\n\n")[0].splitlines()
    start = next(i for i, row in enumerate(rows) if row.startswith(f"| `{kind}` "))
    end = next((i for i in range(start + 1, len(rows)) if rows[i].startswith("| `")), len(rows))
    signature = f"`{method}({', '.join(arguments(getattr(spec.PROTOCOLS[kind], method)))})`"
    assert any(signature in row for row in rows[start:end])


@pytest.mark.parametrize("attribute", ["version", "supervision", "trains", "cost", "published_in"])
def test_every_class_attribute_is_documented(attribute: str) -> None:
    assert f"{attribute}: ClassVar" in (spec.__doc__ or "")
    assert f"| `{attribute}: " in TEXT


def test_the_list_of_class_attributes_is_complete() -> None:
    assert re.findall(r"(\w+): ClassVar", spec.__doc__ or "") == re.findall(r"^\| `(\w+): ", TEXT, re.M)


def test_knob_and_the_kit_are_as_documented() -> None:
    assert f"`knob(default, help, {', '.join(f'{a}=' for a in arguments(knob)[2:])})`" in TEXT
    assert arguments(kit.check) == ["entry", "fields"]
    assert BLOCK in TEXT
    for kind in spec.KINDS:
        assert f"`{kind}`" in TEXT
