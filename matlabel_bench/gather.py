"""What the main process makes of a stage once all its images are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from matlabel_bench.handover import output
from matlabel_bench.jobs import Job
from matlabel_bench.plan import Plan
from matlabel_bench.planes import read_planes
from matlabel_bench.score import Tallies, otsu
from matlabel_bench.stages import Outcome
from matlabel_bench.store import read_json, write_json
from matlabel_bench.types import Sample

TALLIES, THRESHOLD, SPEED = "tallies.npz", "threshold.json", "speed.json"


def timed(samples: Sequence[Sample]) -> list[Sample]:
    """The one image that is timed: the first with a single tag, else the first with any, else the first."""
    tagged = [s for s in samples if s.tags]
    return ([s for s in tagged if len(s.tags) == 1] or tagged or list(samples))[:1]


def chosen(plan: Plan, job: Job) -> float:
    """The threshold a finished job chose: a mask-free one, or the oracle of a score."""
    files = plan.slot(job).files
    if job.stage == "threshold":
        return float(read_json(files / THRESHOLD)["threshold"])
    return Tallies.load(files / TALLIES).oracle()


def gather(job: Job, outcomes: Mapping[str, Outcome], out: Path) -> dict[str, Any]:
    """Join what images gave: tallies of a score, a threshold, counts of notes."""
    ids = [s.id for s in job.split]
    if job.stage == "score":
        tallies = [t for i in ids if (t := outcomes[i].tally) is not None]
        Tallies.of(ids, tallies, len(job.split.classes) + 1).save(out / TALLIES)
    if job.stage == "speed":
        (only,) = outcomes.values()
        write_json(out / SPEED, only.notes)
    if job.stage == "threshold":
        pooled = np.asarray([outcomes[i].notes["histogram"] for i in ids], dtype=np.int64).sum(axis=0)
        write_json(out / THRESHOLD, {"threshold": otsu(pooled), "rule": "Otsu on the winning values of all pixels"})
    return _notes(job, out) if job.stage in ("trimap", "alpha") else {}


def _notes(job: Job, out: Path) -> dict[str, Any]:
    """Degenerate trimaps and fallbacks of a split, read back from its files: earlier runs made some of them."""
    counts: Counter[str] = Counter()
    for sample in job.split:
        notes = read_planes(output(job.stage, out, sample.id))[1]
        counts["classes"] += int(notes.get("classes", 0))
        counts.update(f"trimap {status}" for status in notes.get("repaired", ()))
        counts["repaired"] += len(notes.get("repaired", ()))
        counts["fallback"] += len(notes.get("fallback", ()))
    return dict(counts)
