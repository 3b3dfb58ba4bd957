"""Measured cells to a finished table: cells.csv, the table in four formats, and the record that stands behind them."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matlabel_bench import exporting, fields, record, registry
from matlabel_bench.cells import Cell
from matlabel_bench.config import Experiment
from matlabel_bench.errors import UsageError
from matlabel_bench.files import write_text
from matlabel_bench.fit import arithmetic_of, threads_of
from matlabel_bench.galleries import gallery
from matlabel_bench.jobs import Job
from matlabel_bench.measure import Measured, curve, degenerate, measure, score_of_maps
from matlabel_bench.plan import Plan
from matlabel_bench.report import (
    ClassScores,
    Curve,
    Extras,
    Gallery,
    Repairs,
    RowDifference,
    StageScore,
    TableInfo,
)
from matlabel_bench.report import write as write_report
from matlabel_bench.score import paired
from matlabel_bench.tables import Table

Say = Callable[[str], None]


def make_folders(experiment: Experiment) -> None:
    """The tables' folders. Raises UsageError now where results could not be written in the end."""
    for table in experiment.tables:
        folder = Path(experiment.options.out) / table.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            remedy = "remove what is in the way, or give another folder with --out"
            raise UsageError(f"a folder for results of {table.name}", f"{folder} ({err.strerror})", remedy) from err


def write(plan: Plan, failures: dict[str, str], say: Say) -> tuple[dict[str, list[Cell]], dict[str, Path]]:
    """Write every table of the plan as far as the store has its scores; cells and folder of each."""
    cells: dict[str, list[Cell]] = {}
    folders: dict[str, Path] = {}
    for table in plan.experiment.tables:
        done = [measure(plan, failures, c) for c in plan.cells if c.table is table]
        folder = Path(plan.experiment.options.out) / table.name
        pictures = gallery(plan, table, done, folder)
        write_report(folder, _info(plan, table), [m.cell for m in done], _extras(plan, table, done, pictures))
        for m in done:
            exporting.test_server(plan, m.plan, folder)
        _write_columns(folder, done)
        cells[table.name], folders[table.name] = [m.cell for m in done], folder
        say(f"{table.name} -> {folder}")
    return cells, folders


def _info(plan: Plan, table: Table) -> TableInfo:
    experiment = plan.experiment
    return TableInfo(
        name=table.name,
        title=table.title,
        source=table.source,
        dataset=registry.start()[0].name_of(experiment.dataset),
        split=table.split or experiment.profile.split,
        profile=experiment.profile.name,
        columns=tuple(c.name for c in table.columns),
        rows=tuple(r.name for r in table.rows),
        synthetic=bool(getattr(experiment.dataset, "synthetic", False)),
        published_note=table.published_note,
        published_dataset=table.published_dataset,
        published_split=table.published_split,
        published_classes=table.published_classes,
        extensions=tuple(r.name for r in table.rows if r.extension),
        row_label=table.row_label,
        form=table.form,
    )


def _extras(plan: Plan, table: Table, done: Sequence[Measured], pictures: Gallery | None) -> Extras:
    measured = [m for m in done if m.cell.status == "measured"]
    # a row's first measured column speaks for its seed
    first = {m.cell.row: m for m in reversed(measured) if m.score is not None}
    return Extras(
        differences=tuple(_differences(table, measured)),
        stages=tuple(_stages(plan, measured)),
        curves=tuple(_curves(plan, first, measured)),
        class_names=("background", *plan.experiment.dataset.class_names()),
        notes=_notes(done),
        gallery=pictures,
        classes=tuple(ClassScores(m.cell.row, m.cell.column, m.score.per_class) for m in measured if m.score),
        repairs={m.cell.row: _repairs(plan, m) for m in first.values() if m.plan.matting},
        record=_record(plan, table, measured),
    )


def _differences(table: Table, measured: Sequence[Measured]) -> list[RowDifference]:
    found = {(m.cell.row, m.cell.column): m for m in measured}
    out = []
    for a, b in table.compare:
        for column in table.columns:
            one, other = found.get((a, column.name)), found.get((b, column.name))
            if one and other and one.counts and other.counts:
                d = paired(one.counts, other.counts)
                out.append(RowDifference(a, b, column.name, d.value, d.low, d.high, d.classes))
    return out


