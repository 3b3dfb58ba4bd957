"""Trainings as real processes: each is given exactly what the stages before it made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import photos
import pytest
from calling import STUBS, environment
from PIL import Image

from matlabel_bench import registry
from matlabel_bench.cells import Cell
from matlabel_bench.fit import arithmetic_of
from matlabel_bench.images import enlarge
from matlabel_bench.label import make_scores
from matlabel_bench.runner import run
from matlabel_bench.store import read_json

TABLE = """
[[columns]]
name = "maps"
refine = ["stub-maps"]
[[columns]]
name = "scores"
refine = ["stub-scores"]
threshold = "mask-free"
[[columns]]
name = "network"
segment = "stub-segmenter"
[[rows]]
name = "matted"
cam = "stub-cam"
matting = "stub-learned"
[[rows]]
name = "truth"
labels = "masks"
"""
TAGS = {"a": [1], "b b": [1, 2]}
"""The images of split train."""


@dataclass(frozen=True)
class Done:
    """What a run left: its cells, its store, and the calls of its parts."""

    cells: dict[tuple[str, str], Cell]
    code: int
    store: Path
    calls: list[str]

    def slots(self, stage: str, part: str = "", split: str = "train") -> list[Path]:
        """Folders of the finished jobs of a stage."""
        found = []
        for path in sorted((self.store / stage).glob("*/record.json")):
            told = read_json(path)
            if (told["part"], told["split"]["name"]) == (part, split) and (path.parent / "done.json").is_file():
                found.append(path.parent / "files")
        return found

    def slot(self, stage: str, part: str = "", split: str = "train") -> Path:
        (only,) = self.slots(stage, part, split)
        return only

    def seen(self, part: str) -> list[dict]:
        return [json.loads((folder / "seen.json").read_text()) for folder in self.slots("fit", part)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """One run with five trainings."""
    folder = tmp_path_factory.mktemp("fits")
    photos.write_splits(folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STUBS))
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        patch.setenv("STUB_CALLS", str(folder / "calls"))
        patch.chdir(folder)
        registry.start.cache_clear()
        said: list[str] = []
        result = run(photos.experiment(TABLE, photos.SPLITS, out=folder / "out"), said.append)
        calls = (folder / "calls").read_text().splitlines()
        cells = {(c.row, c.column): c for c in result.cells["t"]}
        yield Done(cells, result.code, folder / "store", calls)
    registry.start.cache_clear()


def planes(folder: Path, image: str) -> np.ndarray:
    """Stacked planes as a reader without this program's code would take them apart: float32 k h w in [0, 1]."""
    with Image.open(folder / f"{image}.png") as picture:
        return np.asarray(picture).reshape(-1, 20, 24).astype(np.float32) / 255


