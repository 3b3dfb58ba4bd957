"""From a row and a column to jobs: which stages stand behind one cell, in which order, on which split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from matlabel_bench import fields, registry
from matlabel_bench.cells import ThresholdRule
from matlabel_bench.config import Experiment
from matlabel_bench.errors import UsageError
from matlabel_bench.jobs import Job, Jobs
from matlabel_bench.spec import takes_maps
from matlabel_bench.splits import Splits
from matlabel_bench.tables import Column, Row, Table
from matlabel_bench.timing import Pipeline
from matlabel_bench.types import Split


@dataclass(frozen=True)
class Chain:
    """The jobs behind one cell for one seed."""

    score: Job | None
    """None where the split has no masks: then `files` holds what another would score."""
    chooser: Job | None = None
    """Chooses the threshold of the seed."""
    seed: Job | None = None
    """Score of the seed at all thresholds."""
    maps: Job | None = None
    """Score of the maps that the seed comes from."""
    files: Job | None = None
    """Masks of a segmenter."""

    @property
    def last(self) -> Job:
        """The job that everything else serves."""
        job = self.score or self.files
        assert job is not None, "a chain ends in a score or in files"
        return job


@dataclass(frozen=True)
class Cell:
    """A row and a column with a seed, and the parts they name."""

    table: Table
    row: Row
    column: Column
    seed: int
    experiment: Experiment = field(repr=False)

    @property
    def matting(self) -> str | None:
        return (self.row.matting or self.column.matting) if self.row.cam else None

    @property
    def trimapped(self) -> bool:
        """Whether its alphas follow a trimap, and with it the paper's rule for labels: background below one half."""
        return bool(self.matting) and not takes_maps(self.part("matting", str(self.matting)))

    @property
    def refine(self) -> tuple[str, ...]:
        return (*self.row.refine, *self.column.refine) if self.row.cam else ()

    def part(self, kind: str, name: str) -> Any:
        return self.experiment.part(kind, name, self.row, self.column)

    def rule(self) -> tuple[ThresholdRule, float | None]:
        """How the background threshold of the seed is chosen, and which it is where it is fixed."""
        if not self.row.cam:
            return "none", None
        if self.refine and takes_maps(first := self.part("refiner", self.refine[0])):
            return "fixed", getattr(first, "threshold", None)
        label = self.experiment.rule("label", self.row, self.column)
        fixed = label.alpha_threshold if self.matting else label.map_threshold
        rule: Any = self.column.threshold
        if rule == "protocol":
            usual = "mask-free" if self.column.segment else "oracle"  # no label to learn from may come from masks
            rule = self.row.threshold or ("fixed" if self.trimapped else usual)
        return rule, fixed if rule == "fixed" else None


