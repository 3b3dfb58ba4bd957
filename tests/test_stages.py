"""What workers do to one image: files that come back as they were, images without classes, odd ids, equal values."""

from __future__ import annotations

import errno
import os
import pickle
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import photos
import pytest
from PIL import Image

from matlabel_bench import planes, stages
from matlabel_bench.errors import DataError, MattingFailed
from matlabel_bench.handover import Inputs, load_maps, load_scores, load_seed, load_views, output
from matlabel_bench.images import read_label
from matlabel_bench.planes import read_planes, write_planes
from matlabel_bench.score import Tallies
from matlabel_bench.stages import Task, run_chunk
from matlabel_bench.trimap import TrimapRule
from matlabel_bench.types import Sample
from matlabel_bench.uncertainty import UncertaintyRule, uncertain_trimap

ODD_IDS = ("a/b", "a%2Fb", "a b", "ç☃", "..", ".hidden", "x" * 100, 'q"\\?*')


@dataclass(frozen=True)
class Says:
    """A part whose live function is given; frozen and hashable, as parts are."""

    live: Any

    def open(self, out: Path | None) -> Any:
        return self.live


@dataclass(frozen=True)
class Masks:
    mask: Any

    def masks(self, split: str) -> Any:
        return None if self.mask is None else lambda image: self.mask()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = photos.write(tmp_path / "photos") / "images/a.png"
    for name in ("maps", "trimap", "alpha", "refine"):
        (tmp_path / name).mkdir()
    return path


def task(stage: str, folder: Path, **more: Any) -> Task:
    inputs = Inputs(**{k: more.pop(k) for k in [f.name for f in fields(Inputs)] if k in more})
    given = {"name": "part", "part": None, "dataset": None, "out": folder / stage, "split": "train", "classes": 2}
    return Task(stage=stage, inputs=inputs, **(given | more))


def do(job: Task, sample: Sample) -> stages.Outcome:
    (outcome,) = run_chunk(job, [sample])
    return outcome


