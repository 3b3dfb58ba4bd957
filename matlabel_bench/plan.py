"""A table becomes jobs: one job a stage and a key, shared prefixes once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from matlabel_bench import fields, registry
from matlabel_bench.cells import ThresholdRule
from matlabel_bench.config import Experiment
from matlabel_bench.errors import MissingPart, UsageError
from matlabel_bench.fingerprint import Fingerprints
from matlabel_bench.jobs import Job
from matlabel_bench.splits import need_masks, usable
from matlabel_bench.store import Slot, Store
from matlabel_bench.tables import Column, Row, Table
from matlabel_bench.types import Split

VERSION = 1
"""Raise when a core stage (trimap, label, score) gives another result for the same inputs; it enters every key."""


@dataclass(frozen=True)
class CellPlan:
    """Where one cell's number comes from: a score a seed, and the job that chooses its threshold, if any."""

    table: Table
    row: Row
    column: Column
    rule: ThresholdRule = "none"
    fixed: float | None = None
    scores: tuple[Job, ...] = ()
    choosers: tuple[Job, ...] = ()
    """For a mask-free or an oracle threshold: the job that chooses it, one a seed."""
    seeds: tuple[Job, ...] = ()
    """Scores of the row's seed at all thresholds, one a seed: the curve."""
    maps: tuple[Job, ...] = ()
    """Scores of the maps that a matting row starts from, one a seed: where its points come from."""
    supervision: str = ""
    missing: str = ""


@dataclass
class Plan:
    """The jobs of an experiment in an order that respects their inputs, and the cells they serve."""

    experiment: Experiment
    store: Store
    jobs: dict[str, Job] = field(default_factory=dict)
    cells: list[CellPlan] = field(default_factory=list)

    def job(
        self, stage: str, name: str, part: Any, split: Split, seed: int | None, inputs: Mapping[str, Job], **more: Any
    ) -> Job:
        """The job of this description; an earlier one where the description is the same."""
        spec = {
            "core": VERSION,
            "stage": stage,
            "part": name,
            "version": getattr(part, "version", 1) if part is not None else None,
            "fields": fields.key_fields(part) if part is not None else {},
            "seed": seed,
            "inputs": {k: j.key for k, j in inputs.items()},
            **more,
        }
        job = Job(stage, name, part, split, seed, dict(inputs), spec)
        return self.jobs.setdefault(job.key, job)

    def slot(self, job: Job) -> Slot:
        return self.store.slot(job.stage, job.key)


def make(experiment: Experiment) -> Plan:
    """The plan of an experiment.

    Raises:
        UsageError, DataError: the data set, a split or the store is not usable; nothing has been computed.
    """
    store = Store(experiment.options.store)
    plan = Plan(experiment, store)
    prints = Fingerprints(store.root)
    data = experiment.dataset
    fit = usable(data, experiment.profile.fit_split)
    for table in experiment.tables:
        split = usable(data, table.split or experiment.profile.split)
        need_masks(data, split)
        builder = _Builder(plan, prints, fit, split)
        for row in table.rows:
            for column in table.columns:
                plan.cells.append(builder.cell(table, row, column))
    return plan


@dataclass(frozen=True)
class _Chain:
    """The jobs behind one cell for one seed."""

    score: Job
    chooser: Job | None
    seed: Job
    maps: Job


