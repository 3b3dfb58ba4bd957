"""From finished scores to cells: thresholds by their rule, means over seeds, intervals, and reasons for dashes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from matlabel_bench.cells import Cell
from matlabel_bench.gather import SPEED, TALLIES, chosen
from matlabel_bench.jobs import Job
from matlabel_bench.plan import CellPlan, Plan
from matlabel_bench.score import Counts, Score, Tallies, evaluate
from matlabel_bench.store import read_json

UNSCORED = "no masks here: a test server scores them; its files are in the folder test-server beside the table"


@dataclass(frozen=True)
class Measured:
    """A cell with what stands behind it."""

    plan: CellPlan
    cell: Cell
    counts: tuple[Counts, ...] = ()
    """One a seed; empty where nothing was measured."""
    score: Score | None = None
    thresholds: tuple[float, ...] = ()
    """Of the seed, one a seed of chance."""


def measure(plan: Plan, failures: Mapping[str, str], cell: CellPlan) -> Measured:
    """The cell as far as the store has its scores. Raises nothing for what failed: the reason is in the cell."""
    base = _base(plan, cell)
    if not cell.row.computed:
        return Measured(cell, _literature(base))
    if cell.missing:
        return Measured(cell, _with(base, status="missing", reason=cell.missing))
    jobs = cell.jobs
    failed = next((failures[j.key] for j in jobs if j.key in failures), None)
    if failed is not None:
        return Measured(cell, _with(base, status="failed", reason=failed))
    if not all(plan.slot(j).done for j in jobs):
        return Measured(cell, _with(base, status="missing", reason="not computed yet: the run was interrupted"))
    if not cell.scores:
        return Measured(cell, _with(base, status="missing", reason=UNSCORED, supervision=cell.supervision))
    if cell.column.metric == "seconds":
        return Measured(cell, _timed(plan, cell, base))
    thresholds = _thresholds(plan, cell)
    used = [None] * len(cell.scores) if cell.refine or cell.column.segment else thresholds
    counts = tuple(tallies(plan, job).at(t) for job, t in zip(cell.scores, used, strict=True))
    score = evaluate(counts)
    done = _with(
        base,
        status="measured",
        value=score.value,
        low=score.low,
        high=score.high,
        images=len(counts[0].ids),
        classes=score.classes,
        seeds=len(counts),
        threshold=sum(thresholds) / len(thresholds) if thresholds else None,
        threshold_rule=cell.rule,
        supervision=cell.supervision,
        seconds=_seconds(plan, [*cell.scores, *cell.choosers]),
        key=_key(cell.scores),
    )
    return Measured(cell, done, counts, score, tuple(thresholds))


def _timed(plan: Plan, cell: CellPlan, base: Cell) -> Cell:
    """Seconds: median over repeats, mean over seeds; the interval is that of the repeats, least to greatest."""
    told = [read_json(plan.slot(job).files / SPEED) for job in cell.scores]
    every = [t for one in told for t in one["seconds"]]
    return _with(
        base,
        status="measured",
        value=float(np.mean([np.median(one["seconds"]) for one in told])),
        low=min(every),
        high=max(every),
        images=1,
        seeds=len(told),
        supervision=cell.supervision,
        seconds=_seconds(plan, list(cell.scores)),
        key=_key(cell.scores),
    )


def degenerate(plan: Plan, cell: CellPlan) -> dict[str, int]:
    """Counts over seeds of (image, class) trimaps, those repaired, and images whose alpha fell back to the map."""
    total: dict[str, int] = {}
    seen = {j.key: j for score in cell.scores for j in score.upstream() if j.stage in ("trimap", "alpha")}
    for job in seen.values():
        slot = plan.slot(job)
        for name, number in (slot.report()["notes"] if slot.done else {}).items():
            if name != "classes" or job.stage == "trimap":
                total[name] = total.get(name, 0) + int(number)
    return total


def curve(plan: Plan, cell: CellPlan) -> list[float] | None:
    """mIoU of the row's seed at each of score.THRESHOLDS, mean over seeds; None where it is not there."""
    if not cell.seeds or not all(plan.slot(j).done for j in cell.seeds):
        return None
    curves = [tallies(plan, job).curve() for job in cell.seeds]
    return [float(v) for v in np.mean(curves, axis=0)]


def score_of_maps(plan: Plan, cell: CellPlan) -> tuple[Score, float]:
    """Score of the maps behind a matting row at their best threshold on masks, and that threshold (mean over seeds)."""
    found = [tallies(plan, job) for job in cell.maps]
    best = [t.oracle() for t in found]
    score = evaluate([t.at(b) for t, b in zip(found, best, strict=True)])
    return score, sum(best) / len(best)


def _thresholds(plan: Plan, cell: CellPlan) -> list[float]:
    if cell.fixed is not None or cell.rule in ("none", "fixed"):
        return [cell.fixed] * len(cell.scores) if cell.fixed is not None else []
    return [chosen(plan, job) for job in cell.choosers]


def _base(plan: Plan, cell: CellPlan) -> Cell:
    return Cell(
        table=cell.table.name,
        row=cell.row.name,
        column=cell.column.name,
        metric=cell.column.metric,
        published=cell.row.published.get(cell.column.name),
        dataset=_dataset_name(plan),
        split=cell.split,
        profile=plan.experiment.profile.name,
        supervision=cell.row.supervision,
    )


def _dataset_name(plan: Plan) -> str:
    from matlabel_bench import registry

    return registry.start()[0].name_of(plan.experiment.dataset)


def _literature(base: Cell) -> Cell:
    if base.published is None:
        return _with(base, status="missing", reason="the paper reports no number here")
    return _with(base, status="published-only", reason="known from the literature; no part of this name is installed")


def _with(cell: Cell, **changes: object) -> Cell:
    return dataclasses.replace(cell, **changes)  # type: ignore[arg-type]


def tallies(plan: Plan, job: Job) -> Tallies:
    """The tallies a finished score left. Raises DataError where its file is damaged."""
    return _load(plan.slot(job).files / TALLIES)


@lru_cache(maxsize=256)
def _load(path: Path) -> Tallies:
    return Tallies.load(path)


def _seconds(plan: Plan, jobs: list[Job]) -> float:
    keys = {j.key: j for job in jobs for j in job.upstream()}
    return float(sum(plan.slot(j).report()["seconds"] for j in keys.values()))


def _key(scores: tuple[Job, ...]) -> str:
    if len(scores) == 1:
        return scores[0].key
    return hashlib.sha256("".join(s.key for s in scores).encode()).hexdigest()[:32]
