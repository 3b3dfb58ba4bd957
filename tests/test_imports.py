"""Imports go one way, and the core names no method."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parent.parent / "matlabel_bench"
LAYERS = (
    {
        "errors",
        "files",
        "types",
        "fields",
        "progress",
        "spec",
        "registry",
        "contracts",
        "cells",
        "images",
        "planes",
        "console",
    },
    {"trimap", "label", "tally", "stats", "score", "uncertainty"},
    {
        "store",
        "fingerprint",
        "splits",
        "workers",
        "record",
        "tables",
        "tablecheck",
        "profiles",
        "config",
        "recipe",
        "metrics",
        "pretrained",
        "train",
    },
    {"jobs", "handover", "timing", "chain", "plan", "forecast", "stages", "gather", "fit", "trainings", "runner"},
    {"measure", "results", "curves", "exporting", "galleries", "report", "gate", "labelling"},
    {"cli", "doctor", "kit", "perf", "scaffold"},
)
# Names that only annotate: the trainings serve a runner, and the runner writes results when it ends.
ALLOWED = {("trainings", "runner"), ("runner", "results"), ("types", "images")}


def modules() -> list[Path]:
    return sorted(p for p in CORE.rglob("*.py") if p.name not in ("__init__.py", "__main__.py"))


def rank(name: str) -> int | None:
    return next((i for i, layer in enumerate(LAYERS) if name in layer), None)


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(CORE).as_posix())
def test_imports_go_one_way(path: Path) -> None:
    here = path.relative_to(CORE).parts[0].removesuffix(".py")
    assert rank(here) is not None, f"say in LAYERS where {here} belongs"
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("matlabel_bench"):
            rest = node.module.split(".")[1:]
            names = rest[:1] or [a.name for a in node.names]
        for name in names:
            if (here, name) in ALLOWED or rank(name) is None:
                continue
            assert rank(name) <= rank(here), f"{here} must not import {name}"


METHODS = re.compile(
    r"\b(recam|d2cam|knn|lbdm|closed_form|random_walk|matteformer|irn|deeplab_v2|voc12|coco14|imported|shapes|resnet\d+|mobilenet_v2|swin_t)\b"
)


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(CORE).as_posix())
def test_the_core_names_no_method(path: Path) -> None:
    tree = ast.parse(path.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            found = METHODS.fullmatch(node.value)
            assert not found, f"{path.name}: {node.value!r}; the core must not depend on a method's name"
