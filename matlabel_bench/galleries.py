"""A table of pictures: images chosen by its rule, drawn from what the store holds of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matlabel_bench.handover import Inputs, load_label, load_maps, load_seed, output
from matlabel_bench.jobs import Job
from matlabel_bench.label import make_label, make_scores
from matlabel_bench.measure import Measured
from matlabel_bench.plan import Plan
from matlabel_bench.planes import read_planes
from matlabel_bench.report.gallery import Scene, make
from matlabel_bench.report.model import Gallery
from matlabel_bench.splits import whole
from matlabel_bench.tables import Table
from matlabel_bench.types import Label, Sample


def gallery(plan: Plan, table: Table, done: Sequence[Measured], folder: Path) -> Gallery | None:
    """Draw a table's pictures into `folder`; None where it has none, or a row that it shows was not measured."""
    wanted = table.pictures
    if wanted is None:
        return None
    first = {m.cell.row: m for m in reversed(done) if m.counts and m.plan.seeds and not m.plan.column.refine}
    pair = (wanted.before, wanted.after)
    shown = wanted.maps or pair
    if not {*pair, *shown} <= set(first):
        return None
    masks = plan.experiment.dataset.masks(whole(first[pair[0]].plan.split))
    samples = {s.id: s for s in first[pair[0]].plan.seeds[0].split}

    def load(image: str) -> Scene:
        sample = samples[image]
        inputs = {row: _inputs(plan, first[row]) for row in (*pair, *shown)}
        last = inputs[wanted.after]
        return Scene(
            sample.read(),
            sample.tag_array(),
            masks(image),
            maps={row: load_maps(inputs[row], sample) for row in shown},
            trimap=read_planes(output("trimap", last.trimap, image))[0] if last.trimap else None,
            alpha=load_seed(last, sample)[0] if last.alpha else None,
            labels={row: _label(first[row], inputs[row], sample) for row in pair},
        )

    counts = (first[pair[0]].counts[0], first[pair[1]].counts[0])
    names = ("background", *plan.experiment.dataset.class_names())
    return make(folder, pair, counts, load, names, rule=wanted.rule, count=wanted.count)


def _inputs(plan: Plan, m: Measured) -> Inputs:
    """Folders of the first seed's maps, trimaps and alphas, and of the labels of a row that refines."""
    found: Mapping[str, Job] = {j.stage: j for j in m.plan.seeds[0].upstream()}
    folders = {stage: plan.slot(job).files for stage, job in found.items()}
    labels = plan.slot(m.plan.scores[0].inputs["labels"]).files if m.plan.refine else None
    return Inputs(maps=folders["maps"], trimap=folders.get("trimap"), alpha=folders.get("alpha"), labels=labels)


def _label(m: Measured, inputs: Inputs, sample: Sample) -> Label:
    if inputs.labels is not None:
        return load_label(inputs, sample)
    maps, tie = load_seed(inputs, sample)
    threshold = m.thresholds[0] if m.thresholds else 0.5
    return make_label(make_scores(maps, threshold, tie), sample.tag_array())
