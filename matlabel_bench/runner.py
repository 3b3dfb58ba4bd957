"""Executes a plan: trainings beside image stages, what is in the store taken, what fails turned into a reason.

Interrupted runs go on where they stopped: an image stage loses at most the images that were in a worker's hands, a
training the steps since its last checkpoint.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matlabel_bench import fields, progress, record, registry
from matlabel_bench.config import Experiment
from matlabel_bench.console import Bar, clock
from matlabel_bench.errors import BenchError, DataError
from matlabel_bench.fit import Fit
from matlabel_bench.plan import Job, Plan, items_of
from matlabel_bench.score import Tallies, otsu
from matlabel_bench.stages import Outcome, Task, output, run_chunk
from matlabel_bench.store import read_json, write_json
from matlabel_bench.workers import Workers

Say = Callable[[str], None]
POLL = 0.5
TALLIES, THRESHOLD = "tallies.npz", "threshold.json"


@dataclass
class Running:
    """A training under way, with the lock it holds."""

    job: Job
    fit: Fit
    lock: ExitStack
    bar: Bar


class Runner:
    """Runs the jobs of a plan. `failures` afterwards holds the reason for every job that could not be done."""

    def __init__(self, plan: Plan, say: Say) -> None:
        options = plan.experiment.options
        self.plan, self.say, self.store = plan, say, plan.store
        self.workers = Workers(options.workers, options.scheduler)
        self.failures: dict[str, str] = {}
        self.running: list[Running] = []
        self.count = 0

    def run(self) -> None:
        """Do every job, whatever becomes of others. Raises OSError (full disk) and KeyboardInterrupt."""
        todo = [j for j in self.plan.jobs.values() if not self._taken(j)]
        self.total = len(todo)
        try:
            while todo or self.running:
                self._collect()
                todo = [j for j in todo if not self._taken(j) and not self._lost(j)]
                ready = [j for j in todo if all(self._taken(i) for i in j.inputs.values())]
                if self._start_fits([j for j in ready if j.stage == "fit"], todo):
                    todo = [j for j in todo if not any(r.job is j for r in self.running)]
                    continue
                if images := [j for j in ready if j.stage != "fit"]:
                    self._images(images[0])
                elif self.running:
                    time.sleep(POLL)
        finally:
            self._stop_fits()

    def _taken(self, job: Job) -> bool:
        return self.plan.slot(job).done

    def _lost(self, job: Job) -> bool:
        """Whether something the job needs has failed; then it fails for the same reason."""
        for other in job.inputs.values():
            if other.key in self.failures:
                self.failures[job.key] = self.failures[other.key]
                return True
        return job.key in self.failures

    def _fail(self, job: Job, err: BenchError) -> None:
        self.failures[job.key] = f"{job.label}: expected {err.expected}; got {err.got}; {err.remedy}"
        self.say(f"FAILED {job.label}\n{err}")

    def _record(self, job: Job) -> dict[str, Any]:
        return {
            "stage": job.stage,
            "part": job.name,
            "spec": dict(job.spec),
            "items": items_of(job),
            "split": {"dataset": job.split.dataset, "name": job.split.name, "images": len(job.split)},
            "environment": record.environment(),
        }

    def _finished(self, job: Job, seconds: float, notes: Mapping[str, Any]) -> None:
        slot = self.plan.slot(job)
        self.store.finish(slot, seconds, notes)
        _, hooks = registry.start()
        hooks.hook.matlabel_stage_done(stage=job.stage, key=job.key, folder=slot.folder, record=self._record(job))

    # Trainings ---------------------------------------------------------------------------------------------------

    def _start_fits(self, ready: Sequence[Job], todo: Sequence[Job]) -> bool:
        """Start trainings while there is room; whether one was started."""
        options = self.plan.experiment.options
        room = 1 if options.device != "cpu" else self.workers.count
        fits = sum(j.stage == "fit" for j in todo) + len(self.running)
        threads = max(1, self.workers.count // max(1, min(fits, room)))
        started = False
        for job in ready:
            if len(self.running) >= room:
                break
            started |= self._start_fit(job, threads)
        return started

    def _start_fit(self, job: Job, threads: int) -> bool:
        slot, lock = self.plan.slot(job), ExitStack()
        if not lock.enter_context(self.store.claim(slot, self._record(job), self.say)):
            lock.close()
            return True
        data, options = self.plan.experiment.dataset, self.plan.experiment.options
        parts, _ = registry.start()
        spec = {
            "kind": next(e.kind for e in parts if e.cls is type(job.part)),
            "name": job.name,
            "fields": _plain_fields(job.part),
            "dataset": {"name": parts.name_of(data), "fields": _plain_fields(data)},
            "split": job.split.name,
            "seed": job.seed,
        }
        self.count += 1
        self.say(f"[{self.count}/{self.total}] {job.label} on {len(job.split)} images -> {slot.folder}")
        fit = Fit(slot.folder, slot.files, spec, threads=threads, processes=options.processes)
        self.running.append(Running(job, fit, lock, Bar(job.label, 0, "step", self.say)))
        return True

    def _collect(self) -> None:
        """Show how trainings stand and take those that ended."""
        for run in list(self.running):
            if (seen := progress.look(run.fit.out)) is not None:
                run.bar.total, run.bar.unit = seen.total, seen.unit
                run.bar.at(seen.done, seen.note)
            if run.fit.running:
                continue
            self.running.remove(run)
            seconds = time.monotonic() - run.fit.started
            with run.lock:
                if (err := run.fit.error()) is not None:
                    self.store.interrupt(self.plan.slot(run.job), seconds)
                    self._fail(run.job, err)
                    continue
                (run.fit.out / progress.NAME).unlink(missing_ok=True)
                self._finished(run.job, seconds, {})
                self.say(f"  {run.job.label} took {clock(seconds)}")

    def _stop_fits(self) -> None:
        for run in self.running:
            run.fit.stop()
            self.store.interrupt(self.plan.slot(run.job), time.monotonic() - run.fit.started)
            run.lock.close()
        self.running.clear()

    # Stages over images ------------------------------------------------------------------------------------------

    def _images(self, job: Job) -> None:
        slot, start = self.plan.slot(job), time.monotonic()
        self.count += 1
        with self.store.claim(slot, self._record(job), self.say) as work:
            if not work:
                return
            self.say(f"[{self.count}/{self.total}] {job.label} of {len(job.split)} images -> {slot.folder}")
            try:
                outcomes = self._outcomes(job, slot.files)
                notes = _gather(job, outcomes, slot.files)
            except BenchError as err:
                self.store.interrupt(slot, time.monotonic() - start)
                self._fail(job, err)
            except BaseException:
                self.store.interrupt(slot, time.monotonic() - start)
                raise
            else:
                self._finished(job, time.monotonic() - start, notes)

    def _outcomes(self, job: Job, out: Path) -> dict[str, Outcome]:
        """The outcome of every image. Raises DataError naming those that failed, after all others were done."""
        per_image = job.stage not in ("score", "threshold")
        kept = {s.id for s in job.split if per_image and output(job.stage, out, s.id).is_file()}
        left = [s for s in job.split if s.id not in kept]
        outcomes: dict[str, Outcome] = {}
        inline = job.stage == "maps" and getattr(job.part, "device", "cpu") != "cpu"
        limit = max(1, self.workers.count - len(self.running)) if self.running else 0
        work = partial(run_chunk, self._task(job, out))
        with Bar(job.label, len(job.split), "image", self.say) as bar:
            bar.at(len(kept))
            for chunk in self.workers.map(work, left, inline=inline, limit=limit):
                outcomes.update((o.id, o) for o in chunk)
                bar.at(len(kept) + len(outcomes))
                self._collect()
        if failed := [o for o in outcomes.values() if o.error]:
            expected, got, remedy = failed[0].error or ("", "", "")
            more = f" (and {len(failed) - 1} more images: {', '.join(o.id for o in failed[1:4])})" if failed[1:] else ""
            raise DataError(expected, got + more, remedy + "; what was computed is kept")
        return outcomes

    def _task(self, job: Job, out: Path) -> Task:
        files = {name: self.plan.slot(other).files for name, other in job.inputs.items()}
        threshold = job.spec.get("threshold")
        if "threshold" in job.inputs:
            threshold = chosen(self.plan, job.inputs["threshold"])
        return Task(
            stage=job.stage,
            name=job.name,
            part=job.part,
            weights=files.get("fit"),
            maps=files.get("maps"),
            trimap=files.get("trimap"),
            alpha=files.get("alpha"),
            labels=files.get("labels"),
            out=out,
            threshold=threshold,
            dataset=self.plan.experiment.dataset if job.stage == "score" else None,
            split=job.split.name,
        )


def chosen(plan: Plan, job: Job) -> float:
    """The threshold a finished job chose: a mask-free one, or the oracle of a score."""
    files = plan.slot(job).files
    if job.stage == "threshold":
        return float(read_json(files / THRESHOLD)["threshold"])
    return Tallies.load(files / TALLIES).oracle()


def _gather(job: Job, outcomes: Mapping[str, Outcome], out: Path) -> dict[str, Any]:
    """Join what images gave: tallies of a score, a threshold, counts of notes."""
    ids = [s.id for s in job.split]
    if job.stage == "score":
        tallies = [t for i in ids if (t := outcomes[i].tally) is not None]
        Tallies.of(ids, tallies, len(job.split.classes) + 1).save(out / TALLIES)
    if job.stage == "threshold":
        pooled = sum(_histogram(outcomes[i]) for i in ids)
        write_json(out / THRESHOLD, {"threshold": otsu(pooled), "rule": "Otsu on the winning values of all pixels"})
    return _notes(job, out) if job.stage in ("trimap", "alpha") else {}


def _histogram(outcome: Outcome) -> Any:
    import numpy as np

    return np.asarray(outcome.notes["histogram"], dtype=np.int64)


def _notes(job: Job, out: Path) -> dict[str, Any]:
    """Degenerate trimaps and fallbacks of a split, read back from its files: earlier runs made some of them."""
    from matlabel_bench.stages import read_planes

    counts: Counter[str] = Counter()
    for sample in job.split:
        notes = read_planes(output(job.stage, out, sample.id))[1]
        counts["classes"] += int(notes.get("classes", 0))
        counts.update(f"trimap {status}" for status in notes.get("repaired", ()))
        counts["repaired"] += len(notes.get("repaired", ()))
        counts["fallback"] += int("fallback" in notes)
    return dict(counts)


def _plain_fields(part: Any) -> dict[str, Any]:
    return {f.name: fields.plain(getattr(part, f.name)) for f in fields.dataclasses.fields(part)}


def run(experiment: Experiment, say: Say) -> Any:
    """Plan, compute, and write every table of the experiment. See `tables.RunResult`."""
    from matlabel_bench.tables import finish
    from matlabel_bench.plan import make

    plan = make(experiment)
    say(plan.summary())
    runner = Runner(plan, say)
    try:
        runner.run()
    finally:
        result = finish(plan, runner.failures, say)
    return result
