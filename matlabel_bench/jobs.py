"""A job: one stage with one key, and what it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from matlabel_bench import fields
from matlabel_bench.types import Split


@dataclass(eq=False)
class Job:
    """One stage with one key. Jobs are made by `Plan.job`, which makes each key only once."""

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
        self.key = hashlib.sha256(fields.canonical(self.spec).encode()).hexdigest()[:32]

    @property
    def label(self) -> str:
        """How progress and errors call the job."""
        seed = f", seed {self.seed}" if self.stage == "fit" else ""
        return f"{self.stage} {self.name}{seed}" if self.name else self.stage

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


def items_of(job: Job) -> int:
    """How many pieces of work a job has: images, or image passes of a training."""
    return len(job.split) * (int(getattr(job.part, "epochs", 1)) if job.stage == "fit" else 1)
