"""The grammar of `bench`: sub-commands and their options, with near misses for what is misspelt."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from matlabel_bench import __version__
from matlabel_bench.cli import commands, listing
from matlabel_bench.cli.options import add_run_options
from matlabel_bench.errors import UsageError, near
from matlabel_bench.workers import cores

KINDS = ("dataset", "cam", "matting", "refiner", "segmenter")  # as in spec.py, which would import NumPy
PERF = ("mattings", "seed", "refiners", "labels", "growth")  # as in perf/plan.py
HELP = argparse.RawDescriptionHelpFormatter
EPILOG = """\
first steps:
  bench run table1                              Table 1 on the embedded synthetic images, in minutes, on a CPU
  bench plan table1 --profile light --dataset voc12 --data-root DIR
                                                what that would cost, before it runs
  bench label PHOTOS --tags tags.csv --out DIR  masks for your own tagged images
  bench doctor                                  what is wrong with this installation, and the remedy
"""


class Parser(argparse.ArgumentParser):
    """argparse with errors in three parts instead of an exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"a command line that `{self.prog}` understands", message, f"see `{self.prog} --help`")


def build() -> Parser:
    """The whole grammar. Each sub-command sets `command`, the function that runs it."""
    top = Parser(
        prog="bench",
        description="Pseudo-labels for weakly supervised semantic segmentation, measured under one protocol.",
        epilog=EPILOG,
        formatter_class=HELP,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"matlabel_bench {__version__}")
    _debug(top)
    top.set_defaults(command=lambda args: print(top.format_help(), end="") or 0)
    subs = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    _running(subs)
    _inspecting(subs)
    _results(subs)
    _extending(subs)
    return top