def ramp(image: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Maps on a grid of 5 x 6: a ramp, and for a second class the same one."""
    plane = np.linspace(0, 1, 30, dtype=np.float32).reshape(5, 6)
    return np.repeat(plane[None], len(tags), axis=0)


# Files ---------------------------------------------------------------------------------------------------------------


def test_every_id_has_a_file_of_its_own_in_the_folder(tmp_path: Path) -> None:
    for stage in ("maps", "alpha"):
        paths = [output(stage, tmp_path, i) for i in ODD_IDS]
        assert len({p.name.lower() for p in paths}) == len(ODD_IDS)
        for path in paths:
            assert path.parent == tmp_path
            assert not path.name.startswith("."), "hidden files are work in progress to the store"
            path.write_bytes(b"x")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_planes_and_notes_come_back(tmp_path: Path, count: int) -> None:
    given = np.random.default_rng(0).integers(0, 256, (count, 4, 5)).astype(np.uint8)
    path = tmp_path / "a.png"
    write_planes(path, given, (4, 5), {"fallback": ["ä"], "classes": count})
    got, notes = read_planes(path)
    assert got.shape == (count, 4, 5)
    assert (got == given).all()
    assert notes == {"fallback": ["ä"], "classes": count, "planes": count}
    with Image.open(path) as handle:
        assert (handle.mode, handle.size) == ("L", (5, 4 * max(count, 1)))


def test_foreign_and_damaged_planes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (5, 4)).save(path)
    with pytest.raises(DataError, match="planes that this program wrote"):
        read_planes(path)
    write_planes(path, np.zeros((3, 40, 50), np.uint8), (40, 50), {})
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content.replace(b'"planes": 3', b'"planes": 7'), b"", content[:8]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="bench store verify"):
            read_planes(path)
    with pytest.raises(DataError, match=r"no\.png"):
        read_planes(tmp_path / "no.png")
    assert planes.CHUNK == "matlabel"


def test_maps_are_kept_on_their_grid_and_come_back_at_the_images_size(tmp_path: Path, picture: Path) -> None:
    sample = Sample("a/ç", picture, (1, 2))
    job = task("maps", tmp_path, part=Says(ramp))
    assert do(job, sample).error is None
    with np.load(output("maps", job.out, sample.id), allow_pickle=False) as stored:
        assert (stored["cams"].dtype, stored["cams"].shape) == (np.float16, (2, 5, 6))
        assert stored["size"].tolist() == [20, 24]
    maps = load_maps(task("trimap", tmp_path, maps=job.out).inputs, sample)
    assert (maps.dtype, maps.shape) == (np.float32, (2, 20, 24))
    assert maps.min() >= 0
    assert maps.max() == pytest.approx(1, abs=1e-3)
    assert maps[0, 0, 0] == 0
    for damage in (b"", b"damaged", output("maps", job.out, sample.id).read_bytes()[:-30]):
        output("maps", job.out, sample.id).write_bytes(damage)
        with pytest.raises(DataError, match="a file of maps of this program"):
            load_maps(task("trimap", tmp_path, maps=job.out).inputs, sample)


# The whole way -------------------------------------------------------------------------------------------------------


def walk(folder: Path, sample: Sample, solver: Any) -> list[stages.Outcome]:
    maps, trimap, alpha = (folder / n for n in ("maps", "trimap", "alpha"))
    jobs = [
        task("maps", folder, part=Says(ramp)),
        task("trimap", folder, maps=maps, part=TrimapRule()),
        task("alpha", folder, maps=maps, trimap=trimap, part=Says(solver)),
        task("refine", folder, maps=maps, alpha=alpha, threshold=0.5, part=Says(lambda image, tags, scores: scores)),
    ]
    return [do(job, sample) for job in jobs]


def half(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    return np.where(trimap == 128, np.float32(0.7), trimap.astype(np.float32) / 255)


def test_an_image_goes_all_the_way_and_ties_go_to_the_maps(tmp_path: Path, picture: Path) -> None:
    def two(image: np.ndarray, tags: np.ndarray) -> np.ndarray:
        maps = ramp(image, tags)
        maps[1] = maps[1] ** np.float32(0.9)  # the second class leads wherever both are between 0 and 1
        return maps

    sample = Sample("ç/1", picture, (3, 7))
    maps, alpha = tmp_path / "maps", tmp_path / "alpha"
    do(task("maps", tmp_path, part=Says(two)), sample)
    do(task("trimap", tmp_path, maps=maps, part=TrimapRule()), sample)
    assert do(task("alpha", tmp_path, maps=maps, trimap=tmp_path / "trimap", part=Says(half)), sample).error is None
    seed, tie = load_seed(task("refine", tmp_path, maps=maps, alpha=alpha).inputs, sample)
    assert set(np.unique(np.round(seed * 255))) <= {0, 178, 179, 255}
    assert tie is not None
    job = task("refine", tmp_path, maps=maps, alpha=alpha, threshold=0.5, part=Says(lambda i, t, scores: scores))
    assert do(job, sample).error is None
    label = read_label(output("refine", job.out, sample.id), 254)
    equal = (seed[0] == seed[1]) & (seed[0] > 0.5) & (tie[0] != tie[1])
    assert equal.any()
    assert set(np.unique(label[equal])) == {7}, "equal alphas are decided by the maps"
    assert set(np.unique(label)) <= {0, 3, 7}


def test_an_image_without_classes_is_background_all_the_way(tmp_path: Path, picture: Path) -> None:
    sample = Sample("none", picture, ())
    assert [o.error for o in walk(tmp_path, sample, half)] == [None] * 4
    label = read_label(output("refine", tmp_path / "refine", "none"), 254)
    assert label.shape == (20, 24)
    assert not label.any()
    maps, alpha = tmp_path / "maps", tmp_path / "alpha"
    truth = Masks(lambda: np.zeros((20, 24), np.uint8))
    outcome = do(task("score", tmp_path, maps=maps, alpha=alpha, dataset=truth), sample)
    assert outcome.tally is not None
    assert outcome.tally.count.tolist() == [480]
    assert sum(do(task("threshold", tmp_path, maps=maps), sample).notes["histogram"]) == 0


def test_a_solver_that_gives_up_is_replaced_by_the_map_class_by_class(tmp_path: Path, picture: Path) -> None:
    def moody(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        if len(trimap) > 1 or (trimap == 255).mean() > 0.2:
            raise MattingFailed("little foreground", "much of it", "take the map")
        return half(image, trimap)

    def two(image: np.ndarray, tags: np.ndarray) -> np.ndarray:
        maps = ramp(image, tags)
        maps[1] = maps[1] ** 4
        return maps

    sample = Sample("a", picture, (1, 2))
    maps = tmp_path / "maps"
    do(task("maps", tmp_path, part=Says(two)), sample)
    do(task("trimap", tmp_path, maps=maps, part=TrimapRule()), sample)
    outcome = do(task("alpha", tmp_path, maps=maps, trimap=tmp_path / "trimap", part=Says(moody)), sample)
    assert outcome.notes == {"classes": 2, "fallback": ["much of it"]}
    alpha, tie = load_seed(task("score", tmp_path, maps=maps, alpha=tmp_path / "alpha").inputs, sample)
    assert tie is not None
    assert np.abs(alpha[0] - tie[0]).max() <= 0.5 / 255 + 1e-6, "the first class is its map"
    assert np.abs(alpha[1] - tie[1]).max() > 0.1, "the second one is matted"


@dataclass(frozen=True)
class SaysAtOnce(Says):
    together = 16


@dataclass(eq=False)
class AtOnce:
    """A live matting that counts the images it gets together."""

    calls: list[int]
    answer: Any = None

    def __call__(self, image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        self.calls.append(1)
        return half(image, trimap)

    def many(self, images: Any, trimaps: Any) -> list[Any]:
        self.calls.append(len(images))
        if self.answer == "raise":
            raise RuntimeError("one of them is bad")
        alphas: list[Any] = [half(image, trimap) for image, trimap in zip(images, trimaps, strict=True)]
        return alphas[: self.answer] if isinstance(self.answer, int) else [self.answer or alphas[0], *alphas[1:]]


@pytest.mark.parametrize(
    ("answer", "calls"),
    [(None, [2]), ("raise", [2, 1, 1]), (1, [2, 1, 1]), (MattingFailed("a", "b", "c"), [2, 1])],
)
def test_a_matting_of_many_gets_the_images_of_a_chunk(
    tmp_path: Path, picture: Path, answer: Any, calls: list[int]
) -> None:
    samples = [Sample("a", picture, (1,)), Sample("b", picture, (1, 2))]
    maps, live = tmp_path / "maps", AtOnce([], answer)
    for sample in samples:
        do(task("maps", tmp_path, part=Says(ramp)), sample)
        do(task("trimap", tmp_path, maps=maps, part=TrimapRule()), sample)
    job = task("alpha", tmp_path, maps=maps, trimap=tmp_path / "trimap", part=SaysAtOnce(live))
    broken = Sample("c", tmp_path / "nothing.png", (1,))
    outcomes = run_chunk(job, [*samples, broken])
    assert live.calls == calls
    assert [o.error is None for o in outcomes] == [True, True, False]
    assert [o.notes.get("classes") for o in outcomes[:2]] == [1, 2]
    together = {p.name: p.read_bytes() for p in (tmp_path / "alpha").iterdir()}
    for sample in samples:
        do(job, sample)
    assert together == {p.name: p.read_bytes() for p in (tmp_path / "alpha").iterdir()}


def test_a_later_refiner_starts_from_the_label_before_it(tmp_path: Path, picture: Path) -> None:
    sample = Sample("a", picture, (1, 2))

    def label(image: np.ndarray, tags: np.ndarray, scores: np.ndarray) -> np.ndarray:
        out = np.zeros(image.shape[:2], np.uint8)
        out[:5], out[5:9], out[9:11] = 1, 2, 255
        return out

    walk(tmp_path, sample, half)
    output("refine", tmp_path / "refine", "a").unlink()
    maps = tmp_path / "maps"
    assert do(task("refine", tmp_path, maps=maps, threshold=0.15, part=Says(label)), sample).error is None
    scores = load_scores(task("refine", tmp_path, labels=tmp_path / "refine").inputs, sample)
    assert scores.shape == (3, 20, 24)
    assert (scores.sum(axis=0) == 1).all()
    assert scores[1, 0, 0] == scores[2, 5, 0] == scores[0, 9, 0] == 1, "255 starts as background"
    outcome = do(
        task("score", tmp_path, labels=tmp_path / "refine", dataset=Masks(lambda: np.ones((20, 24), np.uint8))), sample
    )
    assert outcome.tally is not None
    assert Tallies.of(["a"], [outcome.tally], 3).confusion().tolist()[1] == [24 * 11, 24 * 5, 24 * 4]


# Ids, labels, networks, views ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Named(Says):
    """A part whose live function wants the image's id."""

    wants_id = True


@dataclass(frozen=True)
class Above:
    """A refiner that takes maps: the first class above its threshold."""

    takes = "maps"

    def open(self, out: Path | None) -> Any:
        return lambda image, tags, maps: np.where(maps[0] > 0.5, tags[0], 0).astype(np.uint8)


def test_a_part_that_wants_the_id_gets_it_last(tmp_path: Path, picture: Path) -> None:
    asked: list[tuple[Any, ...]] = []

    def maps(image: np.ndarray, tags: np.ndarray, *more: Any) -> np.ndarray:
        asked.append(more)
        return ramp(image, tags)

    def label(image: np.ndarray, *more: Any) -> np.ndarray:
        asked.append(more[2:])
        return np.ones(image.shape[:2], np.uint8)

    def network(image: np.ndarray, *more: Any) -> np.ndarray:
        asked.append(more)
        return np.ones(image.shape[:2], np.uint8)

    sample = Sample("ç/1", picture, (1, 2))
    (tmp_path / "segment").mkdir()
    for cls in (Named, Says):
        for job in (
            task("maps", tmp_path, part=cls(maps)),
            task("refine", tmp_path, maps=tmp_path / "maps", threshold=0.5, part=cls(label)),
            task("segment", tmp_path, part=cls(network)),
        ):
            assert do(job, sample).error is None
    assert asked == [("ç/1",)] * 3 + [()] * 3


@dataclass(frozen=True)
class Squared:
    """A matting that takes maps: their squares, some planes of them, or too much."""

    planes: int = 2
    more: float = 0.0
    takes = "maps"

    def open(self, out: Path | None) -> Any:
        return lambda image, maps: maps[: self.planes] ** 2 + np.float32(self.more)


def test_a_matting_that_takes_maps_gets_them_at_the_images_size(tmp_path: Path, picture: Path) -> None:
    sample = Sample("a", picture, (1, 2))
    walk(tmp_path, sample, half)
    maps = tmp_path / "maps"
    job = task("alpha", tmp_path, part=Squared(), maps=maps, out=tmp_path)
    assert do(job, sample).error is None
    alpha, notes = read_planes(output("alpha", tmp_path, "a"))
    want = load_maps(Inputs(maps=maps), sample) ** 2
    np.testing.assert_allclose(alpha / 255, want, atol=0.5 / 255 + 1e-6)
    assert notes == {"classes": 2, "planes": 2}
    for part, words in ((Squared(planes=1), "2 x 20 x 24"), (Squared(more=1.0), r"in \[0.0, 1.0\]")):
        error = do(task("alpha", tmp_path, part=part, maps=maps, out=tmp_path), sample).error
        assert error is not None and re.search(words, error[0])


def test_a_refiner_that_takes_maps_gets_them_before_any_threshold(tmp_path: Path, picture: Path) -> None:
    sample = Sample("a", picture, (1, 2))
    walk(tmp_path, sample, half)
    maps, alpha = tmp_path / "maps", tmp_path / "alpha"
    found = {}
    for name, more in (("maps", {}), ("alpha", {"alpha": alpha}), ("label", {})):
        given = {"labels": tmp_path / "refine"} if name == "label" else {"maps": maps} | more
        out = tmp_path / f"out-{name}"
        out.mkdir()
        assert do(task("refine", tmp_path, part=Above(), out=out, **given), sample).error is None
        found[name] = read_label(out / "a.png", 254)
    np.testing.assert_array_equal(found["maps"], load_maps(Inputs(maps=maps), sample)[0] > 0.5)
    np.testing.assert_array_equal(found["alpha"], load_seed(Inputs(maps=maps, alpha=alpha), sample)[0][0] > 0.5)
    np.testing.assert_array_equal(found["label"], read_label(tmp_path / "refine/a.png", 254) == 1)
    assert (found["maps"] != found["alpha"]).any()


def test_pseudo_labels_are_the_seed_at_its_threshold(tmp_path: Path, picture: Path) -> None:
    sample = Sample("a", picture, (2,))
    do(task("maps", tmp_path, part=Says(ramp)), sample)
    (tmp_path / "label").mkdir()
    assert do(task("label", tmp_path, maps=tmp_path / "maps", threshold=0.3), sample).error is None
    seed = load_maps(Inputs(maps=tmp_path / "maps"), sample)[0]
    np.testing.assert_array_equal(read_label(tmp_path / "label/a.png", 254), np.where(seed > np.float32(0.3), 2, 0))


def test_true_masks_are_written_as_they_are_read(tmp_path: Path, picture: Path) -> None:
    mask = np.array([[0, 1, 255], [2, 2, 0]], np.uint8)
    (tmp_path / "truth").mkdir()
    assert do(task("truth", tmp_path, dataset=Masks(lambda: mask)), Sample("a", picture, (1, 2))).error is None
    with Image.open(tmp_path / "truth/a.png") as written:
        assert written.mode == "P"
        np.testing.assert_array_equal(np.asarray(written), mask)
    outcome = do(task("truth", tmp_path, dataset=Masks(None)), Sample("a", picture, (1,)))
    assert outcome.error is not None
    assert outcome.error[0] == "masks for split 'train'"


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (np.full((20, 24), 3, np.uint8), "3"),  # the data set has two classes
        (np.zeros((20, 23), np.uint8), "20 x 23"),
        (np.zeros((20, 24), np.int64), "int64"),
    ],
)
def test_a_network_answers_with_a_label_of_known_classes(
    tmp_path: Path, picture: Path, label: np.ndarray, said: str
) -> None:
    (tmp_path / "segment").mkdir()
    sample = Sample("a", picture, ())
    good = task("segment", tmp_path, part=Says(lambda image: np.full(image.shape[:2], 2, np.uint8)))
    assert do(good, sample).error is None
    assert (read_label(tmp_path / "segment/a.png", 254) == 2).all(), "tags bind it no more: it was trained on labels"
    outcome = do(task("segment", tmp_path, part=Says(lambda image: label)), sample)
    assert outcome.error is not None
    assert said in outcome.error[1]


