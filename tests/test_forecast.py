"""What a plan will cost: from what parts say, then from what was seen."""

from __future__ import annotations

from pathlib import Path

import photos
import pytest

from matlabel_bench import forecast, plan
from matlabel_bench.config import Options, resolve
from matlabel_bench.files import write_bytes
from matlabel_bench.plan import Plan


@pytest.fixture
def planned(tmp_path: Path, stubs: None, monkeypatch: pytest.MonkeyPatch) -> Plan:
    photos.write(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    Path("p.toml").write_text(photos.PROFILE)
    Path("t.toml").write_text(photos.TABLE)
    return plan.make(resolve(["t.toml"], Options(profile="p.toml", data_root="photos", workers=2)))


def row(planned: Plan, stage: str) -> dict[str, object]:
    return next(r for r in forecast.forecast(planned) if r["stage"] == stage)


def test_a_job_is_to_do_then_begun_then_done(planned: Plan) -> None:
    job = next(j for j in planned.jobs.values() if j.stage == "maps")
    slot = planned.slot(job)
    assert (row(planned, "maps")["state"], row(planned, "maps")["images"]) == ("to do", 3)
    write_bytes(slot.files / "a.npz", b"12")
    assert row(planned, "maps")["state"] == "begun"
    planned.store.finish(slot, 4.0, {})
    done = row(planned, "maps")
    assert (done["state"], done["seconds"]) == ("done", 0)
    assert done["key"] == job.key[:12]


def test_what_was_seen_replaces_what_parts_say(planned: Plan) -> None:
    before = row(planned, "fit")["seconds"]
    with planned.store.claim(planned.store.slot("fit", "other"), {"part": "stub-trained", "items": 10}, print):
        planned.store.finish(planned.store.slot("fit", "other"), 50.0, {})
    after = row(planned, "fit")["seconds"]
    assert before != after
    assert after == 5.0 * 3 * 20, "five seconds an image pass, three images, twenty epochs"


def test_the_summary_counts_what_is_left_on_these_workers(planned: Plan) -> None:
    for stage, part in (("fit", "stub-trained"), ("maps", "stub-cam")):
        slot = planned.store.slot(stage, f"seen-{stage}")
        with planned.store.claim(slot, {"part": part, "items": 1}, print):
            planned.store.finish(slot, 40.0, {})
    text = forecast.summary(planned)
    assert text.startswith("20 jobs, 0 of them in the store; the rest: about 21:0")
    assert "on 2 workers" in text
    frame = forecast.frame(planned)
    assert list(frame.columns) == ["stage", "part", "seed", "images", "state", "seconds", "megabytes", "key"]
    assert len(frame) == 20


def test_a_forecast_does_not_trip_over_a_bad_first_image(planned: Plan) -> None:
    next(iter(planned.jobs.values())).split.samples[0].path.write_bytes(b"")
    assert len(forecast.forecast(planned)) == 20
