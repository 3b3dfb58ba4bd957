"""The embedded scenes: the same bytes everywhere, exact masks and alphas, whole or not there at all."""

from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from matlabel_bench import fields, registry, spec
from matlabel_bench.errors import DataError, UsageError
from matlabel_bench.images import read_label
from matlabel_bench.types import Split
from matlabel_datasets import scenes
from matlabel_datasets.salient import saliency
from matlabel_datasets.shapes import CLASSES, Shapes, cache

GOLDEN = "befd675f677cb5a2d1c6c5e1b5e8394981e64bde857c2ed58f0cd38baa251886"
"""SHA-256 of the first three scenes of each split, images and labels. Another value needs a new Shapes.version."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Shapes:
    part: Shapes = registry.start()[0].make(
        "dataset", "shapes", root=tmp_path_factory.mktemp("shapes"), train="10", val="5", test="4"
    )
    part.folder()
    return part


def pixels(path: Path, mode: str) -> np.ndarray:
    with PIL.Image.open(path) as picture:
        assert picture.mode == mode
        return np.array(picture)


def test_the_same_seed_gives_the_same_bytes_everywhere() -> None:
    digest = hashlib.sha256()
    for split in (0, 1):
        for index in range(3):
            scene = scenes.draw(0, split, index, 128)
            digest.update(scene.image.tobytes() + scene.label.tobytes())
    assert digest.hexdigest() == GOLDEN


def test_another_seed_or_split_gives_another_scene() -> None:
    images = [scenes.draw(*which, 128).image for which in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert len({image.tobytes() for image in images}) == 4


def test_masks_follow_from_alphas_and_tags_from_masks(drawn: Shapes) -> None:
    read, alphas = drawn.masks("train"), drawn.alpha_files("train")
    assert read is not None
    for sample in drawn.split("train"):
        label = read(sample.id)
        assert label.shape == sample.read().shape[:2]
        assert tuple(np.unique(label[label > 0])) == sample.tags
        planes = [np.asarray(PIL.Image.open(alphas[sample.id, tag])).astype(int) for tag in sample.tags]
        for tag, plane in zip(sample.tags, planes, strict=True):
            assert ((plane > 128) <= (label == tag)).all() and ((label == tag) <= (plane > 127)).all()
        assert sum(planes).max() <= 255 + len(planes)  # rounding


def test_scenes_are_what_the_documentation_says() -> None:
    drawn = [scenes.draw(0, 0, i, 128) for i in range(60)]
    sides = {n for s in drawn for n in s.label.shape}
    assert min(sides) >= 112 and max(sides) <= 144 and any(n % 8 for n in sides)
    assert {len(s.alphas) for s in drawn} == {1, 2, 3}
    together = sum({1, 2} <= set(s.alphas) for s in drawn), sum({1, 5} <= set(s.alphas) for s in drawn)
    assert together[0] > 2 * together[1]
    assert min(sum(c in s.alphas for s in drawn) for c in range(1, 6)) > 10
    soft = np.mean([((a > 25) & (a < 230)).sum() / (a > 25).sum() for s in drawn for a in s.alphas.values()])
    assert 0.02 < soft < 0.3


def test_bodies_mostly_differ_from_what_lies_around_them() -> None:
    far = []
    for index in range(40):
        scene = scenes.draw(0, 0, index, 128)
        inside, outside = (scene.image[m].mean(0) for m in (scene.label > 0, scene.label == 0))
        far.append(np.abs(inside - outside).sum())
    assert 0.7 < np.mean(np.array(far) > 60) <= 1


def test_the_part_keeps_the_protocol_and_says_that_it_is_synthetic(drawn: Shapes) -> None:
    assert isinstance(drawn, spec.Dataset) and drawn.synthetic
    assert drawn.class_names() == CLASSES and drawn.split_names() == ("train", "train_aug", "val", "test")
    assert [len(drawn.split(n)) for n in drawn.split_names()] == [10, 10, 5, 4]
    assert drawn.split("train_aug").samples == drawn.split("train").samples
    assert isinstance(drawn.split("val"), Split) and drawn.split("val").dataset == "shapes"
    assert list(drawn.mask_files("val")) == [s.id for s in drawn.split("val")]


def test_an_unknown_split_names_its_near_misses(drawn: Shapes) -> None:
    with pytest.raises(DataError, match=r"did you mean 'train'.*known: test, train, train_aug, val"):
        drawn.split("trian")


def test_fields_out_of_bounds_are_refused() -> None:
    with pytest.raises(UsageError, match=r"shapes\.size of at least 64"):
        registry.start()[0].make("dataset", "shapes", size=8)


def test_an_interrupted_drawing_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Shapes(root=str(tmp_path), train=3, val=1)
    real = scenes.draw

    def stop(seed: int, split: int, index: int, size: int) -> scenes.Scene:
        if index == 2:
            raise KeyboardInterrupt
        return real(seed, split, index, size)

    monkeypatch.setattr(scenes, "draw", stop)
    with pytest.raises(KeyboardInterrupt):
        part.folder()
    assert not [p for p in tmp_path.iterdir() if p.suffix not in (".part", ".lock")]
    monkeypatch.setattr(scenes, "draw", real)
    assert len(list((part.folder() / "images").iterdir())) == 4
    assert not list(tmp_path.glob("*.part"))


def _ask(root: str) -> str:
    part = Shapes(root=root, train=4, val=2)
    return hashlib.sha256(b"".join(s.read().tobytes() for s in part.split("train"))).hexdigest()


def test_processes_may_ask_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        answers = pool.map(_ask, [str(tmp_path)] * 3)
    assert len(set(answers)) == 1
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 1


def test_the_default_scenes_keep_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was computed from the scenes stays valid: the number of test scenes enters no key."""
    monkeypatch.setattr(Shapes, "_fill", lambda part, folder: None)
    names = {Shapes(root=str(tmp_path), test=n).folder().name for n in (1, 40)}
    assert names == {"shapes-v1-491e5ace753a"}
    assert fields.key_fields(Shapes(test=1)) == fields.key_fields(Shapes())


