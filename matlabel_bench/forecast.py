"""What a plan will cost, before anything runs: from what the store has seen, else from what parts say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matlabel_bench.console import clock
from matlabel_bench.errors import BenchError
from matlabel_bench.jobs import WHOLE, Job, device_of, items_of
from matlabel_bench.plan import Plan
from matlabel_bench.record import hardware
from matlabel_bench.uncertainty import VIEWS

if TYPE_CHECKING:
    import pandas as pd

SECONDS = {"trimap": 0.02, "label": 0.02, "truth": 0.02, "threshold": 0.02, "score": 0.03}
"""Of a 375x500 image on one core, for stages of the core; parts say theirs in `cost` and `fit_cost`."""
BYTES: dict[str, tuple[float, float]] = {
    "maps": (600, 4_800),
    "views": (600, 9_600),
    "trimap": (300, 2_100),
    "alpha": (9_000, 22_700),
    "score": (0, 330),
    "label": (2_300, 1_400),
}
"""Bytes of a 375x500 image, and for each of its tags: least squares on 443 images of VOC (KNN's alphas; maps and views
at cell=8). `label` is for every stage that writes a label."""
SCORED_LABEL = 30
"""Bytes an image of a label's score, which knows no thresholds."""
FILE = 2_100
"""Bytes besides for each file: half of a disk's block, and the file's digest in done.json."""
TRAINING = (1e8, 0.0)
"""Bytes a training leaves, once and for an image, where its part does not say (`leaves`). While it runs, a checkpoint
takes two to three times its weights besides: weights, and momenta of the optimiser."""
REFERENCE_PIXELS = 375 * 500


def forecast(plan: Plan) -> list[dict[str, Any]]:
    """A record a job: stage, part, seed, images, state (done, begun, to do), seconds on one core, megabytes."""
    rates, scale = plan.store.rates(hardware()), _pixels(plan) / REFERENCE_PIXELS
    tags: dict[str, int] = {}
    out = []
    for job in plan.jobs.values():
        slot = plan.slot(job)
        if slot.done:
            report = slot.report()
            state, seconds, size = "done", 0.0, float(report["bytes"] + FILE * len(report["files"]))
        else:
            state = "begun" if slot.files.is_dir() and any(slot.files.iterdir()) else "to do"
            seen = rates.get((job.stage, job.name, device_of(job))) or rates.get((job.stage, job.name, ""))
            rate = seen or _guess(job, scale)
            seconds = rate * items_of(job)
            if job.split.name not in tags:
                tags[job.split.name] = sum(len(s.tags) for s in job.split)
            size = _bytes(job, scale, tags[job.split.name])
        row = {"stage": job.stage, "part": job.name, "seed": job.seed, "images": len(job.split), "state": state}
        out.append(row | {"seconds": round(seconds, 1), "megabytes": round(size / 1e6, 2), "key": job.key[:12]})
    return out


def frame(plan: Plan) -> pd.DataFrame:
    """`forecast` as a pandas frame."""
    import pandas as pd

    return pd.DataFrame(forecast(plan))


def summary(plan: Plan, rows: Sequence[Mapping[Any, Any]] | None = None) -> str:
    """One sentence: jobs, how many are there already, time and disk for the rest. `rows`: the plan's forecast."""
    rows = forecast(plan) if rows is None else rows
    left = [r for r in rows if r["state"] != "done"]
    workers = plan.experiment.options.workers
    seconds = sum(r["seconds"] for r in left) / max(1, workers)
    megabytes = sum(r["megabytes"] for r in left)
    there = len(rows) - len(left)
    disk = f"{megabytes:,.0f} MB" if megabytes <= 1000 else f"{megabytes / 1000:,.1f} GB"
    rest = f"about {clock(seconds)} on {workers} workers, {disk}"
    return f"{len(rows)} jobs, {there} of them in the store; the rest: {rest}"


def _bytes(job: Job, scale: float, tags: int) -> float:
    """Of all files of a job, whose images have so many tags in all."""
    images = len(job.split)
    if job.stage == "score":  # one file, of tallies
        return SCORED_LABEL * images if "labels" in job.inputs else BYTES["score"][1] * tags
    if job.stage in WHOLE:
        return 1000.0 + FILE
    if job.stage == "fit":
        once, each = getattr(job.part, "leaves", TRAINING)
        return float(once + (scale * each + FILE * (each > 0)) * images)
    image, tag = BYTES.get(job.stage, BYTES["label"])
    return scale * (image * images + tag * tags) + FILE * images


def _guess(job: Job, scale: float) -> float:
    """Seconds for one piece of a job's work, on images of `scale` times a 375x500 image's pixels."""
    if job.stage == "fit":
        return float(getattr(job.part, "fit_cost", 0.1))  # training crops are as large as the part says
    if job.stage == "speed":
        parts = [p for p in (job.part.cam, job.part.matting) if p]
        return scale * sum(float(getattr(p, "cost", 0.1)) for p in parts) / len(job.split)
    views = VIEWS if job.stage == "views" else 1
    return scale * (SECONDS.get(job.stage) or views * float(getattr(job.part, "cost", 0.1)))


def _pixels(plan: Plan) -> float:
    """Pixels of the first image of the plan: enough for a forecast."""
    for job in plan.jobs.values():
        for sample in job.split.samples[:1]:
            try:
                height, width = sample.read().shape[:2]
            except BenchError:
                break
            return float(height * width)
    return float(REFERENCE_PIXELS)
