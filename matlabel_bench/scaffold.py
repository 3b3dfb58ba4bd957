"""`bench new KIND NAME`: a package of one's own with one working part, ready to install, change and test.

The part that is written is simple but real: it passes `bench check` as it stands, and every line that a newcomer has
to know about carries a comment.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from importlib.resources import files
from pathlib import Path

from matlabel_bench import registry
from matlabel_bench.errors import UsageError, near
from matlabel_bench.files import write_text
from matlabel_bench.spec import KINDS

NAME = re.compile(r"[a-z][a-z0-9_]*")


def write(kind: str, name: str, where: Path) -> Path:
    """Write the package `matlabel-NAME` into the folder `where` and return its folder.

    Raises:
        UsageError: an unknown kind, an unusable or taken name, or something already lies where it would go.
        OSError: the folder cannot be written.
    """
    _usable(kind, name)
    distribution, module = f"matlabel-{name.replace('_', '-')}", f"matlabel_{name}"
    folder = where / distribution
    if folder.exists():
        raise UsageError(
            "a folder that does not exist yet",
            f"{folder}, which holds something already",
            "choose another name or another --out; nothing is overwritten",
        )
    words = {
        "kind": kind,
        "name": name,
        "module": module,
        "distribution": distribution,
        "cls": "".join(part.capitalize() for part in name.split("_")),
        "title": name.replace("_", " ").capitalize(),
    }
    folder.mkdir(parents=True)
    for template, target in (
        ("pyproject.toml", "pyproject.toml"),
        ("README.md", "README.md"),
        (f"{kind}.py", f"{module}.py"),
        ("test.py", f"tests/test_{name}.py"),
    ):
        (folder / target).parent.mkdir(exist_ok=True)
        write_text(folder / target, _render(template, words))
    if kind == "dataset":
        _examples(folder / "images")
    return folder


def _usable(kind: str, name: str) -> None:
    if kind not in KINDS:
        raise UsageError("a kind of part", f"{kind!r}", near(kind, KINDS))
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UsageError("a name of small letters, digits and underscores", f"{name!r}", "for example my_matting")
    if taken := [e for e in registry.start()[0] if (e.kind, e.name) == (kind, name)]:
        raise UsageError(
            f"a new name for a {kind}", f"{name!r}, registered by {taken[0].origin}", "choose another name"
        )
    if importlib.util.find_spec(f"matlabel_{name}") is not None:
        raise UsageError("a name whose module is free", f"{name!r}: matlabel_{name} exists", "choose another name")


def _render(template: str, words: dict[str, str]) -> str:
    from jinja2 import Environment, StrictUndefined

    source = (files("matlabel_bench") / "templates" / f"{template}.jinja").read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    return environment.from_string(source).render(words)


def _examples(folder: Path) -> None:
    """A few images of two classes, so that a data set has something to read."""
    from PIL import Image

    from matlabel_bench.kit import scenes

    for split, count in (("train", 4), ("val", 2)):
        for tag, name in enumerate(scenes.CLASSES, start=1):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                Image.fromarray(scenes.image(64, 80, (tag,), seed=index)).save(folder / split / name / f"{index}.png")
