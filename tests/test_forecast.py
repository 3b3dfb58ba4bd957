"""What a plan will cost: from what parts say, then from what was seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import photos
import pytest

from matlabel_bench import forecast, plan, registry
from matlabel_bench.config import Options, resolve
from matlabel_bench.files import write_bytes
from matlabel_bench.jobs import Job, Jobs
from matlabel_bench.plan import Plan
from matlabel_bench.types import Sample, Split
from matlabel_bench.uncertainty import spread


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


def test_what_another_device_took_tells_nothing(planned: Plan) -> None:
    before = row(planned, "fit")["seconds"]
    for device, seconds, expected in (("cuda", 50.0, before), ("cpu", 70.0, 7.0 * 3 * 20)):
        slot = planned.store.slot("fit", device)
        with planned.store.claim(slot, {"part": "stub-trained", "items": 10, "device": device}, print):
            planned.store.finish(slot, seconds, {})
        assert row(planned, "fit")["seconds"] == expected


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


def split(*tags: int) -> Split:
    names = tuple(f"c{n}" for n in range(1, 21))
    images = tuple(Sample(f"i{n}", Path(f"{n}.jpg"), tuple(range(1, k + 1))) for n, k in enumerate(tags))
    return Split("sizes", f"of {tags}", names, images)


def size(job: Job, scale: float = 1.0) -> float:
    return forecast._bytes(job, scale, sum(len(s.tags) for s in job.split))


def job(stage: str, images: Split, name: str = "", part: object = None, **inputs: Job) -> Job:
    return Jobs().add(stage, name, part, images, None, inputs)


@pytest.mark.parametrize("stage", ["maps", "views", "trimap", "alpha", "refine", "segment", "score"])
def test_classes_take_room_of_their_own(stage: str) -> None:
    none, one, three = (size(job(stage, split(k, k))) for k in (0, 1, 3))
    assert three - one == pytest.approx(2 * (one - none))
    assert one > none


def test_sizes_are_those_of_voc_images() -> None:
    """Megabytes on disk of finished keys, 443 images with 527 tags (means over keys; light profile, voc12-animals)."""
    images = split(*[0] * 3, *[1] * 356, *[2] * 81, *[3] * 3)
    for stage, megabytes in (("maps", 3.4), ("trimap", 2.2), ("alpha", 16.6), ("refine", 2.6)):
        assert size(job(stage, images), 0.957) / 1e6 == pytest.approx(megabytes, rel=0.15), stage


def test_scores_of_labels_are_smaller_than_those_of_maps() -> None:
    images = split(1, 2)
    of_maps = job("score", images, maps=job("maps", images))
    of_labels = job("score", images, labels=job("refine", images))
    assert size(of_labels) < size(of_maps) / 5


@pytest.mark.parametrize(
    ("kind", "name", "fields", "megabytes"),
    [
        ("cam", "cam", {"backbone": "resnet50"}, 94.4),
        ("cam", "d2cam", {"backbone": "mobilenet_v2"}, 9.4),
        ("cam", "recam", {"backbone": "mobilenet_v2"}, 9.4),
        ("segmenter", "deeplab_v2", {"backbone": "resnet101"}, 176.6),
        ("matting", "matteformer", {"size": "swin_t"}, 179.6),
    ],
)
def test_a_training_leaves_its_network(kind: str, name: str, fields: dict[str, str], megabytes: float) -> None:
    part = registry.start()[0].make(kind, name, **fields)
    assert size(job("fit", split(1), name, part)) / 1e6 == pytest.approx(megabytes, rel=0.05)
    assert size(job("fit", split(1), "other")) == forecast.TRAINING[0]


def test_a_refiner_that_mines_labels_leaves_them_too() -> None:
    part = registry.start()[0].make("refiner", "irn")
    few, many = (size(job("fit", split(*[1] * n), "irn", part)) for n in (1, 1001))
    assert many - few == pytest.approx(1000 * size(job("label", split(1))), rel=0.05)


def test_views_are_priced_as_often_as_the_generator_is_asked() -> None:
    cams, asked = registry.start()[0].make("cam", "cam", backbone="small"), []

    def live(image: np.ndarray, tags: np.ndarray) -> np.ndarray:
        asked.append(image.shape)
        return np.ones((len(tags), 2, 2), np.float32)

    spread(live, np.zeros((16, 16, 3), np.uint8), np.array([1], np.uint8))
    images = split(1)
    assert forecast._guess(job("views", images, "cam", cams), 1.0) == len(asked) * cams.cost


def test_a_large_forecast_is_in_gigabytes(planned: Plan) -> None:
    rows = [{"state": "to do", "seconds": 2.0, "megabytes": 1234.0}, {"state": "done", "seconds": 0, "megabytes": 9e9}]
    assert (
        forecast.summary(planned, rows) == "2 jobs, 1 of them in the store; the rest: about 0:01 on 2 workers, 1.2 GB"
    )
    assert forecast.summary(planned, rows[1:]).endswith(" 0 MB")


@pytest.mark.parametrize("name", ["knn", "closed_form", "lbdm", "random_walk"])
def test_a_matting_costs_what_its_backend_does(name: str) -> None:
    """By bench perf PyMatting takes three to a hundred times what the native solvers take."""
    parts, images = registry.start()[0], split(1)
    native, other = (parts.make("matting", name, backend=b) for b in ("native", "pymatting"))
    seconds = [forecast._guess(job("alpha", images, name, part), 1.0) for part in (native, other)]
    assert 3 < seconds[1] / seconds[0] < 100
