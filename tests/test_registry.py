"""The registry: adding, finding, near misses; plugins as they are loaded. (Broken plugins: test_bad_input.py.)"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from matlabel_bench import registry
from matlabel_bench.errors import MissingPart, UsageError
from matlabel_bench.registry import Registry
from matlabel_bench.spec import KINDS


@dataclass(frozen=True)
class Solver:
    """Solves.

    At length."""

    sharpness: float = 1.0

    def open(self, out):
        return None


@dataclass(frozen=True)
class Trained:
    trains = True

    def open(self, out):
        return None


def test_a_part_is_found_by_kind_and_name() -> None:
    parts = Registry()
    parts.add("matting", "mine", Solver)
    entry = parts.get("matting", "mine")
    assert (entry.cls, entry.summary, entry.origin) == (Solver, "Solves.", "this session")
    assert parts.find("mine") == parts.find("matting/mine") == [entry]
    assert parts.make("matting", "mine", sharpness="2") == Solver(2.0)
    assert parts.name_of(Solver(3.0)) == "mine"


def test_one_name_may_serve_two_kinds_but_not_one_kind_twice() -> None:
    parts = Registry()
    parts.add("matting", "mine", Solver)
    parts.add("refiner", "mine", Solver)
    assert [e.kind for e in parts.find("mine")] == ["matting", "refiner"]
    with pytest.raises(UsageError, match="a new name for a matting"):
        parts.add("matting", "mine", Solver)


@pytest.mark.parametrize(
    ("kind", "cls", "said"),
    [
        ("mating", Solver, "did you mean 'matting'"),
        ("matting", dict, "a part to be a frozen dataclass"),
        ("matting", dataclass(type("Loose", (), {"open": print})), "a part to be a frozen dataclass"),
        ("matting", dataclass(frozen=True)(type("Shut", (), {})), "a matting to have open"),
        ("cam", Trained, "a cam to have fit"),
        ("dataset", Solver, "a dataset to have class_names, mask_files, masks, split, split_names"),
    ],
)
def test_what_is_no_part(kind: str, cls: type, said: str) -> None:
    with pytest.raises(UsageError) as err:
        Registry().add(kind, "x", cls)
    assert said in str(err.value)


def test_nothing_enters_after_the_start() -> None:
    parts = Registry()
    parts.freeze()
    with pytest.raises(UsageError, match="registered in matlabel_register"):
        parts.add("matting", "late", Solver)


def test_misses_name_their_neighbours_of_the_same_kind() -> None:
    parts = Registry()
    parts.add("matting", "mine", Solver)
    parts.add("refiner", "mint", Solver)
    with pytest.raises(MissingPart) as missing:
        parts.get("matting", "mien")
    assert missing.value.expected == "a registered matting"
    assert missing.value.remedy == "did you mean 'mine'? known: mine"
    with pytest.raises(UsageError, match="'mint'"):
        parts.find("mintt")


def test_installed_plugins_are_loaded_in_a_fixed_order_with_their_origin(stubs: None) -> None:
    parts, hooks = registry.start()
    entries = list(parts)
    assert entries == sorted(entries, key=lambda e: (KINDS.index(e.kind), e.name))
    assert parts.get("cam", "stub-cam").origin == "stub-parts 1.0"
    assert parts.get("dataset", "shapes").origin.startswith("matlabel-bench ")
    assert registry.start() is registry.start()
    assert hooks.hook.matlabel_columns(cell={"row": "x"}) == []


def test_a_blocked_plugin_stays_out(stubs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.BLOCK, "stubs, mattings")
    parts, _ = registry.start()
    assert not [e for e in parts if e.kind == "matting"]
    with pytest.raises(MissingPart):
        parts.get("cam", "stub-cam")
