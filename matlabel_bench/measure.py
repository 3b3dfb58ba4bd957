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
from matlabel_bench.jobs import Job
from matlabel_bench.plan import CellPlan, Plan
from matlabel_bench.runner import TALLIES, chosen
from matlabel_bench.score import Counts, Score, Tallies, evaluate


@dataclass(frozen=True)
class Measured:
    """A cell with what stands behind it."""

    plan: CellPlan
    cell: Cell
    counts: tuple[Counts, ...] = ()
    """One a seed; empty where nothing was measured."""
    score: Score | None = None


def measure(plan: Plan, failures: Mapping[str, str], cell: CellPlan) -> Measured:
    """The cell as far as the store has its scores. Raises nothing for what failed: the reason is in the cell."""
    base = _base(plan, cell)
    if cell.row.cam is None:
        return Measured(cell, _literature(base))
    if cell.missing:
        return Measured(cell, _with(base, status="missing", reason=cell.missing))
    jobs = [*cell.scores, *cell.choosers, *cell.maps]
    failed = next((failures[j.key] for j in jobs if j.key in failures), None)
    if failed is not None:
        return Measured(cell, _with(base, status="failed", reason=failed))
    if not all(plan.slot(j).done for j in jobs):
        return Measured(cell, _with(base, status="missing", reason="not computed yet: the run was interrupted"))
    thresholds = _thresholds(plan, cell)
    used = thresholds if not cell.column.refine else [None] * len(cell.scores)
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
        threshold=sum(thresholds) / len(thresholds),
        threshold_rule=cell.rule,
        supervision=cell.supervision,
        seconds=_seconds(plan, [*cell.scores, *cell.choosers]),
        key=_key(cell.scores),
    )
    return Measured(cell, done, counts, score)


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
    if cell.fixed is not None:
        return [cell.fixed] * len(cell.scores)
    return [chosen(plan, job) for job in cell.choosers]


def _base(plan: Plan, cell: CellPlan) -> Cell:
    profile, table = plan.experiment.profile, cell.table
    return Cell(
        table=table.name,
        row=cell.row.name,
        column=cell.column.name,
        published=cell.row.published.get(cell.column.name),
        dataset=_dataset_name(plan),
        split=table.split or profile.split,
        profile=profile.name,
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
