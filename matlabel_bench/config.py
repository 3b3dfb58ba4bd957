"""Tables, a profile and overrides -> one experiment.

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
from matlabel_bench.profiles import Profile, check_seeds, load_profile
from matlabel_bench.tables import Column, Row, Table, chosen, load_table
from matlabel_bench.trimap import TrimapRule
from matlabel_bench.uncertainty import UncertaintyRule

FROM_DATASET = "dataset:"
CORE_STAGES = {"trimap": TrimapRule, "uncertainty": UncertaintyRule, "label": LabelRule}


@dataclass(frozen=True, slots=True)
class Options:
    """The command line's options, as `bench run` and `bench plan` take them."""

    profile: str = "tiny"
    dataset: str | None = None
    data_root: str | None = None
    weights: str | None = None
    split: str | None = None
    """Scored instead of the profile's, where neither table nor column insists on one."""
    store: Path = Path("bench-store")
    out: Path = Path("bench-out")
    sets: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    device: str = "cpu"
    workers: int = 1
    processes: int = 1
    """Processes of one training (DDP), started by torch's launcher."""
    per_gpu: int = 1
    """Trainings, or processes over images, that share the GPU."""
    scheduler: str | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """All that a plan needs: tables, a profile with the command line applied, the data set."""

    tables: tuple[Table, ...]
    profile: Profile
    dataset: Any
    options: Options

    def fields_of(self, name: str, row: Row, column: Column) -> dict[str, Any]:
        """Field values for the part (or core stage) `name` in a cell, strongest last."""
        return dict(self.profile.parts.get(name, {})) | self._closer(name, row, column)

    def part(self, kind: str, name: str, row: Row, column: Column) -> Any:
        """The part as this cell uses it. Raises MissingPart where it is not installed."""
        parts, _ = registry.start()
        cls = parts.get(kind, name).cls
        known = {f.name: f for f in dataclasses.fields(cls)}
        values = self.fields_of(name, row, column)
        if "device" in known:
            values.setdefault("device", self.options.device)
        for field in (n for n, f in known.items() if f.metadata.get("key") == "folder"):
            values[field] = self._brought(str(values.get(field, known[field].default)), field, name)
        part = parts.make(kind, name, **values)
        if "weights" not in known or "weights" in self._closer(name, row, column) or not self.options.weights:
            return part
        if kind == "cam" or (kind != "matting" and getattr(part, "backbone", None) in self._backbones()):
            return parts.make(kind, name, **values | {"weights": self.options.weights})
        return part

    def rule(self, name: str, row: Row, column: Column) -> Any:
        """The core stage's rule (`trimap`, `uncertainty` or `label`) in this cell."""
        return fields.build(CORE_STAGES[name], self.fields_of(name, row, column), name)

    def split_of(self, table: Table, column: Column) -> str:
        """Name of the split on which a cell is scored."""
        return column.split or table.split or self.profile.split

    def _closer(self, name: str, row: Row, column: Column) -> dict[str, Any]:
        """What the command line, the row and the column say, against the profile."""
        sets = (parse_sets(self.options.sets), row.set, column.set)
        return {k: v for given in sets for k, v in _fields(given, name).items()}

    def _brought(self, value: str, field: str, part: str) -> str:
        """The folder a field names: an empty one is the data set's of that name, `dataset:NAME` another data set's."""
        name = value.partition(FROM_DATASET)[2] if value.startswith(FROM_DATASET) else ""
        if value and not name:
            return value
        try:
            made = registry.start()[0].make("dataset", name, **self.profile.parts.get(name, {})) if name else None
        except MissingPart as err:
            raise UsageError(f"a data set in {field} of {part}", err.got, err.remedy) from None
        bringer = self.dataset if made is None else made
        brought = bringer.folders() if hasattr(bringer, "folders") else {}
        if name and field not in brought:
            raise UsageError(f"a data set that brings {field}", repr(name), near(field, brought))
        return str(brought[field]) if field in brought else value

    def _backbones(self) -> set[str]:
        """Backbones of the CAM generators: --weights fills them, and the same ones of other parts."""
        classes = {e.name: e.cls for e in registry.start()[0] if e.kind == "cam"}
        cells = [(r.cam, r, c) for table in self.tables for r in table.rows for c in table.columns if r.cam]
        cells = cells or [(name, Row(name), Column("")) for name in self.profile.parts]
        found = [(classes[n], self.fields_of(n, row, column)) for n, row, column in cells if n in classes]
        return {str(values.get("backbone", getattr(cls, "backbone", ""))) for cls, values in found} - {""}


def resolve(names: Sequence[str], options: Options) -> Experiment:
    """Read and check everything a run needs before anything is computed.

    Raises:
        UsageError: unknown table, profile, data set, part or field; the message names near misses.
    """
    tables = tuple(load_table(n) for n in chosen(names))
    twice = {t.name for t in tables if [u.name for u in tables].count(t.name) > 1}
    if twice:
        raise UsageError("each table once", ", ".join(sorted(twice)), "name every table only once")
    profile = load_profile(options.profile)
    if options.seeds is not None:
        profile = dataclasses.replace(profile, seeds=check_seeds(options.seeds, "--seed"))
    if options.split is not None:
        profile = dataclasses.replace(profile, split=options.split)
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
    experiment = Experiment(tables, profile, dataset, options)
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
            for column in table.columns:
                mine |= _check_cell(experiment, table, row, column)
            for target in row.set:
                if (part := target.rpartition(".")[0]) not in mine:
                    raise UsageError(f"set of row {row.name!r} to name a part of it", f"{part!r}", near(part, mine))
            used |= mine
        for column in table.columns:
            for target in column.set:
                if (part := target.rpartition(".")[0]) not in used:
                    who = f"set of column {column.name!r} of {table.name} to name a part of the table"
                    raise UsageError(who, f"{part!r}", near(part, used))
    for target in sets:
        if (part := target.rpartition(".")[0]) not in used:
            raise UsageError(
                f"--set to name a part of {', '.join(t.name for t in experiment.tables)}", f"{part!r}", near(part, used)
            )


def _check_cell(experiment: Experiment, table: Table, row: Row, column: Column) -> set[str]:
    """Names of the parts a cell uses, each of them made once, so that a wrong field is found now."""
    names = set()
    for kind, name in wanted(row, column):
        names.add(name)
        try:
            experiment.part(kind, name, row, column)
        except MissingPart:
            _check_kind(kind, name, f"row {row.name!r} of {table.name}")  # else a dash, with this reason
    for name in CORE_STAGES:
        experiment.rule(name, row, column)
    return names


def wanted(row: Row, column: Column) -> list[tuple[str, str]]:
    """Kind and name of every part that a cell names, in the order in which they work."""
    if not row.computed:
        return []
    named = [("cam", row.cam), ("matting", (row.matting or column.matting) if row.cam else None)]
    named += [("refiner", r) for r in (*row.refine, *column.refine)] if row.cam else []
    named += [("segmenter", column.segment), *(("refiner", r) for r in row.needs)]
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
    cells = [(row, column) for table in experiment.tables for row in table.rows for column in table.columns]
    named = {name for row, column in cells for _, name in wanted(row, column)}
    for section in experiment.profile.parts:
        if section not in known | named and not os.environ.get(registry.BLOCK):
            raise UsageError(
                f"sections of profile {experiment.profile.name!r} named by part", f"[{section}]", near(section, known)
            )
