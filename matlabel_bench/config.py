"""Profiles and overrides: TOML and the command line -> one experiment.

A table file (`tables.py`) says what is compared; a profile says at which size it is computed. Precedence, weakest
first: a part's defaults, the profile, `--weights`, `--set`, the row's own `set` (what makes a row that row is never
overridden).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matlabel_bench import fields, registry
from matlabel_bench.errors import MissingPart, UsageError, near
from matlabel_bench.label import LabelRule
from matlabel_bench.tables import Row, Table, home, load_table, only, read_toml
from matlabel_bench.trimap import TrimapRule

CORE_STAGES = {"trimap": TrimapRule, "label": LabelRule}


@dataclass(frozen=True, slots=True)
class Options:
    """The command line's options, as `bench run` and `bench plan` take them."""

    profile: str = "tiny"
    dataset: str | None = None
    data_root: str | None = None
    weights: str | None = None
    store: Path = Path("bench-store")
    out: Path = Path("bench-out")
    sets: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    device: str = "cpu"
    workers: int = 1
    processes: int = 1
    """Processes of one training (DDP), started by torch's launcher."""
    scheduler: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """At which size to run: data set, splits, seeds, and the fields of parts."""

    name: str
    dataset: str
    fit_split: str
    split: str
    seeds: tuple[int, ...]
    parts: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Experiment:
    """All that a plan needs: tables, a profile with the command line applied, the data set."""

    tables: tuple[Table, ...]
    profile: Profile
    dataset: Any
    options: Options

    def fields_of(self, name: str, row: Row) -> dict[str, Any]:
        """Field values for the part (or core stage) `name` in `row`, strongest last."""
        values = dict(self.profile.parts.get(name, {}))
        values.update(_fields(parse_sets(self.options.sets), name))
        values.update(_fields(dict(row.set), name))
        return values

    def part(self, kind: str, name: str, row: Row) -> Any:
        """The part as this row uses it. Raises MissingPart where it is not installed."""
        parts, _ = registry.start()
        cls = parts.get(kind, name).cls
        known = {f.name for f in dataclasses.fields(cls)}
        values = self.fields_of(name, row)
        if "device" in known:
            values.setdefault("device", self.options.device)
        closer = _fields(parse_sets(self.options.sets), name) | _fields(dict(row.set), name)
        if "weights" in known and "weights" not in closer and kind == "cam" and self.options.weights:
            values["weights"] = self.options.weights
        return parts.make(kind, name, **values)

    def rule(self, name: str, row: Row) -> Any:
        """The core stage's rule (`trimap` or `label`) in this row."""
        return fields.build(CORE_STAGES[name], self.fields_of(name, row), name)


def profiles() -> dict[str, Path]:
    """Names of the profiles that come with the project."""
    return {p.stem: p for p in sorted((home() / "profiles").glob("*.toml"))}


def load_profile(name: str) -> Profile:
    """A profile by name or by the path of a TOML file. Raises UsageError with near misses."""
    raw = read_toml(name, profiles(), "profile")
    run = raw.pop("run", {})
    who = f"[run] of profile {raw.get('name', name)!r}"
    if not isinstance(run, dict):
        raise UsageError(f"{who} to be a section", f"run = {run!r}", "write [run] and its fields below it")
    only(run, {"dataset", "fit_split", "split", "seeds"}, who)
    if missing := {"dataset", "fit_split", "split"} - set(run):
        raise UsageError(
            f"{who} to say {', '.join(sorted(missing))}", ", ".join(run) or "nothing", "see configs/profiles/tiny.toml"
        )
    title = raw.pop("name", Path(name).stem)
    for key, value in {"name": title, **{k: v for k, v in run.items() if k != "seeds"}}.items():
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"{key} of profile {title!r} to be a text", repr(value), f'write {key} = "..."')
    for part, values in raw.items():
        if not isinstance(values, dict):
            raise UsageError(
                "a profile to hold sections named by part",
                f"{part} = {values!r}",
                f"write [{part}] and its fields below it",
            )
    seeds = check_seeds(run.get("seeds", [0]), f"seeds in {who}")
    return Profile(title, run["dataset"], run["fit_split"], run["split"], seeds, raw)


def check_seeds(seeds: Any, who: str) -> tuple[int, ...]:
    """The seeds, if they are different whole numbers that every random generator takes. Raises UsageError."""
    fits = isinstance(seeds, list | tuple) and all(type(s) is int and 0 <= s < 2**32 for s in seeds)
    if not fits or not seeds or len(set(seeds)) < len(seeds):
        got = ", ".join(map(str, seeds)) or "none" if isinstance(seeds, list | tuple) else repr(seeds)
        raise UsageError(f"{who} as different whole numbers from 0", got, "for example 0, 1, 2")
    return tuple(seeds)