def digests(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    from stub_parts import digest

    return {name: digest(array) for name, array in arrays.items()}


def labels(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(Image.open(folder / f"{name}.png")) for name in TAGS}


def test_everything_is_measured_and_the_rest_has_a_reason(done: Done) -> None:
    assert done.code == 0
    status = {where: cell.status for where, cell in done.cells.items()}
    assert status == {
        ("matted", "maps"): "measured",
        ("matted", "scores"): "measured",
        ("matted", "network"): "measured",
        ("truth", "maps"): "missing",
        ("truth", "scores"): "missing",
        ("truth", "network"): "measured",
    }
    assert done.cells["truth", "maps"].reason == "the masks are its labels: there is nothing to score"
    maps, scores = done.cells["matted", "maps"], done.cells["matted", "scores"]
    assert (maps.threshold, maps.threshold_rule) == (0.4, "fixed")
    assert scores.threshold_rule == "mask-free"
    assert {c.supervision for w, c in done.cells.items() if w[0] == "matted"} == {"tags"}
    assert done.cells["truth", "network"].supervision == "tags+masks"


def test_a_training_goes_on_from_its_stem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """stub-onward takes over what its stem left, and its maps want the steps that the stem has."""
    photos.write_splits(tmp_path / "photos")
    monkeypatch.syspath_prepend(str(STUBS))
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    monkeypatch.chdir(tmp_path)
    registry.start.cache_clear()
    table = '[[columns]]\nname = "C"\n[[rows]]\nname = "onward"\ncam = "stub-onward"\n'
    result = run(photos.experiment(table, photos.SPLITS, out=tmp_path / "out"), lambda line: None)
    registry.start.cache_clear()
    assert (result.code, result.cells["t"][0].status) == (0, "measured")


def test_the_arithmetic_of_a_training_is_read_where_it_is_told(tmp_path: Path) -> None:
    assert arithmetic_of(tmp_path) == ""
    for text, want in (('{"arithmetic": "bfloat16"}', "bfloat16"), ('{"part": "other"}', ""), ("[1]", ""), ("{", "")):
        (tmp_path / "training.json").write_text(text)
        assert arithmetic_of(tmp_path) == want


def test_a_matting_is_trained_on_images_and_tags_alone(done: Done) -> None:
    assert done.seen("stub-learned") == [{"seed": 5, "tags": TAGS, "given": {}}]


def test_a_refiner_that_takes_maps_is_trained_on_the_alphas_of_the_label_split(done: Done) -> None:
    alpha = {name: planes(done.slot("alpha", "stub-learned"), name) for name in TAGS}
    assert {name: len(a) for name, a in alpha.items()} == {"a": 1, "b b": 2}
    assert set(np.unique(alpha["a"])) == {np.float32(0), np.float32(153 / 255), np.float32(1)}, "0.6 in 8 bit between"
    assert done.seen("stub-maps") == [{"seed": 5, "tags": TAGS, "given": digests(alpha)}]


def test_a_refiner_that_takes_scores_is_trained_on_them_at_the_label_splits_own_threshold(done: Done) -> None:
    threshold = read_json(done.slot("threshold") / "threshold.json")["threshold"]
    scores = {}
    for name in TAGS:
        with np.load(done.slot("maps", "stub-cam") / f"{name}.npz", allow_pickle=False) as stored:
            maps = enlarge(stored["cams"].astype(np.float32), (20, 24))
        scores[name] = make_scores(planes(done.slot("alpha", "stub-learned"), name), threshold, maps)
    assert done.seen("stub-scores") == [{"seed": 5, "tags": TAGS, "given": digests(scores)}]


def test_segmenters_are_trained_on_pseudo_labels_or_on_masks(done: Done, tmp_path: Path) -> None:
    pseudo = labels(done.slot("label"))
    truth = labels(done.store.parent / "photos/masks")
    given = [seen["given"] for seen in done.seen("stub-segmenter")]
    assert sorted(map(str, given)) == sorted(map(str, [digests(pseudo), digests(truth)]))
    alpha = planes(done.slot("alpha", "stub-learned"), "a")
    np.testing.assert_array_equal(pseudo["a"], np.where(alpha[0] > 0.5, 1, 0), "alphas at their protocol's threshold")


def test_a_segmenters_masks_are_scored_on_the_other_split(done: Done) -> None:
    """The masks of train hold 64 pixels of class 1 and 60 of class 2 an image: the stub says 1 everywhere."""
    (cell,) = (c for w, c in done.cells.items() if w == ("truth", "network"))
    assert (cell.split, cell.images, cell.classes) == ("val", 2, 3)
    assert cell.value == pytest.approx(100 * (64 / 480) / 3, abs=1e-3), "no background, no class 2"
    folders = done.slots("segment", "stub-segmenter", "val")
    assert len(folders) == 2
    assert all(sorted(p.name for p in f.iterdir()) == ["%C3%A7.png", "b b.png"] for f in folders)


def test_an_image_of_both_splits_is_worked_on_once_and_has_one_file(done: Done) -> None:
    counts = Counter(done.calls)
    assert Counter(call.split()[0] for call in counts) == {"cam": 3, "matting": 3}, "a, b b and ç"
    assert set(counts.values()) == {1}
    for stage, part, suffix in (("maps", "stub-cam", "npz"), ("trimap", "", "png"), ("alpha", "stub-learned", "png")):
        one, other = (done.slot(stage, part, s) / f"b b.{suffix}" for s in ("train", "val"))
        assert one.samefile(other), stage
        assert one.stat().st_nlink == 2


def test_a_job_file_tells_all_and_holds_no_secret_of_the_data_set(done: Done) -> None:
    (folder,) = done.slots("fit", "stub-scores")
    job = read_json(folder.parent / "job.json")
    assert (job["kind"], job["name"], job["split"], job["seed"]) == ("refiner", "stub-scores", "train", 5)
    assert job["fields"] == {"threshold": 0.4, "backbone": "tiny", "weights": ""}
    assert job["dataset"]["name"] == "stub-photos"
    given = {k: v for k, v in job["inputs"].items() if v is not None}
    assert set(given) == {"maps", "alpha", "threshold"}
    assert Path(given["alpha"]) == done.slot("alpha", "stub-learned")
