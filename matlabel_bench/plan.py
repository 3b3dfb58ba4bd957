"""A table becomes jobs: one job a stage and a key, shared prefixes once."""

from __future__ import annotations

from dataclasses import dataclass, field

from matlabel_bench import registry
from matlabel_bench.cells import ThresholdRule
from matlabel_bench.chain import Cell, Chain, Chains, supervision
from matlabel_bench.config import Experiment, wanted
from matlabel_bench.errors import DataError, MissingPart, UsageError
from matlabel_bench.fingerprint import Fingerprints
from matlabel_bench.jobs import Job, Jobs
from matlabel_bench.splits import Splits, whole
from matlabel_bench.store import Slot, Store
from matlabel_bench.tables import Column, Row, Table


@dataclass(frozen=True)
class CellPlan:
    """Where one cell's number comes from: a score a seed, and the job that chooses its threshold, if any."""

    table: Table
    row: Row
    column: Column
    split: str = ""
    rule: ThresholdRule = "none"
    fixed: float | None = None
    scores: tuple[Job, ...] = ()
    """Scores, or times where the column asks for seconds."""
    choosers: tuple[Job, ...] = ()
    """For a mask-free or an oracle threshold: the job that chooses it, one a seed."""
    seeds: tuple[Job, ...] = ()
    """Scores of the row's seed at all thresholds, one a seed: the curve."""
    maps: tuple[Job, ...] = ()
    """Scores of the maps that a matting row starts from, one a seed: where its points come from."""
    files: tuple[Job, ...] = ()
    """Masks of a segmenter, one a seed."""
    matting: str | None = None
    refine: tuple[str, ...] = ()
    supervision: str = ""
    missing: str = ""

    @property
    def jobs(self) -> list[Job]:
        """What must be done before the cell can be read."""
        return [*self.scores, *self.choosers, *self.maps, *self.files]


@dataclass
class Plan:
    """The jobs of an experiment in an order that respects their inputs, and the cells they serve."""

    experiment: Experiment
    store: Store
    jobs: Jobs = field(default_factory=Jobs)
    cells: list[CellPlan] = field(default_factory=list)

    def slot(self, job: Job) -> Slot:
        return self.store.slot(job.stage, job.key)


def make(experiment: Experiment) -> Plan:
    """The plan of an experiment.

    Raises:
        UsageError, DataError: the data set, a split or the store is not usable; nothing has been computed.
    """
    plan, chains = _begin(experiment)
    profile, splits = experiment.profile, chains.splits
    splits.split(profile.fit_split)
    for table in experiment.tables:
        splits.masks(splits.split(table.split or profile.split))
        for row in table.rows:
            for column in table.columns:
                plan.cells.append(_cell(plan, chains, table, row, column))
    return plan


def labels(experiment: Experiment) -> tuple[Plan, Job]:
    """A plan that makes pseudo-labels and scores nothing: the first row and column of the experiment's one table.

    Raises:
        UsageError, DataError, MissingPart: as `make`; or a rule that would need masks.
    """
    table = experiment.tables[0]
    if len(table.rows) != 1 or len(table.columns) != 1 or not table.rows[0].cam:
        got = f"{len(table.columns)} columns, {len(table.rows)} rows, cam = {table.rows[0].cam!r}"
        raise UsageError(f"recipe {table.name!r} to be one column and one row with a cam", got, "keep one of each")
    column = table.columns[0]
    if column.segment or column.metric == "seconds":
        got = f"segment = {column.segment!r}" if column.segment else f"metric = {column.metric!r}"
        raise UsageError(f"column {column.name!r} of recipe {table.name!r} to make labels", got, "take it out")
    plan, chains = _begin(experiment)
    cell = Cell(table, table.rows[0], column, experiment.profile.seeds[0], experiment)
    return plan, chains.labels(cell, chains.splits.split(experiment.profile.split))


def _begin(experiment: Experiment) -> tuple[Plan, Chains]:
    plan = Plan(experiment, Store(experiment.options.store))
    splits = Splits(experiment.dataset, Fingerprints(plan.store.root))
    return plan, Chains(experiment, plan.jobs, splits)


def _cell(plan: Plan, chains: Chains, table: Table, row: Row, column: Column) -> CellPlan:
    split = plan.experiment.split_of(table, column)
    if not row.computed:
        return CellPlan(table, row, column, split)
    seeds = [Cell(table, row, column, seed, plan.experiment) for seed in plan.experiment.profile.seeds]
    if missing := _missing(seeds[0], chains.splits):
        return CellPlan(table, row, column, split, missing=missing)
    every: list[Chain] = [chains.cell(cell) for cell in seeds]
    rule, fixed = seeds[0].rule() if column.metric != "seconds" else ("none", None)
    kept = {c.last.key: c for c in every}.values()  # what nothing random touches counts as one seed
    return CellPlan(
        table,
        row,
        column,
        split,
        rule,
        fixed,
        scores=tuple(c.score for c in kept if c.score),
        choosers=tuple(c.chooser for c in kept if c.chooser),
        seeds=tuple(c.seed for c in kept if c.seed),
        maps=tuple(c.maps for c in kept if c.maps),
        files=tuple(c.files for c in kept if c.files),
        matting=seeds[0].matting,
        refine=seeds[0].refine,
        supervision=supervision(seeds[0]),
    )


def _missing(cell: Cell, splits: Splits) -> str:
    """Why a cell cannot be computed here; empty where it can."""
    row, column, learned = cell.row, cell.column, cell.experiment.profile.label_split
    if row.labels and not column.segment:
        return "the masks are its labels: there is nothing to score"
    if column.metric == "seconds" and row.trimap == "uncertainty":
        return "only trimaps by thresholds are timed"
    if column.split and whole(column.split) not in splits.dataset.split_names():
        return f"the data set has no split {column.split!r}"
    if row.labels:
        try:
            splits.masks(splits.split(learned))
        except DataError as err:
            return f"it needs a mask for every image of split {learned!r}: {err.got}"
    try:
        for kind, name in wanted(row, column):
            registry.start()[0].get(kind, name)
    except MissingPart as err:
        missing = f"{err.expected.split()[-1]} {err.got} is not installed"
        hint = err.remedy.partition("known: ")[0].strip()
        if hint and not row.published:  # the paper's rows wait for their parts; one's own may be misspelt
            missing += f"; {hint}"
        return missing
    if column.segment and not row.labels and cell.rule()[0] == "oracle":
        return "labels to learn from are made without masks, and its threshold is searched on them"
    return ""
