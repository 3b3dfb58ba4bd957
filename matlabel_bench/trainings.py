"""The trainings of a run: processes beside the image stages, each holding its key's lock until it ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from matlabel_bench import fields, progress, registry
from matlabel_bench.console import Bar, clock
from matlabel_bench.errors import BenchError
from matlabel_bench.fit import Fit
from matlabel_bench.jobs import Job

if TYPE_CHECKING:
    from matlabel_bench.runner import Runner


@dataclass
class Training:
    """One training under way."""

    job: Job
    fit: Fit
    lock: ExitStack
    bar: Bar

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.fit.started


class Trainings:
    """Starts, watches and ends trainings for a runner."""

    def __init__(self, runner: Runner) -> None:
        options = runner.plan.experiment.options
        self.runner = runner
        self.room = options.per_gpu if options.device != "cpu" else runner.workers.count
        self.running: list[Training] = []
        self.peers = Counter(_depth(job) for job in runner.plan.jobs.values() if job.stage == "fit")

    def start(self, ready: Sequence[Job]) -> None:
        """Start trainings while there is room."""
        for job in ready[: self.room - len(self.running)]:
            self._start(job, self.threads(job))

    def threads(self, job: Job) -> int:
        """Of a training: all cores, shared among those of the plan that can run at the same time.

        It depends on the plan alone, not on what is done already or how long others take: the last bits of the weights
        depend on it, and the same command must give them again.
        """
        return max(1, self.runner.workers.count // min(self.room, self.peers[_depth(job)]))

    def holds(self, job: Job) -> bool:
        return any(t.job is job for t in self.running)

    def collect(self) -> Iterator[tuple[Job, float, BenchError | None]]:
        """Show how trainings stand; yields those that ended, with their seconds and what went wrong.

        The lock is released after the caller has dealt with the result.
        """
        for training in list(self.running):
            if (seen := progress.look(training.fit.out)) is not None:
                training.bar.phase(seen.total, seen.unit)
                training.bar.at(seen.done, seen.note)
            if training.fit.running:
                continue
            self.running.remove(training)
            with training.lock, training.bar:
                (training.fit.out / progress.NAME).unlink(missing_ok=True)
                self.runner.say(f"  {training.job.label} ended after {clock(training.seconds)}")
                yield training.job, training.seconds, training.fit.error()

    def stop(self) -> None:
        """End what runs; checkpoints stay for the next run."""
        for training in self.running:
            training.fit.stop()
            self.runner.store.interrupt(self.runner.plan.slot(training.job), training.seconds)
            training.lock.close()
        self.running.clear()

    def _start(self, job: Job, threads: int) -> None:
        runner = self.runner
        slot, lock = runner.plan.slot(job), ExitStack()
        if not lock.enter_context(runner.store.claim(slot, runner.record(job), runner.say)):
            lock.close()
            return
        runner.announce(job, slot)
        processes = runner.plan.experiment.options.processes
        fit = Fit(slot.folder, slot.files, self._spec(job), threads=threads, processes=processes)
        self.running.append(Training(job, fit, lock, Bar(job.label, 0, "step", runner.say)))

    def _spec(self, job: Job) -> dict[str, Any]:
        data = self.runner.plan.experiment.dataset
        parts, _ = registry.start()
        inputs = self.runner.inputs(job)
        return {
            "kind": next(e.kind for e in parts if e.cls is type(job.part)),
            "name": job.name,
            "fields": fields.all_fields(job.part),
            "dataset": {"name": parts.name_of(data), "fields": fields.all_fields(data)},
            "split": job.split.name,
            "seed": job.seed,
            "inputs": {k: v if v is None or k == "threshold" else str(v) for k, v in asdict(inputs).items()},
        }


def _depth(job: Job) -> int:
    """How many trainings come before this one, each of which needs the one before it."""
    return max((_depth(other) + (other.stage == "fit") for other in job.inputs.values()), default=0)