def test_views_become_an_uncertain_trimap(tmp_path: Path, picture: Path) -> None:
    """A generator of 5 x 6 cells that always answers with the same ramp: its mirror disagrees, but for the middle."""
    sample = Sample("a", picture, (1, 2))
    (tmp_path / "views").mkdir()
    for stage in ("maps", "views"):
        assert do(task(stage, tmp_path, part=Says(ramp)), sample).error is None
    with np.load(tmp_path / "views/a.npz", allow_pickle=False) as stored:
        assert {n: (stored[n].dtype, stored[n].shape) for n in ("cams", "spread")} == {
            "cams": (np.float16, (2, 5, 6)),
            "spread": (np.float16, (2, 5, 6)),
        }
        assert stored["spread"].max() > stored["spread"][0, :, 2:4].max() > 0
    rule = UncertaintyRule(z=1, floor=0.1)
    given = {"maps": tmp_path / "maps", "views": tmp_path / "views", "part": rule}
    outcome = do(task("trimap", tmp_path, **given), sample)
    assert outcome.notes == {"repaired": [], "classes": 2}
    trimap, notes = read_planes(tmp_path / "trimap/a.png")
    assert notes == {"repaired": [], "classes": 2, "planes": 2}
    want, _ = uncertain_trimap(*load_views(Inputs(views=tmp_path / "views"), sample), rule)
    np.testing.assert_array_equal(trimap, want)
    assert set(np.unique(trimap)) == {0, 128, 255}


