"""The options of `bench run`, `plan` and `label`, and how they become `config.Options`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matlabel_bench.errors import UsageError
from matlabel_bench.workers import cores

if TYPE_CHECKING:
    from matlabel_bench.config import Options

STORE = "MATLABEL_BENCH_STORE"


def add_run_options(parser: argparse.ArgumentParser, *, own_images: bool) -> None:
    """Everything that says what to compute, where, and with how much of the machine.

    Args:
        own_images: the command names its images itself, and makes their masks once: no data set, no split, one seed.
    """
    what = parser.add_argument_group("what to compute")
    what.add_argument(
        "--profile", default="tiny", help="size of a run: tiny, light, paper or a TOML file; default tiny"
    )
    what.add_argument("--weights", metavar="FILE", help="pretrained weights of the backbone")
    what.add_argument(
        "--set", action="append", default=[], dest="sets", metavar="PART.FIELD=VALUE",
        help="a field of a part, e.g. trimap.fg=0.6; repeatable (`bench show PART`)",
    )  # fmt: skip
    if own_images:
        what.add_argument("--seed", nargs=1, type=int, dest="seeds", metavar="N", help="of the trainings")
        parser.set_defaults(dataset=None, data_root=None, split=None)
    else:
        _add_data(what)
    where = parser.add_argument_group("where")
    where.add_argument(
        "--store", metavar="DIR", help=f"finished stages, shared by runs; default ${STORE} or bench-store"
    )
    where.add_argument("--out", type=Path, default=Path("bench-out"), metavar="DIR", help="results; default bench-out")
    how = parser.add_argument_group("how")
    how.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where networks run; default cpu")
    how.add_argument(
        "--workers", type=int, default=cores(), metavar="N", help="processes over images; default all cores"
    )
    how.add_argument("--processes", type=int, default=1, metavar="N", help="processes of one training (DDP); default 1")
    how.add_argument(
        "--per-gpu", type=int, default=1, metavar="N",
        help="trainings, or processes over images, that share a GPU; default 1, more where networks are small",
    )  # fmt: skip
    how.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler, to spread images over a cluster")
    loud = how.add_mutually_exclusive_group()
    loud.add_argument("--quiet", action="store_true", help="no progress")
    loud.add_argument("--verbose", action="store_true", help="also the log lines of the libraries below")


def _add_data(what: argparse._ArgumentGroup) -> None:
    what.add_argument("--dataset", metavar="NAME", help="another data set than the profile's (`bench list dataset`)")
    what.add_argument("--data-root", metavar="DIR", help="folder of the data set")
    what.add_argument(
        "--split", metavar="NAME", help="another split than the profile's: val, train:2/2 (the second half of train)"
    )
    what.add_argument(
        "--seed", nargs="+", action="extend", type=int, dest="seeds", metavar="N", help="one or more seeds"
    )


def to_options(args: argparse.Namespace) -> Options:
    """The parsed options as the frozen record the core works with. Raises UsageError for impossible numbers."""
    from matlabel_bench.config import Options

    for name in ("workers", "processes", "per_gpu"):
        if getattr(args, name) < 1:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} of at least 1", str(getattr(args, name)), f"choose {option} >= 1")
    if args.seeds and len(set(args.seeds)) < len(args.seeds):
        raise UsageError("each seed once", " ".join(map(str, args.seeds)), "name every seed only once")
    what = ("profile", "dataset", "data_root", "weights", "split", "out")
    how = ("device", "workers", "processes", "per_gpu", "scheduler")
    same: dict[str, Any] = {name: getattr(args, name) for name in (*what, *how)}
    return Options(
        store=store_folder(args.store), sets=tuple(args.sets), seeds=tuple(args.seeds) if args.seeds else None, **same
    )


def store_folder(given: str | None) -> Path:
    """--store, else $MATLABEL_BENCH_STORE, else ./bench-store."""
    return Path(given or os.environ.get(STORE) or "bench-store")
