"""What every part promises, of whatever kind: it is a value, it describes itself, and it costs nothing to construct."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
from typing import Any

from matlabel_bench import fields
from matlabel_bench.kit.trial import Broken, Trial, hold
from matlabel_bench.registry import Entry

HEAVY = (
    "torch", "torchvision", "mmengine", "mmcv", "mmseg", "cv2", "pymatting", "numba", "pydensecrf", "pandas",
    "matplotlib", "sklearn", "skimage", "tensorflow", "jax", "onnxruntime",
)  # fmt: skip
"""Imports that belong into `fit` and `open`: each takes from half a second to a minute."""

_PROBE = """
import importlib, json, sys
sys.path[:0], module, name, values, heavy = json.loads(sys.argv[1])
from matlabel_bench.fields import build
cls = importlib.import_module(module)
for part in name.split("."):
    cls = getattr(cls, part)
build(cls, values, name)
print(json.dumps([m for m in heavy if m in sys.modules]))
"""


def common(trial: Trial, entry: Entry, part: Any) -> None:
    """Try the promises that all kinds share."""
    with trial("is frozen"):
        _frozen(part)
    with trial("hashes and compares by its fields"):
        twin = dataclasses.replace(part)
        hold(part == twin and hash(part) == hash(twin), "two parts with the same fields differ")
    with trial("travels to other processes (pickle)"):
        back = pickle.loads(pickle.dumps(part))  # noqa: S301 - our own bytes; workers receive parts in this way
        hold(back == part, "comes back different; define the class at the top level of its module")
    with trial("prints its fields"):
        lacking = [f.name for f in dataclasses.fields(part) if f.repr and f"{f.name}=" not in repr(part)]
        hold(not lacking, f"repr does not show {', '.join(lacking)}; leave repr to the dataclass")
    with trial("declares every field with help"):
        bare = [f.name for f in dataclasses.fields(part) if not str(f.metadata.get("help", "")).strip()]
        hold(not bare, f"no help for {', '.join(bare)}; declare fields with matlabel_bench.fields.knob")
    with trial("takes every field from the command line"):
        _from_words(part)
    with trial("has a cache key"):
        fields.canonical(fields.key_fields(part))
    with trial("describes itself"):
        _described(entry, part)
    with trial("is constructed without heavy imports"):
        _light(entry, part)


def _frozen(part: Any) -> None:
    for field in dataclasses.fields(part):
        try:
            setattr(part, field.name, getattr(part, field.name))
        except dataclasses.FrozenInstanceError:
            continue
        raise Broken(f"{field.name} can be set; decorate the class with @dataclass(frozen=True)")


def _from_words(part: Any) -> None:
    """Every field's value, written as the word a person would type, must come back as the same value."""
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        word = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        again = getattr(fields.build(type(part), {field.name: word}, type(part).__name__), field.name)
        hold(
            again == value, f"{field.name}={word} comes back as {again!r}; use int, float, str, bool or a tuple of one"
        )


def _described(entry: Entry, part: Any) -> None:
    cls = entry.cls
    said = (cls.__doc__ or "").strip()
    hold(
        bool(said) and not said.startswith(f"{cls.__name__}("), "no docstring; its first line is shown by `bench list`"
    )
    version = getattr(cls, "version", 1)
    hold(isinstance(version, int) and version >= 1, f"version {version!r} is no whole number from 1")
    supervision = getattr(cls, "supervision", ())
    hold(
        isinstance(supervision, tuple) and all(isinstance(s, str) for s in supervision),
        f"supervision {supervision!r} is no tuple of words",
    )
    for name in ("cost", "fit_cost"):
        cost = getattr(part, name, 0.1)  # of the part, not of its class: it may depend on fields
        hold(isinstance(cost, int | float) and cost >= 0, f"{name} {cost!r} is no number of seconds")
    leaves = getattr(part, "leaves", (0, 0))
    hold(
        isinstance(leaves, tuple) and len(leaves) == 2 and all(isinstance(n, int | float) and n >= 0 for n in leaves),
        f"leaves {leaves!r} is no pair of bytes",
    )


def _light(entry: Entry, part: Any) -> None:
    values = {f.name: fields.plain(getattr(part, f.name)) for f in dataclasses.fields(part)}
    task = json.dumps([sys.path, entry.cls.__module__, entry.cls.__qualname__, values, HEAVY])
    done = subprocess.run([sys.executable, "-c", _PROBE, task], capture_output=True, text=True)
    if done.returncode:
        raise Broken(f"cannot be constructed in a fresh process: {done.stderr.strip().splitlines()[-1]}")
    heavy = json.loads(done.stdout.strip().splitlines()[-1])
    hold(not heavy, f"imports {', '.join(heavy)}; move these imports into fit and open")
