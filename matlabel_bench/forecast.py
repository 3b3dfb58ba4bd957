"""What a plan will cost, before anything runs: from what the store has seen, else from what parts say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matlabel_bench.console import clock
from matlabel_bench.errors import BenchError
from matlabel_bench.jobs import Job, items_of
from matlabel_bench.plan import Plan

if TYPE_CHECKING:
    import pandas as pd

SECONDS = {"trimap": 0.02, "label": 0.02, "truth": 0.02, "threshold": 0.02, "score": 0.03}
"""Of a 375x500 image on one core, for stages of the core; parts say theirs in `cost` and `fit_cost`."""
BYTES = {"maps": 12_000, "views": 24_000, "trimap": 4_000, "alpha": 60_000, "score": 2_000}
LABEL = 5_000
WHOLE = ("threshold", "speed")
"""Of a 375x500 image."""
WEIGHTS = 100_000_000
"""Bytes of a training's weights and last checkpoint."""
REFERENCE_PIXELS = 375 * 500


def forecast(plan: Plan) -> list[dict[str, Any]]:
    """A record a job: stage, part, seed, images, state (done, begun, to do), seconds on one core, megabytes."""
    rates, scale = plan.store.rates(), _pixels(plan) / REFERENCE_PIXELS
    out = []
    for job in plan.jobs.values():
        slot = plan.slot(job)
        if slot.done:
            state, seconds, size = "done", 0.0, float(slot.report()["bytes"])
        else:
            state = "begun" if slot.files.is_dir() and any(slot.files.iterdir()) else "to do"
            rate = rates.get((job.stage, job.name)) or _guess(job) * scale
            seconds = rate * items_of(job)
            size = _bytes(job, scale)
        row = {"stage": job.stage, "part": job.name, "seed": job.seed, "images": len(job.split), "state": state}
        out.append(row | {"seconds": round(seconds, 1), "megabytes": round(size / 1e6, 2), "key": job.key[:12]})
    return out


def frame(plan: Plan) -> pd.DataFrame:
    """`forecast` as a pandas frame."""
    import pandas as pd

    return pd.DataFrame(forecast(plan))


def summary(plan: Plan) -> str:
    """One sentence: jobs, how many are there already, time and disk for the rest."""
    rows = forecast(plan)
    left = [r for r in rows if r["state"] != "done"]
    workers = plan.experiment.options.workers
    seconds = sum(r["seconds"] for r in left) / max(1, workers)
    disk = sum(r["megabytes"] for r in left)
    there = len(rows) - len(left)
    rest = f"about {clock(seconds)} on {workers} workers, {disk:,.0f} MB"
    return f"{len(rows)} jobs, {there} of them in the store; the rest: {rest}"


def _bytes(job: Job, scale: float) -> float:
    if job.stage in WHOLE:
        return 1000.0
    return WEIGHTS if job.stage == "fit" else BYTES.get(job.stage, LABEL) * scale * len(job.split)


def _guess(job: Job) -> float:
    if job.stage == "fit":
        return float(getattr(job.part, "fit_cost", 0.1))
    if job.stage == "speed":
        return sum(float(getattr(p, "cost", 0.1)) for p in (job.part.cam, job.part.matting) if p) / len(job.split)
    views = 5 if job.stage == "views" else 1
    return SECONDS.get(job.stage) or views * float(getattr(job.part, "cost", 0.1))


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
