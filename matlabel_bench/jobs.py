"""A job: one stage with one key, and what it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from matlabel_bench import fields
from matlabel_bench.spec import runs_on
from matlabel_bench.types import Split

VERSION = 1
"""Raise when a core stage (trimap, label, score) gives another result for the same inputs; it enters every key."""
ALIKE = ("maps", "views", "trimap", "alpha")
"""Stages whose file of an image depends on that image and on trainings, not on which other images the split has."""

WHOLE = ("score", "threshold", "speed")
"""Stages that leave one file for all images."""


@dataclass(eq=False)
class Job:
    """One stage with one key. Jobs are made by `Jobs.add`, which makes each key only once."""

    stage: str
    name: str
    part: Any
    split: Split
    seed: int | None
    inputs: Mapping[str, Job]
    spec: Mapping[str, Any]
    """What the key is the digest of, in words."""
    key: str = ""

    def __post_init__(self) -> None:
        self.key = _digest(self.spec)

    @property
    def label(self) -> str:
        """How progress and errors call the job."""
        seed = f", seed {self.seed}" if self.stage == "fit" else ""
        return f"{self.stage} {self.name}{seed}" if self.name else self.stage

    @property
    def kin(self) -> str:
        """Equal for jobs that differ in their split alone: they hold the same files for the images they share."""
        if self.stage not in ALIKE:
            return self.key
        inputs = {name: job.kin for name, job in self.inputs.items()}
        return _digest({k: v for k, v in self.spec.items() if k != "images"} | {"inputs": inputs})

    def upstream(self) -> Iterator[Job]:
        """This job and everything it needs, inputs first, each once."""
        seen: dict[str, Job] = {}

        def walk(job: Job) -> None:
            if job.key not in seen:
                for other in job.inputs.values():
                    walk(other)
                seen[job.key] = job

        walk(self)
        yield from seen.values()


class Jobs(dict[str, Job]):
    """Jobs by key, in an order that respects their inputs."""

    def add(
        self, stage: str, name: str, part: Any, split: Split, seed: int | None, inputs: Mapping[str, Job], **more: Any
    ) -> Job:
        """The job of this description; an earlier one where the description is the same."""
        spec = {
            "core": VERSION,
            "stage": stage,
            "part": name,
            "version": getattr(part, "version", 1) if part is not None else None,
            "fields": fields.key_fields(part, training=stage == "fit") if part is not None else {},
            "seed": seed,
            "inputs": {k: j.key for k, j in inputs.items()},
            **more,
        }
        job = Job(stage, name, part, split, seed, dict(inputs), spec)
        return self.setdefault(job.key, job)


def device_of(job: Job) -> str:
    """The kind of device a job computes on: "cpu" or "cuda"."""
    return runs_on(job.part).partition(":")[0]


def items_of(job: Job) -> int:
    """How many pieces of work a job has: images, or image passes of a training."""
    if job.stage != "fit":
        return len(job.split)
    if steps := int(getattr(job.part, "steps", 0)):
        return steps * int(getattr(job.part, "batch", 1)) * int(getattr(job.part, "accumulate", 1))
    return len(job.split) * int(getattr(job.part, "epochs", 1))


def _digest(value: Any) -> str:
    return hashlib.sha256(fields.canonical(value).encode()).hexdigest()[:32]
