"""What each command does. The heavy modules are imported here, inside the functions, when a command needs them."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matlabel_bench.cli.options import store_folder, to_options
from matlabel_bench.errors import UsageError

Say = Callable[[str], None]


def run(args: argparse.Namespace) -> int:
    """`bench run`: progress on stderr, the finished tables' folders on stdout."""
    from matlabel_bench import config, runner

    experiment = config.resolve(args.tables, to_options(args))
    _writable(args.out)
    result = runner.run(experiment, say=_voice(args))
    for name, folder in result.folders.items():
        cells = result.cells[name]
        measured, failed = (sum(c.status == status for c in cells) for status in ("measured", "failed"))
        reasons = f", {failed} failed (reasons in cells.csv)" if failed else ""
        print(f"{name}: {measured} of {len(cells)} cells measured{reasons}; {folder / 'table.md'}")
    return int(result.code)


def plan(args: argparse.Namespace) -> int:
    """`bench plan`: every job with its state and cost, and the sum."""
    from matlabel_bench import config, forecast
    from matlabel_bench import plan as plans

    planned = plans.make(config.resolve(args.tables, to_options(args)))
    frame = forecast.frame(planned)
    print(frame.fillna("").to_string(index=False) if len(frame) else "nothing to compute")
    rows = frame.to_dict("records")
    print(f"\n{forecast.summary(planned, rows)}")
    return 0


def curves(args: argparse.Namespace) -> int:
    """`bench curves`: what the trainings behind tables said at their steps."""
    from matlabel_bench import config
    from matlabel_bench import curves as lines
    from matlabel_bench import plan as plans

    experiment = config.resolve(args.tables, to_options(args))
    _writable(args.out)
    planned = plans.make(experiment)
    for table in experiment.tables:
        frame, folder = lines.gather(planned, table.name), args.out / table.name
        folder.mkdir(parents=True, exist_ok=True)
        frame.to_csv(folder / "trainings.csv", index=False)
        lines.draw(frame, folder / "trainings.png")
        print(f"{table.name}: {frame['training'].nunique()} trainings; {folder / 'trainings.png'}")
    return 0


def label(args: argparse.Namespace) -> int:
    """`bench label`: masks for a folder of tagged images."""
    from matlabel_bench import config, labelling, tables

    if not args.images.is_dir():
        got = "a file" if args.images.exists() else "no such folder"
        raise UsageError(f"a folder of images: {args.images}", got, "give the folder of your images")
    if not args.tags.is_file():
        got = "a folder" if args.tags.exists() else "no such file"
        raise UsageError(f"a table of tags: {args.tags}", got, "give the table's path with --tags")
    options = to_options(args)
    tags = f"folder.tags={args.tags.resolve()}"
    options = dataclasses.replace(
        options, dataset="folder", data_root=str(args.images), sets=(tags, *options.sets), out=args.out
    )
    experiment = config.resolve([str(tables.recipe(args.recipe))], options)
    profile = dataclasses.replace(experiment.profile, fit_split="all", label_split="all", split="all")
    experiment = dataclasses.replace(experiment, profile=profile)
    _writable(args.out)
    print(f"masks: {labelling.label(experiment, args.out, _voice(args))}")
    return 0


def perf(args: argparse.Namespace) -> int:
    """`bench perf`: progress on stderr, the report's path on stdout; exit 1 where a number is missing."""
    from matlabel_bench import perf as measuring

    names = {f.name for f in dataclasses.fields(measuring.PerfOptions)}
    given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in vars(args).items() if n in names}
    options = measuring.PerfOptions(**given)
    _writable(args.out)
    result = measuring.run(options, _voice(args))
    missing = f", {result.missing} with something missing (reasons in the report)" if result.missing else ""
    print(f"{result.steps} steps{missing}; {result.report}")
    return int(result.missing > 0)


def report(args: argparse.Namespace) -> int:
    """`bench report`: an index of all tables below a folder."""
    from matlabel_bench.report.write import index

    print(index(args.folder))
    return 0


def compare(args: argparse.Namespace) -> int:
    """`bench compare`: two results side by side, judging nothing."""
    from matlabel_bench import gate as gates

    print(gates.comparison(args.first, args.second))
    return 0


def gate(args: argparse.Namespace) -> int:
    """`bench gate`: 0 same or better, 1 worse, 2 not measured, 3 usage."""
    from matlabel_bench import gate as gates

    result = gates.gate(args.baseline, args.results, args.tolerance, interval=args.interval)
    print(result.text, file=sys.stderr if result.code == gates.USAGE else sys.stdout)
    return result.code


def store(args: argparse.Namespace) -> int:
    """`bench store verify` exits 1 where it finds problems; `bench store gc` frees what no run used lately."""
    from matlabel_bench.store import Store

    root = store_folder(args.store)
    if not root.is_dir():
        raise UsageError("the folder of a store", f"{root} (no such folder)", "give it with --store")
    if args.action == "verify":
        problems = Store(root).verify()
        print("\n".join(problems) if problems else f"{root}: every finished file is as it was written")
        return 1 if problems else 0
    count, size = Store(root).gc(days=args.days, dry=args.dry)
    print(f"{root}: {'would remove' if args.dry else 'removed'} {count} keys, {size / 1e6:.1f} MB")
    return 0


def check(args: argparse.Namespace) -> int:
    """`bench check`: exit 1 where the part breaks a promise."""
    from matlabel_bench import kit, registry

    parts, _ = registry.start()
    fields = dict(_assignment(word) for word in args.sets)
    results = {}
    for entry in parts.find(args.part):
        with contextlib.redirect_stdout(sys.stderr):  # some libraries greet on stdout, where JSON may have to stand
            results[entry] = kit.check(entry, fields)
    if args.json:
        rows = [{"kind": e.kind, "part": e.name, **f.row()} for e, findings in results.items() for f in findings]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        for entry, findings in results.items():
            print(kit.render(entry, findings, sys.stdout.encoding))
    return 0 if all(f.ok for findings in results.values() for f in findings) else 1


def new(args: argparse.Namespace) -> int:
    """`bench new`: a package with one part, and what to do next."""
    from matlabel_bench import scaffold

    folder = scaffold.write(args.kind, args.name, args.out)
    print(f"{folder}\nnext:\n  pip install -e {folder}\n  bench check {args.kind}/{args.name}")
    return 0


def _writable(folder: Path) -> None:
    """Raise UsageError where results could not be written, before hours are spent on them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as err:
        raise UsageError(
            "a results folder that can be written",
            f"{folder} ({err.strerror})",
            "give another folder with --out, or change its permissions",
        ) from err


def _voice(args: argparse.Namespace) -> Say:
    """How progress is told: lines on stderr, nothing with --quiet, the libraries' log beside it with --verbose."""
    if getattr(args, "verbose", False):
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    if args.quiet:
        return lambda text: None
    return lambda text: print(text, file=sys.stderr, flush=True)


def _assignment(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    if not sign or not name.strip():
        raise UsageError(
            "--set FIELD=VALUE", repr(word), "for example --set kappa=20; `bench show PART` lists the fields"
        )
    return name.strip().rpartition(".")[2], value.strip()