def parse(top: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parse, naming near misses of an unknown command or option. Raises UsageError."""
    known = _commands(top)
    first = next((w for w in words if not w.startswith("-")), None)
    if first is not None and first not in known:
        raise UsageError("a command of bench", f"{first!r}", near(first, known))
    args, rest = top.parse_known_args(words)
    if rest:
        sub = known[first] if first else top
        bad = rest[0].partition("=")[0]
        options = {o for a in sub._actions for o in a.option_strings if o.startswith("--")}
        if bad.startswith("-"):
            raise UsageError(f"an option of `{sub.prog}`", f"{bad!r}", near(bad, options))
        raise UsageError(f"nothing more for `{sub.prog}`", " ".join(rest), f"see `{sub.prog} --help`")
    return args


def _commands(top: Parser) -> dict[str, Parser]:
    action = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def _add(subs: Any, name: str, command: Any, summary: str, example: str) -> Parser:
    """A sub-command: its one-line summary, and an example below its options."""
    sub: Parser = subs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=HELP,
        allow_abbrev=False,
    )
    _debug(sub)
    sub.set_defaults(command=command)
    return sub


def _debug(parser: Parser) -> None:
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks of errors")


def _json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _running(subs: Any) -> None:
    for name, command, summary, example in (
        ("run", commands.run, "compute tables and write them", "bench run table1 --seed 0 1 2 --set trimap.fg=0.6"),
        ("plan", commands.plan, "the jobs, time and disk of a run, before anything runs", "bench plan table1"),
        ("curves", commands.curves, "how the trainings behind a table went, step by step", "bench curves table4"),
    ):
        sub = _add(subs, name, command, summary, example)
        sub.add_argument(
            "tables", nargs="*", default=["table1"], metavar="TABLE",
            help="names (`bench list tables`), `all` of them, or paths of TOML files; default table1",
        )  # fmt: skip
        add_run_options(sub, own_images=False)
    sub = _add(
        subs, "label", commands.label, "masks for your own tagged images",
        "bench label photos/ --tags tags.csv --out masks/",
    )  # fmt: skip
    sub.add_argument("images", type=Path, metavar="IMAGES", help="folder of images")
    sub.add_argument("--tags", type=Path, required=True, metavar="FILE", help="table of tags: lines `image,tag tag`")
    sub.add_argument("--recipe", default="mat-label", metavar="NAME", help="which parts make the masks; or a TOML path")
    add_run_options(sub, own_images=True)


def _inspecting(subs: Any) -> None:
    _perf(subs)
    sub = _add(
        subs, "list", listing.list_parts, "what is installed: parts, tables, profiles, recipes", "bench list matting"
    )
    sub.add_argument(
        "kind", nargs="?", metavar="KIND", help=f"{', '.join(KINDS)}, tables, profiles or recipes; default all"
    )
    _json(sub)
    sub = _add(subs, "show", listing.show, "a part: its fields, paper, origin", "bench show closed_form")
    sub.add_argument("part", metavar="PART", help="name, or kind/name")
    _json(sub)
    sub = _add(subs, "doctor", listing.doctor, "check this installation; each finding with its remedy", "bench doctor")
    sub.add_argument("--store", metavar="DIR", help="the store whose disk is checked; default as in `bench run`")
    _json(sub)


def _perf(subs: Any) -> None:
    sub = _add(
        subs, "perf", commands.perf, "speed, memory and exactness of parts beside their reference implementations",
        "bench perf --only mattings --images photos/",
    )  # fmt: skip
    sub.add_argument(
        "--only", nargs="+", choices=PERF, default=list(PERF), metavar="SECTION", help=f"of {', '.join(PERF)}"
    )
    sub.add_argument(
        "--part", nargs="+", default=[], dest="parts", metavar="NAME", help="parts; default all that can be"
    )
    sub.add_argument("--repeat", type=int, default=5, metavar="N", help="rounds; default 5")
    sub.add_argument("--images", type=Path, metavar="DIR", help="folder of photographs; default those of --dataset")
    sub.add_argument("--dataset", metavar="NAME", help="data set of the photographs; default the embedded one")
    sub.add_argument("--data-root", metavar="DIR", help="folder of the data set")
    sub.add_argument("--profile", default="paper", help="whose networks section `seed` times; default paper")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        dest="sets",
        metavar="PART.FIELD=VALUE",
        help="a field of a part; repeatable",
    )
    sub.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="for parts that can; default cpu")
    sub.add_argument("--workers", type=int, default=cores(), metavar="N", help="the most processes; default all cores")
    sub.add_argument("--out", type=Path, default=Path("reports"), metavar="DIR", help="results; default reports")
    sub.add_argument("--quick", action="store_true", help="small images and networks: does everything work?")
    sub.add_argument("--quiet", action="store_true", help="no progress")


def _results(subs: Any) -> None:
    sub = _add(
        subs, "report", commands.report, "the HTML page of a results folder", "bench report bench-out"
    )  # fmt: skip
    sub.add_argument("folder", nargs="?", type=Path, default=Path("bench-out"), metavar="DIR", help="default bench-out")
    sub = _add(subs, "compare", commands.compare, "cells of two results side by side", "bench compare A B")
    sub.add_argument("first", type=Path, metavar="A", help="folder with cells.csv, or of several tables")
    sub.add_argument("second", type=Path, metavar="B", help="the same, to compare with")
    sub = _add(
        subs, "gate", commands.gate, "compare results with a baseline: exit 0 same, 1 worse, 2 not measured, 3 usage",
        "bench gate reports/tiny-shapes bench-out",
    )  # fmt: skip
    sub.add_argument("baseline", type=Path, metavar="BASELINE", help="committed results")
    sub.add_argument(
        "results", nargs="?", type=Path, default=Path("bench-out"), metavar="RESULTS", help="default bench-out"
    )
    sub.add_argument(
        "--tolerance", type=float, default=0.05, metavar="POINTS", help="points of mIoU a cell may fall (default 0.05)"
    )
    sub.add_argument(
        "--interval", action="store_true", help="judge by the baseline's 95 %% interval instead: for stages on a GPU"
    )
    sub = _add(subs, "store", commands.store, "verify the store's files, or remove what is unused", "bench store gc")
    sub.add_argument("action", choices=("verify", "gc"), help="read every file again, or remove unused keys")
    sub.add_argument("--store", metavar="DIR", help="default as in `bench run`")
    sub.add_argument("--days", type=float, default=30.0, help="gc: keys unused for so many days (default 30)")
    sub.add_argument("--dry", action="store_true", help="gc: only say what would go")


def _extending(subs: Any) -> None:
    sub = _add(
        subs, "check", commands.check, "does a part keep its promises? For people who write parts", "bench check knn"
    )
    sub.add_argument("part", metavar="PART", help="name, or kind/name")
    sub.add_argument(
        "--set", action="append", default=[], dest="sets", metavar="FIELD=VALUE", help="a field of the part; repeatable"
    )
    _json(sub)
    sub = _add(
        subs,
        "new",
        commands.new,
        "a package of your own with one part, ready to install",
        "bench new matting my_matting",
    )
    sub.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    sub.add_argument("name", metavar="NAME", help="name of the part: lower case, digits, underscore")
    sub.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where the folder is made; default here")
