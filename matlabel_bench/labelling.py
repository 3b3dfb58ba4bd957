"""Masks for a person's own tagged images: the same stages as a table's, without a score."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from matlabel_bench import registry
from matlabel_bench.config import Experiment
from matlabel_bench.errors import BenchError
from matlabel_bench.forecast import summary
from matlabel_bench.handover import output
from matlabel_bench.plan import labels
from matlabel_bench.runner import Runner
from matlabel_bench.store import write_json


def label(experiment: Experiment, out: Path, say: Callable[[str], None]) -> Path:
    """Write one palette PNG an image, classes.txt with the names of its values, and record.json; returns the folder.

    Raises:
        UsageError, DataError: before anything is computed.
        BenchError: a stage failed; what was computed is kept in the store.
    """
    plan, job = labels(experiment)
    say(summary(plan))
    runner = Runner(plan, say)
    runner.run()
    if runner.failures:
        reason = next(iter(runner.failures.values()))
        raise BenchError("every stage to succeed", reason, "mend what it names; the same command goes on from here")
    out.mkdir(parents=True, exist_ok=True)
    folder = plan.slot(job).files
    for sample in job.split:
        path = output("refine", folder, sample.id)
        shutil.copyfile(path, out / path.name)
    names = ["background", *job.split.classes]
    (out / "classes.txt").write_text("".join(f"{i} {n}\n" for i, n in enumerate(names)), encoding="utf-8")
    record = {"stages": {j.key: dict(j.spec) for j in job.upstream()}, "key": job.key}
    write_json(out / "record.json", record | {"dataset": registry.start()[0].name_of(experiment.dataset)})
    return out
