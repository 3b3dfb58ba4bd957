"""Executes a plan: trainings beside image stages, what is in the store taken, what fails turned into a reason.

Interrupted runs go on where they stopped: an image stage loses at most the images that were in a worker's hands, a
training the steps since its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matlabel_bench import record, registry
from matlabel_bench.cells import Cell
from matlabel_bench.config import Experiment
from matlabel_bench.console import Bar
from matlabel_bench.errors import BenchError, DataError
from matlabel_bench.files import share
from matlabel_bench.forecast import summary
from matlabel_bench.gather import chosen, gather, timed
from matlabel_bench.handover import Inputs, output
from matlabel_bench.jobs import ALIKE, WHOLE, Job, device_of, items_of
from matlabel_bench.plan import Plan, make
from matlabel_bench.spec import together
from matlabel_bench.stages import Outcome, Task, run_chunk
from matlabel_bench.store import Slot
from matlabel_bench.trainings import Trainings
from matlabel_bench.workers import Workers, split

Say = Callable[[str], None]
POLL = 0.5


class Runner:
    """Runs the jobs of a plan. `failures` afterwards holds the reason for every job that could not be done."""

    def __init__(self, plan: Plan, say: Say) -> None:
        options = plan.experiment.options
        self.plan, self.say, self.store = plan, say, plan.store
        self.workers = Workers(options.workers, options.scheduler)
        self.trainings = Trainings(self)
        self.failures: dict[str, str] = {}
        self.todo: list[Job] = []
        self.begun = self.total = 0

    def run(self) -> None:
        """Do every job, whatever becomes of others. Raises OSError (full disk) and KeyboardInterrupt."""
        self.todo = [j for j in self.plan.jobs.values() if not self._taken(j)]
        self.total = len(self.todo)
        for job in self.plan.jobs.values():
            self.store.touch(self.plan.slot(job))
        try:
            while self.todo:
                ready = self._train()
                if images := [j for j in ready if j.stage != "speed"]:
                    self._images(images[0])
                elif self.trainings.running:
                    time.sleep(POLL)
                elif ready:  # what is timed is timed alone
                    self._images(ready[0])
        finally:
            self.trainings.stop()
            self.workers.close()

    def _train(self) -> list[Job]:
        """Deal with trainings that ended, and start what there is room for; all other jobs that could begin now."""
        self._collect()
        self.todo = [j for j in self.todo if not self._taken(j) and not self._lost(j)]
        free = [j for j in self.todo if not self.trainings.holds(j)]
        ready = [j for j in free if all(self._taken(i) for i in j.inputs.values())]
        self.trainings.start([j for j in ready if j.stage == "fit"])
        return [j for j in ready if j.stage != "fit"]

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

    def announce(self, job: Job, slot: Slot) -> None:
        """Say what begins, how many there are, and where its output goes."""
        self.begun += 1
        self.say(f"[{self.begun}/{self.total}] {job.label}, {len(job.split)} images -> {slot.folder}")

    def record(self, job: Job) -> dict[str, Any]:
        return {
            "stage": job.stage,
            "part": job.name,
            "device": device_of(job),
            "spec": dict(job.spec),
            "items": items_of(job),
            "split": {"dataset": job.split.dataset, "name": job.split.name, "images": len(job.split)},
            "environment": record.environment(),
        }

    def _finished(self, job: Job, seconds: float, notes: Mapping[str, Any]) -> None:
        slot = self.plan.slot(job)
        self.store.finish(slot, seconds, notes)
        _, hooks = registry.start()
        hooks.hook.matlabel_stage_done(stage=job.stage, key=job.key, folder=slot.folder, record=self.record(job))

    def _collect(self) -> None:
        for job, seconds, err in self.trainings.collect():
            if err is None:
                self._finished(job, seconds, {})
            else:
                self.store.interrupt(self.plan.slot(job), seconds)
                self._fail(job, err)

    def _images(self, job: Job) -> None:
        slot, start = self.plan.slot(job), time.monotonic()
        with self.store.claim(slot, self.record(job), self.say) as work:
            if not work:
                return
            self.announce(job, slot)
            try:
                outcomes = self._outcomes(job, slot.files)
                notes = gather(job, outcomes, slot.files)
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
        per_image, group = job.stage not in WHOLE, together(job.part)
        if job.stage in ALIKE and group == 1:
            self._borrow(job, out)
        kept = {s.id for s in job.split if per_image and output(job.stage, out, s.id).is_file()}
        if group > 1:  # whole groups, however often the work is interrupted: an image's last bits depend on its group
            groups = split(list(job.split), 1, group)
            kept = {s.id for some in groups if all(s.id in kept for s in some) for s in some}
        left = [s for s in job.split if s.id not in kept]
        left = timed(left) if job.stage == "speed" else left
        outcomes: dict[str, Outcome] = {}
        gpu = device_of(job) != "cpu"
        share = self.plan.experiment.options.per_gpu
        work = partial(run_chunk, task := self._task(job, out))
        if left and not gpu and job.stage in ("alpha", "refine", "segment"):
            # What a library compiles at its first import, it compiles once here and not in each worker. What fails
            # here fails there again, and becomes the reason of a cell.
            with suppress(Exception, SystemExit):
                task.part.open(task.inputs.fit)
        with Bar(job.label, len(job.split), "image", self.say) as bar:
            bar.at(len(kept))
            while left:  # workers are shared out anew whenever a training has ended or begun
                busy = len(self.trainings.running)
                limit = share if gpu else max(1, self.workers.count - busy) if busy else 0
                changed = partial(self._other_than, busy)
                inline, size = gpu and share == 1, group if group > 1 else 0
                for chunk in self.workers.map(work, left, inline=inline, size=size, limit=limit, until=changed):
                    outcomes.update((o.id, o) for o in chunk)
                    bar.at(len(kept) + len(outcomes))
                    if job.stage != "speed":
                        self._train()
                left = [s for s in left if s.id not in outcomes]
        if failed := [o for s in job.split if (o := outcomes.get(s.id)) and o.error]:
            expected, got, remedy = failed[0].error or ("", "", "")
            more = f", and {len(failed) - 1} more: {', '.join(o.id for o in failed[1:4])}" if failed[1:] else ""
            got += f" (image {failed[0].id}{more})"
            raise DataError(expected, got, remedy + "; what was computed is kept")
        return outcomes

    def _other_than(self, busy: int) -> bool:
        return len(self.trainings.running) != busy

    def _borrow(self, job: Job, out: Path) -> None:
        """Take files that the same stage has made for images of another split: nothing is computed twice."""
        for other in self.plan.jobs.values():
            if other.kin != job.kin or other.key == job.key or not self._taken(other):
                continue
            theirs = {s.id: s for s in other.split}
            for sample in job.split:
                source = output(job.stage, self.plan.slot(other).files, sample.id)
                target = output(job.stage, out, sample.id)
                if theirs.get(sample.id) == sample and source.is_file() and not target.exists():
                    share(source, target)

    def inputs(self, job: Job) -> Inputs:
        """Folders of what a job starts from, and the threshold that was fixed or chosen for it."""
        folders = {name: self.plan.slot(other).files for name, other in job.inputs.items() if name != "threshold"}
        threshold = job.spec.get("threshold")
        if "threshold" in job.inputs:
            threshold = chosen(self.plan, job.inputs["threshold"])
        return Inputs(**folders, threshold=threshold)

    def _task(self, job: Job, out: Path) -> Task:
        return Task(
            stage=job.stage,
            name=job.name,
            part=job.part,
            inputs=self.inputs(job),
            out=out,
            dataset=self.plan.experiment.dataset if job.stage in ("score", "truth") else None,
            split=job.split.name,
            classes=len(job.split.classes),
        )


@dataclass(frozen=True)
class RunResult:
    """What a run leaves: cells and folder of each table, and the exit code (0 all measured, 1 a cell failed)."""

    cells: dict[str, list[Cell]]
    folders: dict[str, Path]
    code: int


def run(experiment: Experiment, say: Say) -> RunResult:
    """Plan, compute, and write every table, also where something failed or the run is interrupted.

    Raises:
        UsageError, DataError: before anything is computed. OSError, KeyboardInterrupt: after writing what is there.
    """
    from matlabel_bench import results

    plan = make(experiment)
    results.make_folders(experiment)
    runner = Runner(plan, say)
    say(summary(plan))
    for reason in sorted({c.missing for c in plan.cells if c.missing and not c.row.published}):
        say(f"a dash stands where {reason}")
    try:
        runner.run()
    finally:
        cells, folders = results.write(plan, runner.failures, say)
    failed = any(c.status == "failed" for table in cells.values() for c in table)
    return RunResult(cells, folders, int(failed))
