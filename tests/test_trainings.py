"""Trainings beside each other: how many threads each gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import photos
import pytest

from matlabel_bench import plan
from matlabel_bench.runner import Runner
from matlabel_bench.workers import Workers

TABLE = """
[[columns]]
name = "Seed"
[[columns]]
name = "network"
segment = "stub-segmenter"
[[rows]]
name = "trained"
cam = "stub-trained"
[[rows]]
name = "plain"
cam = "stub-cam"
"""


@pytest.mark.parametrize(
    ("workers", "device", "per_gpu", "first", "second"),
    [
        (8, "cpu", 1, 2, 4),
        (2, "cpu", 1, 1, 1),
        (1, "cpu", 1, 1, 1),
        (8, "cuda", 1, 8, 8),
        (8, "cuda", 2, 4, 4),
        (8, "cuda", 9, 2, 4),
    ],
)
def test_threads_follow_from_the_plan_alone(
    tmp_path: Path,
    stubs: None,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    device: str,
    per_gpu: int,
    first: int,
    second: int,
) -> None:
    """Of two seeds, four trainings need no other (CAM, segmenter on the plain CAM), two wait for a CAM.

    On a GPU one training runs at a time, and has all cores, unless more are to share it.
    """
    photos.write(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    planned = plan.make(photos.experiment(TABLE, seeds=(0, 1), workers=workers, device=device, per_gpu=per_gpu))
    trainings = Runner(planned, print).trainings
    got: dict[bool, list[int]] = {False: [], True: []}
    for job in planned.jobs.values():
        if job.stage == "fit":
            waits = any(other.stage == "fit" and other is not job for other in job.upstream())
            got[waits].append(trainings.threads(job))
    assert got == {False: [first] * 4, True: [second] * 2}


@pytest.mark.parametrize(("per_gpu", "expected"), [(1, (True, 1)), (3, (False, 3))])
def test_images_on_a_gpu_stay_in_this_process_unless_more_are_to_share_it(
    tmp_path: Path, stubs: None, monkeypatch: pytest.MonkeyPatch, per_gpu: int, expected: tuple[bool, int]
) -> None:
    """What a part on the processor does is spread over all workers all the same."""
    photos.write(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    table = '[[columns]]\nname = "Seed"\n[[rows]]\nname = "plain"\ncam = "stub-cam"\n'
    planned = plan.make(photos.experiment(table, workers=8, device="cuda", per_gpu=per_gpu))
    (maps,) = (job.part for job in planned.jobs.values() if job.stage == "maps")
    monkeypatch.setattr(type(maps), "device", "cuda", raising=False)
    seen: dict[str, tuple[bool, int]] = {}
    real = Workers.map

    def spread(self: Workers, work: Any, items: Any, *, inline: bool, size: int, limit: int, until: Any) -> Any:
        assert size == 0
        seen[work.args[0].stage] = (inline, limit)
        return real(self, work, items, inline=True)

    monkeypatch.setattr(Workers, "map", spread)
    Runner(planned, lambda line: None).run()
    assert seen == {"maps": expected, "score": (False, 0)}