def resolve(names: Sequence[str], options: Options) -> Experiment:
    """Read and check everything a run needs before anything is computed.

    Raises:
        UsageError: unknown table, profile, data set, part or field; the message names near misses.
    """
    chosen = tuple(load_table(n) for n in names)
    twice = {t.name for t in chosen if [u.name for u in chosen].count(t.name) > 1}
    if twice:
        raise UsageError("each table once", ", ".join(sorted(twice)), "name every table only once")
    profile = load_profile(options.profile)
    if options.seeds is not None:
        profile = dataclasses.replace(profile, seeds=check_seeds(options.seeds, "--seed"))
    dataset_name = options.dataset or profile.dataset
    parts, _ = registry.start()
    sets = parse_sets(options.sets)
    values = dict(profile.parts.get(dataset_name, {})) | _fields(sets, dataset_name)
    if options.data_root is not None:
        values["root"] = str(Path(options.data_root).absolute())  # workers may stand in another folder
    try:
        dataset = parts.make("dataset", dataset_name, **values)
    except MissingPart as err:
        raise UsageError(err.expected, err.got, err.remedy) from None
    experiment = Experiment(chosen, profile, dataset, options)
    _check_sets(experiment, sets, dataset_name)
    _check_sections(experiment, dataset_name)
    return experiment


def parse_sets(sets: Sequence[str]) -> dict[str, str]:
    """`part.field=value` words as a mapping. Raises UsageError for another form."""
    out = {}
    for word in sets:
        target, sign, value = word.partition("=")
        if not sign or "." not in target.strip("."):
            raise UsageError(
                "--set part.field=value",
                repr(word),
                "for example --set trimap.fg=0.6; `bench show PART` lists the fields",
            )
        out[target.strip()] = value.strip()
    return out


def _fields(sets: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {k.rpartition(".")[2]: v for k, v in sets.items() if k.rpartition(".")[0] == name}


def _check_sets(experiment: Experiment, sets: Mapping[str, str], dataset: str) -> None:
    """Every override must reach something, and every field must exist, before hours are spent."""
    used = {dataset} | set(CORE_STAGES)
    for table in experiment.tables:
        for row in table.rows:
            mine = set(CORE_STAGES)
            for kind, name in _wanted(table, row):
                mine.add(name)
                try:
                    experiment.part(kind, name, row)
                except MissingPart:
                    _check_kind(kind, name, f"row {row.name!r} of {table.name}")  # else a dash, with this reason
            for name in CORE_STAGES:
                experiment.rule(name, row)
            for target in row.set:
                if (part := target.rpartition(".")[0]) not in mine:
                    raise UsageError(f"set of row {row.name!r} to name a part of it", f"{part!r}", near(part, mine))
            used |= mine
    for target in sets:
        if (part := target.rpartition(".")[0]) not in used:
            raise UsageError(
                f"--set to name a part of {', '.join(t.name for t in experiment.tables)}", f"{part!r}", near(part, used)
            )


def _wanted(table: Table, row: Row) -> list[tuple[str, str]]:
    """Kind and name of every part that the row's cells name."""
    refiners = [*(r for c in table.columns for r in c.refine), *row.needs] if row.cam else []
    named = [("cam", row.cam), ("matting", row.matting), *(("refiner", r) for r in refiners)]
    return [(kind, name) for kind, name in named if name is not None]


def _check_kind(kind: str, name: str, who: str) -> None:
    """Raises UsageError where a part of that name is installed, but of another kind: a slip, not a missing package."""
    entries = list(registry.start()[0])
    if others := [e.kind for e in entries if e.name == name]:
        names = [e.name for e in entries if e.kind == kind]
        raise UsageError(f"a {kind} in {who}", f"{name!r}, which is a {others[0]}", near(name, names))


def _check_sections(experiment: Experiment, dataset: str) -> None:
    """Every section of the profile must belong to something: a misspelt one would be ignored without a word."""
    known = {dataset, *CORE_STAGES, *(e.name for e in registry.start()[0])}
    named = {name for table in experiment.tables for row in table.rows for _, name in _wanted(table, row)}
    for section in experiment.profile.parts:
        if section not in known | named and not os.environ.get(registry.BLOCK):
            raise UsageError(
                f"sections of profile {experiment.profile.name!r} named by part", f"[{section}]", near(section, known)
            )
