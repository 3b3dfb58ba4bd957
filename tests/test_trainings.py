"""Trainings beside each other: how many threads each gets."""

from __future__ import annotations

from pathlib import Path

import photos
import pytest

from matlabel_bench import plan
from matlabel_bench.runner import Runner

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
    ("workers", "device", "first", "second"),
    [(8, "cpu", 2, 4), (2, "cpu", 1, 1), (1, "cpu", 1, 1), (8, "cuda", 8, 8)],
)
def test_threads_follow_from_the_plan_alone(
    tmp_path: Path, stubs: None, monkeypatch: pytest.MonkeyPatch, workers: int, device: str, first: int, second: int
) -> None:
    """Of two seeds, four trainings need no other (CAM, segmenter on the plain CAM), two wait for a CAM.

    On a GPU one training runs at a time, and has all cores.
    """
    photos.write(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    planned = plan.make(photos.experiment(TABLE, seeds=(0, 1), workers=workers, device=device))
    trainings = Runner(planned, print).trainings
    got: dict[bool, list[int]] = {False: [], True: []}
    for job in planned.jobs.values():
        if job.stage == "fit":
            waits = any(other.stage == "fit" and other is not job for other in job.upstream())
            got[waits].append(trainings.threads(job))
    assert got == {False: [first] * 4, True: [second] * 2}