def test_a_view_that_breaks_the_contract_is_an_error_of_the_image(tmp_path: Path, picture: Path) -> None:
    def dim(image: np.ndarray, tags: np.ndarray) -> np.ndarray:
        return ramp(image, tags) * np.float32(1 if image.shape[0] == 20 else 0.5)

    (tmp_path / "views").mkdir()
    outcome = do(task("views", tmp_path, part=Says(dim)), Sample("a", picture, (1,)))
    assert outcome.error is not None
    assert outcome.error[1] == "channel 0 with maximum 0.5"
    assert not list((tmp_path / "views").iterdir())


# What goes wrong -----------------------------------------------------------------------------------------------------


def broken(image: np.ndarray, tags: np.ndarray) -> np.ndarray:
    raise RuntimeError("no maps today")


@pytest.mark.parametrize(
    ("live", "said"),
    [
        (broken, "RuntimeError: no maps today (test_stages.py:"),
        (lambda image, tags: exec("raise SystemExit(2)"), "SystemExit: 2"),
        (lambda image, tags: open("nothing.pth"), "FileNotFoundError"),  # noqa: PTH123, SIM115
        (lambda image, tags: np.zeros((1, 2, 2)), "float64, 1 x 2 x 2"),
    ],
)
def test_one_bad_image_does_not_keep_the_others_from_being_done(
    tmp_path: Path, picture: Path, live: Any, said: str
) -> None:
    def sometimes(image: np.ndarray, tags: np.ndarray) -> np.ndarray:
        return live(image, tags) if tags[0] == 9 else ramp(image, tags)

    samples = [Sample("a", picture, (1,)), Sample("b", picture, (9,)), Sample("c", picture, (1,))]
    outcomes = run_chunk(task("maps", tmp_path, part=Says(sometimes)), samples)
    assert [o.error is None for o in outcomes] == [True, False, True]
    assert said in str(outcomes[1].error)
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == ["a.npz", "c.npz"]
    assert pickle.loads(pickle.dumps(outcomes)) == outcomes, "outcomes travel between processes"  # noqa: S301


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_ends_the_chunk(tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    do(task("maps", tmp_path, part=Says(ramp)), Sample("a", picture, (1,)))
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        job = task("trimap", tmp_path, maps=tmp_path / "maps", part=TrimapRule())
        with pytest.raises(OSError, match="trimap") as err:
            do(job, Sample("a", picture, (1,)))
    assert err.value.errno == code


def test_a_stages_folder_that_vanishes_ends_the_chunk(tmp_path: Path, picture: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        do(task("maps", tmp_path, part=Says(ramp), out=tmp_path / "file" / "files"), Sample("a", picture, (1,)))


def test_a_split_without_masks_cannot_be_scored(tmp_path: Path, picture: Path) -> None:
    outcome = do(task("score", tmp_path, maps=tmp_path / "maps", dataset=Masks(None)), Sample("a", picture, (1,)))
    assert outcome.error is not None
    assert outcome.error[0] == "masks for split 'train'"