class Chains:
    """Adds the jobs of cells to a plan's jobs."""

    def __init__(self, experiment: Experiment, jobs: Jobs, splits: Splits) -> None:
        self.experiment, self.jobs, self.splits = experiment, jobs, splits

    def cell(self, cell: Cell) -> Chain:
        """All jobs of a cell. Raises MissingPart, UsageError, DataError before anything is computed."""
        split = self.splits.split(self.experiment.split_of(cell.table, cell.column))
        if cell.column.metric == "seconds":
            return Chain(self._speed(cell, split))
        if cell.column.segment:
            masks = self._segmented(cell, split)
            return Chain(self._score({"labels": masks}, split) if self.splits.has_masks(split) else None, files=masks)
        source = self._source(cell, split)
        seed = self._score(source, split)
        rule, _ = cell.rule()
        if cell.refine and takes_maps(cell.part("refiner", cell.refine[0])):
            chooser = None
        else:
            chooser = seed if rule == "oracle" else self._threshold(cell, source, split)
        score = self._score({"labels": self._refined(cell, source, chooser, split)}, split) if cell.refine else seed
        return Chain(score, chooser, seed, self._score({"maps": source["maps"]}, split))

    def labels(self, cell: Cell, split: Split) -> Job:
        """The job whose files are a cell's pseudo-labels on a split. Raises UsageError for an oracle threshold."""
        if cell.row.labels:
            reading = fields.key_fields(self.experiment.dataset)
            return self.jobs.add("truth", "", None, split, None, {}, masks=self.splits.masks(split), reading=reading)
        rule, fixed = cell.rule()
        if rule == "oracle":
            raise UsageError(
                "a threshold without masks, for labels to be made",
                repr(rule),
                'set threshold = "mask-free" or "fixed"',
            )
        source = self._source(cell, split)
        chooser = self._threshold(cell, source, split)
        if cell.refine:
            return self._refined(cell, source, chooser, split)
        return self.jobs.add("label", "", None, split, None, _with(source, chooser), threshold=fixed)

    def _segmented(self, cell: Cell, split: Split) -> Job:
        """Masks of a segmenter that learned from the cell's labels on the label split."""
        name = str(cell.column.segment)
        part, train = cell.part("segmenter", name), self.splits.split(self.experiment.profile.label_split)
        labels = {"labels": self.labels(cell, train)}
        fit = self.jobs.add("fit", name, part, train, cell.seed, labels, images=self.splits.images(train))
        return self.jobs.add("segment", name, part, split, None, {"fit": fit}, images=self.splits.images(split))

    def _refined(self, cell: Cell, source: Mapping[str, Job], chooser: Job | None, split: Split, count: int = 0) -> Job:
        """The last refiner's job: the first one starts from the seed, every other from the label before it."""
        inputs = dict(source)
        for at, name in enumerate(cell.refine[: count or None]):
            part = cell.part("refiner", name)
            maps = at > 0 or takes_maps(part)
            fixed = None if maps else cell.rule()[1]
            inputs = inputs if maps else _with(inputs, chooser)
            if getattr(part, "trains", False):
                inputs = inputs | {"fit": self._refiner_fit(cell, at, part, chooser, fixed)}
            inputs = {"labels": self.jobs.add("refine", name, part, split, None, inputs, threshold=fixed)}
        return inputs["labels"]

    def _refiner_fit(self, cell: Cell, at: int, part: Any, chooser: Job | None, fixed: float | None) -> Job:
        """A refiner's training on the label split, on what it is given there. An oracle's threshold is taken over."""
        train = self.splits.split(self.experiment.profile.label_split)
        source = self._source(cell, train)
        first = chooser if cell.rule()[0] == "oracle" else self._threshold(cell, source, train)
        inputs = dict(source) if takes_maps(part) else _with(source, first)
        if at:
            inputs = {"labels": self._refined(cell, source, first, train, at)}
        images = self.splits.images(train)
        return self.jobs.add("fit", cell.refine[at], part, train, cell.seed, inputs, images=images, threshold=fixed)

    def _source(self, cell: Cell, split: Split) -> dict[str, Job]:
        """The jobs whose output is the row's seed: maps, and alphas where there is a matting."""
        name, images = str(cell.row.cam), self.splits.images(split)
        cam = cell.part("cam", name)
        before = self._fit(cell, name, cam)
        maps = self.jobs.add("maps", name, cam, split, None, before, images=images)
        if not cell.matting:
            return {"maps": maps}
        matting = cell.part("matting", cell.matting)
        known = {"maps": maps} | self._fit(cell, cell.matting, matting)
        if not takes_maps(matting):
            known["trimap"] = self._trimap(cell, cam, before, maps, split)
        elif cell.row.trimap:
            remedy = "leave trimap out of the row, or take another matting"
            raise UsageError(f"a matting that takes a trimap, for trimap = {cell.row.trimap!r}", cell.matting, remedy)
        return {"maps": maps, "alpha": self.jobs.add("alpha", cell.matting, matting, split, None, known)}

    def _trimap(self, cell: Cell, cam: Any, before: Mapping[str, Job], maps: Job, split: Split) -> Job:
        name, images = str(cell.row.cam), self.splits.images(split)
        inputs, kind = {"maps": maps}, cell.row.trimap if cell.row.trimap == "uncertainty" else "trimap"
        if kind == "uncertainty":
            if getattr(cam, "wants_id", False):
                remedy = 'take another cam for the row, or trimap = "thresholds"'
                raise UsageError("a cam that can be asked about altered images", f"{name}, which goes by ids", remedy)
            inputs["views"] = self.jobs.add("views", name, cam, split, None, before, images=images)
        rule = self.experiment.rule(kind, cell.row, cell.column)
        label = "" if kind == "trimap" else kind
        return self.jobs.add("trimap", label, rule, split, None, inputs)

    def _fit(self, cell: Cell, name: str, part: Any) -> dict[str, Job]:
        """The training of a part that learns from images and tags alone."""
        if not getattr(part, "trains", False):
            return {}
        train = self.splits.split(self.experiment.profile.fit_split)
        stem = part.stem() if hasattr(part, "stem") else None
        before = self._fit(cell, registry.start()[0].name_of(stem), stem) if stem else {}
        inputs = {"stem": before["fit"]} if before else {}
        return {"fit": self.jobs.add("fit", name, part, train, cell.seed, inputs, images=self.splits.images(train))}

    def _speed(self, cell: Cell, split: Split) -> Job:
        cam = cell.part("cam", str(cell.row.cam))
        matting = cell.part("matting", cell.matting) if cell.matting else None
        part = Pipeline(cam, self.experiment.rule("trimap", cell.row, cell.column), matting)
        inputs = self._fit(cell, str(cell.row.cam), cam)
        if matting is not None and (trained := self._fit(cell, str(cell.matting), matting)):
            inputs["matting"] = trained["fit"]
        name = " + ".join(filter(None, (cell.row.cam, cell.matting)))
        more = {"fields": part.key(), "device": self.experiment.options.device, "images": self.splits.images(split)}
        return self.jobs.add("speed", name, part, split, None, inputs, **more)

    def _threshold(self, cell: Cell, source: Mapping[str, Job], split: Split) -> Job | None:
        if cell.rule()[0] != "mask-free":
            return None
        return self.jobs.add("threshold", "", None, split, None, source)

    def _score(self, inputs: Mapping[str, Job], split: Split) -> Job:
        reading = fields.key_fields(self.experiment.dataset)  # how masks become labels, e.g. which classes count
        return self.jobs.add("score", "", None, split, None, inputs, masks=self.splits.masks(split), reading=reading)


def _with(source: Mapping[str, Job], chooser: Job | None) -> dict[str, Job]:
    return dict(source) | ({"threshold": chooser} if chooser else {})


def supervision(cell: Cell) -> str:
    """What the cell's number was learned from."""
    parts, _ = registry.start()
    named = [("cam", cell.row.cam), ("matting", cell.matting), ("segmenter", cell.column.segment)]
    named += [("refiner", name) for name in cell.refine]
    more = {s for kind, name in named if name for s in getattr(parts.get(kind, name).cls, "supervision", ())}
    more |= {"masks"} if cell.row.labels else set()
    oracle = ["masks(threshold)"] if cell.rule()[0] == "oracle" and cell.column.metric != "seconds" else []
    return "+".join(["tags", *sorted(more - {"tags"}), *oracle])
