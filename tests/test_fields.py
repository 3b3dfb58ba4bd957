"""Fields of parts: conversion from words, refusal, and what enters a key."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matlabel_bench.errors import UsageError
from matlabel_bench.fields import all_fields, build, canonical, key_fields, knob


@dataclass(frozen=True)
class Part:
    rate: float = knob(0.1, "learning rate", low=0.0, high=1.0)
    epochs: int = knob(5, "passes", low=1)
    flip: bool = knob(True, "mirror")
    kernel: str = knob("binary", "which", choices=("binary", "soft"))
    scales: tuple[float, ...] = knob((0.5, 1.0), "scales", low=0.1)
    pair: tuple[int, int] = knob((1, 2), "two numbers")
    top: int | None = knob(None, "at most")
    mode: Literal["a", "b"] = knob("a", "one of two")
    weights: str = knob("", "file", key="file")
    device: str = knob("cpu", "where it runs", key="none")
    cut: float = knob(0.5, "a threshold of the live function", key="open")
    composites: str = knob("", "folder", key="folder")


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ({"rate": "0.5"}, 0.5),
        ({"rate": 1}, 1.0),
        ({"rate": "1e-3"}, 0.001),
        ({"epochs": "7"}, 7),
        ({"epochs": 7.0}, 7),
        ({"flip": "no"}, False),
        ({"flip": "TRUE"}, True),
        ({"kernel": " soft "}, "soft"),
        ({"scales": "1,1.5, 2"}, (1.0, 1.5, 2.0)),
        ({"scales": [1, 2]}, (1.0, 2.0)),
        ({"scales": ""}, ()),
        ({"pair": "3,4"}, (3, 4)),
        ({"top": "none"}, None),
        ({"top": "3"}, 3),
        ({"mode": "b"}, "b"),
    ],
)
def test_words_become_values_of_the_fields_type(words: dict[str, object], value: object) -> None:
    (name,) = words
    got = getattr(build(Part, words, "part"), name)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"raet": 1}, "expected a field of part\n     got 'raet'\n  remedy did you mean 'rate'?"),
        ({"rate": "fast"}, "part.rate to be a finite number\n     got 'fast'"),
        ({"rate": "nan"}, "part.rate to be a finite number"),
        ({"rate": float("inf")}, "part.rate to be a finite number"),
        ({"rate": True}, "part.rate to be a finite number\n     got True"),
        ({"rate": 1.5}, "part.rate of at most 1.0\n     got 1.5"),
        ({"rate": -0.1}, "part.rate of at least 0.0"),
        ({"epochs": 2.5}, "part.epochs to be a whole number\n     got 2.5"),
        ({"epochs": True}, "part.epochs to be a whole number"),
        ({"epochs": "0"}, "part.epochs of at least 1"),
        ({"flip": "maybe"}, "part.flip to be true or false"),
        (
            {"kernel": "sfot"},
            "part.kernel to be one of 'binary', 'soft'\n     got 'sfot'\n  remedy did you mean 'soft'?",
        ),
        ({"kernel": ["soft"]}, "part.kernel to be a text\n     got ['soft']"),
        ({"scales": 3}, "part.scales to be a list\n     got 3\n  remedy separate the values by commas"),
        ({"scales": "1,x"}, "part.scales to be a finite number\n     got 'x'"),
        ({"scales": "1,0.01"}, "part.scales of at least 0.1"),
        ({"pair": "3"}, "part.pair to be 2 values\n     got 1 of them"),
        ({"mode": "c"}, "part.mode to be one of 'a', 'b'"),
    ],
)
def test_what_a_field_refuses(words: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as err:
        build(Part, words, "part")
    assert said in str(err.value)


def test_a_choice_may_be_several_values_of_a_list() -> None:
    @dataclass(frozen=True)
    class Several:
        names: tuple[str, ...] = knob(("a",), "names", choices=("a", "b"))

    assert build(Several, {"names": "b,a"}, "several").names == ("b", "a")
    with pytest.raises(UsageError, match="'c'"):
        build(Several, {"names": "a,c"}, "several")


def test_the_key_holds_values_and_file_contents_but_neither_place_nor_device(tmp_path: Path) -> None:
    here, there, other = (tmp_path / n for n in ("a.pth", "b.pth", "c.pth"))
    here.write_bytes(b"weights")
    there.write_bytes(b"weights")
    other.write_bytes(b"others")
    base = Part(weights=str(here), device="cpu")
    same = Part(weights=str(there), device="cuda")
    assert key_fields(base) == key_fields(same)
    assert key_fields(base) != key_fields(Part(weights=str(other)))
    assert "device" not in key_fields(base)
    assert key_fields(base)["weights"].startswith("sha256:")
    assert key_fields(base) != key_fields(dataclasses.replace(base, rate=0.2))


def test_what_only_the_live_function_looks_at_is_not_in_the_key_of_a_training() -> None:
    base, other = Part(), Part(cut=0.7)
    assert key_fields(base) != key_fields(other)
    assert key_fields(base)["cut"] == 0.5
    assert key_fields(base, training=True) == key_fields(other, training=True)
    assert {**key_fields(base, training=True), "cut": 0.5} == key_fields(base)
    assert key_fields(base, training=True) != key_fields(Part(rate=0.2), training=True)


def write_folder(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_a_folder_enters_the_key_by_its_content(tmp_path: Path) -> None:
    def key(folder: Path) -> object:
        return key_fields(Part(composites=str(folder)))["composites"]

    base = key(write_folder(tmp_path / "a", fg__1="x", bg__1="y"))
    assert str(base).startswith("sha256:")
    assert key(write_folder(tmp_path / "moved", fg__1="x", bg__1="y")) == base
    others = [
        key(write_folder(tmp_path / "b", fg__1="x", bg__1="z")),  # another content
        key(write_folder(tmp_path / "c", fg__1="x", bg__2="y")),  # another name
        key(write_folder(tmp_path / "d", fg__1="y", bg__1="x")),  # exchanged
        key(write_folder(tmp_path / "e", fg__1="x", bg__1="y", bg__2="")),  # a file more
    ]
    assert len({base, *others}) == 5
    assert key(tmp_path / "a") == key_fields(Part(composites=str(tmp_path / "a")), training=True)["composites"]


@pytest.mark.parametrize("word", ["", "none", "https://example.org/composites"])
def test_no_folder_enters_the_key_as_it_is(word: str) -> None:
    assert key_fields(Part(composites=word))["composites"] == word


def test_a_folder_that_is_absent_or_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, got in ((tmp_path / "no", "no such folder"), (tmp_path / "file", "a file")):
        with pytest.raises(UsageError) as err:
            key_fields(Part(composites=str(path)))
        assert str(err.value) == (
            f"expected composites to name a readable folder\n     got {path} ({got})\n"
            "  remedy give the path of an existing folder for composites"
        )


@pytest.mark.parametrize("word", ["", "none", "https://example.org/w.pth", "torchvision://resnet50"])
def test_addresses_and_none_enter_a_key_as_they_are(word: str) -> None:
    assert key_fields(Part(weights=word))["weights"] == word


def test_a_weights_file_that_is_absent_is_named() -> None:
    with pytest.raises(UsageError) as err:
        key_fields(Part(weights="no/such.pth"))
    assert "weights to name a readable file" in str(err.value)
    assert "no/such.pth (No such file or directory)" in str(err.value)


def test_all_fields_make_the_same_part_again_through_json() -> None:
    part = Part(scales=(1.0, 2.0), top=3, device="cuda", mode="b")
    assert build(Part, json.loads(json.dumps(all_fields(part))), "part") == part
    assert build(Part, json.loads(json.dumps(all_fields(Part()))), "part") == Part()


@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.booleans(), st.none())))
def test_canonical_text_knows_no_order(value: dict[str, object]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)
    assert json.loads(canonical(value)) == value


def test_canonical_refuses_what_json_has_no_word_for() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))
