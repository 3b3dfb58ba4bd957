"""Labels that IRN learns from: by hand, with the CRF, over a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from matlabel_bench.errors import ContractError, DataError
from matlabel_bench.images import VOC_PALETTE, write_label
from matlabel_bench.progress import Progress, look
from matlabel_bench.types import Image, Sample, Scores, Split, Tags
from matlabel_refiners.crf import Crf
from matlabel_refiners.irn_mining import label_file, mine, mine_split

TAGS = np.array([3, 7], np.uint8)


def as_given(image: Image, tags: Tags, scores: Scores) -> Scores:
    return scores


def maps_of(split: Split) -> dict[str, np.ndarray]:
    """A smooth hill for each tag, greatest in the middle of its square; saturated colours are objects."""
    found = {}
    for sample in split:
        image = sample.read().astype(float)
        planes = [np.clip((image[:, :, t - 1] - image.mean(axis=2)) / 80, 0, 1) for t in sample.tags]
        found[sample.id] = np.array(planes, np.float32).reshape(-1, *image.shape[:2])
    return found


def test_by_hand_without_a_crf() -> None:
    """Above 0.3 the winner, below 0.05 background, between them ignored; equal to a plane counts as background."""
    first = [[0.9, 0.4, 0.2, 0.04, 0.3, 0.05]]
    second = [[0.1, 0.6, 0.1, 0.05, 0.0, 0.0]]
    maps = np.array([first, second], np.float32)
    label = mine(np.zeros((1, 6, 3), np.uint8), TAGS, maps, 0.3, 0.05, as_given)
    assert label.dtype == np.uint8 and label.tolist() == [[3, 7, 255, 0, 255, 0]]


def test_a_crf_decides_on_either_label() -> None:
    """What the high label loses to the CRF is ignored while the low one keeps it, and the other way round."""
    answers = iter(([[0, 3, 0, 3]], [[0, 3, 7, 0]]))

    def drawn(image: Image, tags: Tags, scores: Scores) -> Scores:
        label = np.array(next(answers))
        return np.stack([label == c for c in (0, 3, 7)]).astype(np.float32)

    label = mine(np.zeros((1, 4, 3), np.uint8), TAGS, np.full((2, 1, 4), 0.2, np.float32), 0.3, 0.05, drawn)
    assert label.tolist() == [[0, 3, 255, 3]]


def test_with_the_crf_it_follows_the_edge() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(100, 3, (40, 50, 3))
    image[10:30, 10:35] += (90, -40, 0)
    maps = np.zeros((1, 40, 50), np.float32)
    maps[0, 8:32, 8:37], maps[0, 13:27, 13:32] = 0.15, 0.8  # certain inside, vague beyond the edge
    label = mine(image.astype(np.uint8), TAGS[:1], maps, 0.3, 0.05, Crf().open(None))
    assert set(np.unique(label)) <= {0, 3, 255}
    assert (label[13:27, 13:32] == 3).all() and (label[:6] == 0).all() and (label[:, 40:] == 0).all()


def test_without_tags_all_is_background() -> None:
    label = mine(np.zeros((4, 5, 3), np.uint8), TAGS[:0], np.zeros((0, 4, 5), np.float32), 0.3, 0.05, Crf().open(None))
    assert label.dtype == np.uint8 and not label.any() and label.shape == (4, 5)


def test_maps_of_another_image_are_refused() -> None:
    with pytest.raises(ContractError, match=r"scores of 3 planes, 4 x 5\n.*got 3 x 9 x 9"):
        mine(np.zeros((4, 5, 3), np.uint8), TAGS, np.zeros((2, 9, 9), np.float32), 0.3, 0.05, Crf().open(None))
    with pytest.raises(ContractError, match="float32"):
        mine(np.zeros((4, 5, 3), np.uint8), TAGS, np.zeros((2, 4, 5)), 0.3, 0.05, Crf().open(None))


def test_a_split_is_mined_into_palette_pngs(scenes: Split, tmp_path: Path) -> None:
    mine_split(scenes, maps_of(scenes), tmp_path / "labels", 0.3, 0.05, tmp_path)
    for sample in scenes:
        with PIL.Image.open(label_file(tmp_path / "labels", sample.id)) as picture:
            assert picture.mode == "P" and np.array_equal(picture.getpalette(), VOC_PALETTE.ravel())
            assert set(np.unique(picture)) <= {0, 255, *sample.tags}
            assert set(sample.tags) <= set(np.unique(picture))
    assert look(tmp_path) == Progress(12, 12, "image", "labels to learn from")


def test_what_is_there_is_not_mined_again(scenes: Split, tmp_path: Path) -> None:
    kept = np.full((3, 3), 9, np.uint8)
    (tmp_path / "labels").mkdir()
    write_label(label_file(tmp_path / "labels", "4"), kept)
    maps = maps_of(scenes)
    del maps["4"]
    mine_split(scenes, maps, tmp_path / "labels", 0.3, 0.05, tmp_path)
    assert np.array_equal(PIL.Image.open(label_file(tmp_path / "labels", "4")), kept)
    assert len(list((tmp_path / "labels").glob("*.png"))) == 12


def test_processes_give_the_same(scenes: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        mine_split(scenes, maps_of(scenes), tmp_path / threads, 0.3, 0.05, tmp_path)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in "12")
    assert len(one) == 12 and one == two


def test_launched_processes_share_the_work(scenes: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two begins in the middle, and goes on to what the first has not written."""
    written: list[str] = []
    monkeypatch.setattr(
        "matlabel_refiners.irn_mining.write_label", lambda path, label: (written.append(path.stem), path.touch())
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    for image in ("0", "1", "2"):
        (tmp_path / f"{image}.png").touch()
    mine_split(scenes, maps_of(scenes), tmp_path, 0.3, 0.05, tmp_path / "out")
    assert written == ["6", "7", "8", "9", "10", "11", "3", "4", "5"] and look(tmp_path / "out") is None


def test_ids_may_hold_any_character(scenes: Split, tmp_path: Path) -> None:
    first = scenes.samples[0]
    split = Split("odd", "train", scenes.classes, (Sample("a/b ç", first.path, first.tags),))
    mine_split(split, {"a/b ç": maps_of(scenes)["0"]}, tmp_path / "labels", 0.3, 0.05, tmp_path)
    assert [p.name for p in (tmp_path / "labels").iterdir()] == ["a%2Fb %C3%A7.png"]


def test_missing_maps_are_named(scenes: Split, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the maps of image 0\n.*got none\n.*maps of every image"):
        mine_split(scenes, {}, tmp_path / "labels", 0.3, 0.05, tmp_path)