def test_masks_of_test_are_out_of_reach(drawn: Shapes) -> None:
    assert drawn.masks("test") is None
    assert drawn.mask_files("test") == {} and drawn.alpha_files("test") == {}
    samples = drawn.split("test").samples
    assert all(s.tags for s in samples) and {len(s.tags) for s in samples} > {1}
    assert not [p for p in samples[0].path.parent.parent.rglob("*") if "masks" in p.parts or "alphas" in p.parts]
    scene = scenes.draw(0, scenes.TEST, 3, 128)
    assert np.array_equal(samples[3].read(), scene.image) and samples[3].tags == tuple(scene.alphas)


def test_folders_are_drawn_when_looked_up_and_no_earlier(tmp_path: Path) -> None:
    part = Shapes(root=str(tmp_path), train=1, val=1)
    folders = part.folders()
    assert list(folders) == ["composites", "saliency"] and len(folders) == 2
    assert "saliency" in folders and "other" not in folders and folders.get("other") is None
    assert not list(tmp_path.iterdir())
    assert folders["saliency"].is_dir() and not list(tmp_path.glob("shapes-composites*"))


def test_saliency_is_a_middling_guess_at_the_objects(drawn: Shapes) -> None:
    folder = drawn.folders()["saliency"]
    samples = [*drawn.split("train"), *drawn.split("val")]
    assert {p.name for p in folder.iterdir()} == {f"{s.id}.png" for s in samples}
    inside, either = 0, 0
    for split in ("train", "val"):
        read = drawn.masks(split)
        assert read is not None
        for sample in drawn.split(split):
            found, object_ = pixels(folder / f"{sample.id}.png", "L"), read(sample.id) > 0
            assert found.shape == object_.shape and found.max() == 255
            inside += ((found >= 96) & object_).sum()
            either += ((found >= 96) | object_).sum()
    assert 0.5 < inside / either < 0.9


def test_composites_are_objects_and_grounds_of_their_own(tmp_path: Path) -> None:
    folder = Shapes(root=str(tmp_path), size=64).folders()["composites"]
    names = {kind: sorted(p.name for p in (folder / kind).iterdir()) for kind in ("fg", "alpha", "bg")}
    assert names["fg"] == names["alpha"] and len(names["fg"]) == 120 and len(names["bg"]) == 60
    soft = 0
    for name in names["fg"][:20]:
        colours, cover = pixels(folder / "fg" / name, "RGB"), pixels(folder / "alpha" / name, "L")
        assert colours.shape == (*cover.shape, 3)
        assert cover.max() == 255 and 0.02 < (cover > 127).mean() < 0.9
        soft += ((cover > 0) & (cover < 255)).sum() > 50
    assert soft == 20
    grounds = {pixels(folder / "bg" / name, "RGB").tobytes() for name in names["bg"]}
    assert len(grounds) == 60


EXTRAS = "061d640472cd79ad805f2950ed31bc23396805bdf0b46428f94d3bea4be5e3b9"
"""SHA-256 of what is drawn beside the scenes, as GOLDEN."""


def test_what_is_drawn_beside_the_scenes_is_the_same_everywhere() -> None:
    scene = scenes.draw(0, scenes.VAL, 1, 128)
    fore, alpha = scenes.draw_foreground(0, 2, 128)
    drawn = (fore, alpha, scenes.draw_background(0, 3, 128), saliency(0, 1, 1, list(scene.alphas.values())))
    assert hashlib.sha256(b"".join(d.tobytes() for d in drawn)).hexdigest() == EXTRAS


def test_each_choice_of_fields_has_its_own_folder_and_where_it_lies_is_no_such_choice(tmp_path: Path) -> None:
    folders = {Shapes(root=str(tmp_path), train=1, val=1, **f).folder().name for f in ({}, {"seed": 1}, {"size": 64})}
    assert len(folders) == 3
    assert Shapes(root=str(tmp_path / "other"), train=1, val=1).folder().name in folders


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MATLABEL_BENCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache() == Path("/xdg/matlabel_bench")
    monkeypatch.setenv("MATLABEL_BENCH_CACHE", "/chosen")
    assert cache() == Path("/chosen")


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="to write the scenes of shapes") as err:
        Shapes(root=str(tmp_path / "file")).folder()
    assert "choose another folder with --data-root" in err.value.remedy


def test_masks_hold_no_ignored_pixel(drawn: Shapes) -> None:
    for path in drawn.mask_files("val").values():
        assert read_label(path, 5).max() <= 5