def _stages(plan: Plan, measured: Sequence[Measured]) -> list[StageScore]:
    """cam -> alpha -> refined, each row under its protocol threshold."""
    out = []
    for m in measured:
        column = m.plan.column
        if m.plan.table.form != "table" or column.threshold != "protocol" or column.set or m.score is None:
            continue
        cell, stage = m.cell, " + ".join([*m.plan.refine, *filter(None, [column.segment])])
        if not stage:
            stage = "alpha" if m.plan.matting else "cam"
        if stage == "alpha" and m.plan.maps and not column.matting:
            cam, threshold = score_of_maps(plan, m.plan)
            out.append(StageScore(cell.row, "cam", cam.value, cam.low, cam.high, threshold, "oracle"))
        score = m.score
        out.append(StageScore(cell.row, stage, score.value, score.low, score.high, cell.threshold, cell.threshold_rule))
    return out


def _curves(plan: Plan, first: dict[str, Measured], measured: Sequence[Measured]) -> list[Curve]:
    out = []
    for row, m in first.items():
        values = curve(plan, m.plan)
        chosen = {
            o.cell.threshold_rule: o.cell.threshold
            for o in measured
            if o.cell.row == row and not o.plan.refine and not o.plan.column.segment and o.cell.threshold is not None
        }
        if values is not None:
            out.append(Curve(row, tuple(values), chosen))
    return out


def _notes(done: Sequence[Measured]) -> dict[str, tuple[str, ...]]:
    """What the parts of each row say of themselves."""
    notes: dict[str, dict[str, None]] = {}
    for m in done:
        for job in m.plan.jobs:
            for used in job.upstream():
                told = used.part.note() if hasattr(used.part, "note") else ""
                if told:
                    notes.setdefault(m.cell.row, {})[told] = None
    return {row: tuple(told) for row, told in notes.items()}


def _repairs(plan: Plan, m: Measured) -> Repairs:
    counts = degenerate(plan, m.plan)
    return Repairs(counts.get("classes", 0), counts.get("repaired", 0), counts.get("fallback", 0))


def _record(plan: Plan, table: Table, measured: Sequence[Measured]) -> dict[str, Any]:
    experiment = plan.experiment
    keys = {j.key: j for m in measured for s in m.plan.jobs for j in s.upstream()}
    return {
        "table": table.name,
        "profile": experiment.profile.name,
        "dataset": {
            "name": registry.start()[0].name_of(experiment.dataset),
            "fields": fields.key_fields(experiment.dataset),
        },
        "seeds": list(experiment.profile.seeds),
        "command": command(experiment, table),
        "configuration": {k: dict(v) for k, v in experiment.profile.parts.items()},
        "stages": {key: dict(job.spec) | _spent(plan, job) for key, job in keys.items()},
        "environment": record.environment(),
    }


def command(experiment: Experiment, table: Table) -> str:
    """The command that makes the table, with folders and files by role and name: a record names no one's machine."""
    options = experiment.options
    words = ["bench", "run", table.name, "--profile", experiment.profile.name]
    words += ["--dataset", registry.start()[0].name_of(experiment.dataset)]
    words += ["--data-root", "DIR"] if options.data_root else []
    words += ["--weights", Path(options.weights).name] if options.weights else []
    words += ["--split", options.split] if options.split else []
    words += [w for s in options.sets for w in ("--set", str(record.scrub(s)))]
    words += ["--seed", *map(str, experiment.profile.seeds)]
    return shlex.join(words)


def _spent(plan: Plan, job: Job) -> dict[str, Any]:
    """Seconds of a stage; of a training also threads and arithmetic, on which its weights depend beside its key."""
    slot = plan.slot(job)
    more: dict[str, Any] = {}
    if job.stage == "fit":
        more = {"threads": threads_of(slot.folder)}
        if arithmetic := arithmetic_of(slot.files):
            more["arithmetic"] = arithmetic
    return {"seconds": float(slot.report()["seconds"])} | more


def _write_columns(folder: Path, done: Sequence[Measured]) -> None:
    """`extra.csv`: what plugins add to cells through the hook matlabel_columns; absent where none does."""
    from dataclasses import asdict

    _, hooks = registry.start()
    rows = []
    for m in done:
        more: dict[str, Any] = {}
        for answer in hooks.hook.matlabel_columns(cell=asdict(m.cell)):
            more.update(answer or {})
        rows.append(more)
    names = sorted({n for r in rows for n in r})
    if not names:
        return
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", "column", *names])
    writer.writerows(
        [m.cell.row, m.cell.column, *(r.get(n, "") for n in names)] for m, r in zip(done, rows, strict=True)
    )
    write_text(folder / "extra.csv", out.getvalue())