class _Builder:
    """Cells of one split."""

    def __init__(self, plan: Plan, prints: Fingerprints, fit: Split, split: Split) -> None:
        self.plan, self.fit, self.split = plan, fit, split
        self.experiment = plan.experiment
        self.images, self.fit_images = prints.split(split), prints.split(fit)
        self.masks = prints.files(self.experiment.dataset.mask_files(split.name))

    def cell(self, table: Table, row: Row, column: Column) -> CellPlan:
        if row.cam is None:
            return CellPlan(table, row, column)
        try:
            for name in row.needs:
                registry.start()[0].get("refiner", name)
            every = [self._chain(row, column, seed) for seed in self.experiment.profile.seeds]
        except MissingPart as err:
            missing = f"{err.expected.split()[-1]} {err.got} is not installed"
            hint = err.remedy.partition("known: ")[0].strip()
            if hint and not row.published:  # the paper's rows wait for their parts; one's own may be misspelt
                missing += f"; {hint}"
            return CellPlan(table, row, column, missing=missing)
        rule, fixed = self._rule(row, column)
        chains = list({c.score.key: c for c in every}.values())  # what nothing random touches counts as one seed
        return CellPlan(
            table,
            row,
            column,
            rule,
            fixed,
            scores=tuple(c.score for c in chains),
            choosers=tuple(c.chooser for c in chains if c.chooser),
            seeds=tuple(c.seed for c in chains),
            maps=tuple(c.maps for c in chains),
            supervision=self._supervision(row, column, rule),
        )

    def _rule(self, row: Row, column: Column) -> tuple[ThresholdRule, float | None]:
        label = self.experiment.rule("label", row)
        fixed = label.alpha_threshold if row.matting else label.map_threshold
        rule: Any = column.threshold
        if rule == "protocol":
            rule = row.threshold or ("fixed" if row.matting else "oracle")
        return rule, fixed if rule == "fixed" else None

    def _chain(self, row: Row, column: Column, seed: int) -> _Chain:
        source = self._source(row, seed)
        seed_score = self._score(source)
        rule, fixed = self._rule(row, column)
        chooser = seed_score if rule == "oracle" else None
        if rule == "mask-free":
            chooser = self._step("threshold", "", None, source)
        score = seed_score
        if column.refine:
            score = self._score({"labels": self._refined(row, column, source, chooser, fixed)})
        return _Chain(score, chooser, seed_score, self._score({"maps": source["maps"]}))

    def labels(self, row: Row, column: Column, seed: int) -> Job:
        """The job whose files are the row's pseudo-labels, made without any mask."""
        rule, fixed = self._rule(row, column)
        if rule == "oracle" or not column.refine:
            raise UsageError(
                "a recipe with a refiner and a threshold without masks",
                f"threshold {rule!r}, refine {list(column.refine)}",
                'set threshold = "mask-free" or "fixed" and refine = [...] in the recipe',
            )
        source = self._source(row, seed)
        chooser = self._step("threshold", "", None, source) if rule == "mask-free" else None
        return self._refined(row, column, source, chooser, fixed)

    def _refined(
        self, row: Row, column: Column, source: Mapping[str, Job], chooser: Job | None, fixed: float | None
    ) -> Job:
        """The last refiner's job: the first one starts from the seed, every other from the label before it."""
        inputs = dict(source) | ({"threshold": chooser} if chooser else {})
        for name in column.refine:
            part = self.experiment.part("refiner", name, row)
            job = self._step("refine", name, part, inputs, threshold=fixed)
            inputs = {"labels": job}
        return job

    def _source(self, row: Row, seed: int) -> dict[str, Job]:
        """The jobs whose output is the row's seed: maps, and alphas where the row has a matting."""
        cam = self.experiment.part("cam", str(row.cam), row)
        before = {}
        if getattr(cam, "trains", False):
            before["fit"] = self.plan.job("fit", str(row.cam), cam, self.fit, seed, {}, images=self.fit_images)
        maps = self._step("maps", str(row.cam), cam, before, images=self.images)
        if not row.matting:
            return {"maps": maps}
        matting = self.experiment.part("matting", row.matting, row)
        trimap = self._step("trimap", "", self.experiment.rule("trimap", row), {"maps": maps})
        return {"maps": maps, "alpha": self._step("alpha", row.matting, matting, {"maps": maps, "trimap": trimap})}

    def _step(self, stage: str, name: str, part: Any, inputs: Mapping[str, Job], **more: Any) -> Job:
        return self.plan.job(stage, name, part, self.split, None, inputs, **more)

    def _score(self, inputs: Mapping[str, Job]) -> Job:
        reading = fields.key_fields(self.experiment.dataset)  # how masks become labels, e.g. which classes count
        return self._step("score", "", None, inputs, masks=self.masks, reading=reading)

    def _supervision(self, row: Row, column: Column, rule: str) -> str:
        parts, _ = registry.start()
        used = [("cam", row.cam), ("matting", row.matting), *(("refiner", r) for r in column.refine)]
        more = {s for kind, name in used if name for s in getattr(parts.get(kind, name).cls, "supervision", ())}
        return "+".join(["tags", *sorted(more - {"tags"}), *(["masks(threshold)"] if rule == "oracle" else [])])


def labels(experiment: Experiment) -> tuple[Plan, Job]:
    """A plan that makes pseudo-labels and scores nothing: the first row and column of the experiment's one table.

    Raises:
        UsageError, DataError, MissingPart: as `make`; or a rule that would need masks.
    """
    table = experiment.tables[0]
    if len(table.rows) != 1 or len(table.columns) != 1 or not table.rows[0].cam:
        got = f"{len(table.columns)} columns, {len(table.rows)} rows, cam = {table.rows[0].cam!r}"
        raise UsageError(f"recipe {table.name!r} to be one column and one row with a cam", got, "keep one of each")
    row, column = table.rows[0], table.columns[0]
    plan = Plan(experiment, Store(experiment.options.store))
    split = usable(experiment.dataset, experiment.profile.split)
    fit = usable(experiment.dataset, experiment.profile.fit_split)
    builder = _Builder(plan, Fingerprints(plan.store.root), fit, split)
    return plan, builder.labels(row, column, experiment.profile.seeds[0])
