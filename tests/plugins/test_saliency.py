"""NSROM's rule, computed by hand pixel by pixel, and what is said of maps that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from matlabel_bench import registry, spec
from matlabel_bench.contracts import check_label
from matlabel_bench.errors import ContractError, DataError, UsageError
from matlabel_bench.fields import key_fields
from matlabel_datasets.shapes import Shapes
from matlabel_refiners.saliency import Saliency, read_saliency

TAGS = np.array([3, 7], np.uint8)
PLAIN: dict[str, Any] = {"stretch": False, "mining": False, "least": 0.0}
"""The rule about single pixels alone."""


def label(part: Saliency, saliency: list[int], *maps: list[float]) -> list[int]:
    """The rule on an image one pixel high."""
    planes = np.array(maps, np.float32).reshape(len(maps), 1, len(saliency))
    return part.rule(np.array([saliency], np.uint8), planes, TAGS[: len(maps)])[0].tolist()


@pytest.mark.parametrize(
    ("saliency", "first", "second", "wanted"),
    [
        (0, 0.0, 0.0, 0),
        (255, 0.0, 0.0, 255),  # no score at all: background, but salient
        (255, 0.5, 0.0, 3),
        (255, 0.5, 0.6, 7),
        (255, 0.29, 0.0, 255),  # below the threshold
        (255, 0.31, 0.0, 3),
        (20, 0.5, 0.0, 0),  # background scores 0.92
        (20, 0.85, 0.0, 255),  # and wins, but the class is sure
        (20, 0.95, 0.0, 255),  # two scores above 0.9
        (255, 0.95, 0.92, 255),
        (255, 0.95, 0.9, 3),
        (31, 0.0, 0.0, 0),
        (32, 0.0, 0.0, 255),
        (128, 0.5, 0.0, 3),  # background scores 0.498
        (127, 0.5, 0.0, 255),  # background scores 0.502, but is salient
    ],
)
def test_single_pixels(saliency: int, first: float, second: float, wanted: int) -> None:
    assert label(Saliency(**PLAIN), [saliency], [first], [second]) == [wanted]


@pytest.mark.parametrize(
    ("fields", "saliency", "value", "wanted"),
    [
        ({"threshold": 0.6}, 255, 0.5, 255),
        ({"conflict": 0.95}, 20, 0.93, 3),  # 0.93 wins against the background's 0.92
        ({"salient": 256}, 255, 0.0, 0),
        ({"sure": 0.9}, 20, 0.85, 0),
    ],
)
def test_every_constant_is_a_field(fields: dict[str, Any], saliency: int, value: float, wanted: int) -> None:
    assert label(Saliency(**PLAIN | fields), [saliency], [value]) == [wanted]


def test_background_that_a_class_likes_better_than_its_median_is_ignored() -> None:
    saliency, values = [255, 255, 255, 0, 0, 0], [0.5, 0.6, 0.7, 0.65, 0.6, 0.55]
    fields = PLAIN | {"mining": True}
    assert label(Saliency(**fields), saliency, values) == [3, 3, 3, 255, 0, 0]  # the median is 0.6
    assert label(Saliency(**PLAIN), saliency, values) == [3, 3, 3, 0, 0, 0]


def test_a_class_without_pixels_is_mined_from_the_upper_half_of_its_map() -> None:
    part = Saliency(**PLAIN | {"mining": True})
    assert label(part, [0] * 5, [0.2, 0.35, 0.45, 0.55, 0.65]) == [0, 0, 0, 0, 255]  # above 0.5: 0.55, 0.65; above 0.6
    assert label(part, [0] * 3, [0.4, 0.4, 0.4]) == [0, 0, 0]  # nothing lies above the median
    assert label(part, [0] * 3, [0.1, 0.2, 0.3]) == [0, 0, 0]  # nothing lies above the floor
    low = Saliency(**PLAIN | {"mining": True, "mining_floor": 0.1})
    assert label(low, [0] * 3, [0.15, 0.2, 0.25]) == [0, 0, 0]  # the upper half is one pixel, its own median
    assert label(low, [0] * 4, [0.15, 0.2, 0.25, 0.3]) == [0, 0, 0, 255]


def test_an_image_with_next_to_no_object_is_ignored_wholly() -> None:
    saliency, values = np.zeros((10, 20), np.uint8), np.zeros((1, 10, 20), np.float32)
    saliency[0, 0], values[0, 0, 0] = 255, 1.0
    part = Saliency(mining=False)
    assert (part.rule(saliency, values, TAGS[:1]) == 255).all()  # half a per cent
    saliency[0, 1], values[0, 0, 1] = 255, 1.0
    found = part.rule(saliency, values, TAGS[:1])
    assert (found == 3).sum() == 2 and (found == 0).sum() == 198


def test_maps_are_stretched_unless_they_are_constant() -> None:
    part = Saliency(**PLAIN | {"stretch": True})
    assert label(part, [255] * 3, [0.2, 0.25, 0.4]) == [255, 255, 3]  # 0, 0.25, 1
    assert label(part, [255] * 2, [0.5, 0.5]) == [3, 3]
    assert label(part, [255] * 2, [0.0, 0.0]) == [255, 255]


def test_an_earlier_label_is_confirmed_where_salient_and_background_where_not() -> None:
    part = Saliency(least=0.0)
    assert label(part, [255, 60, 10, 10, 60], [1, 1, 1, 0, 0]) == [3, 3, 255, 0, 255]


def picture(path: Path, pixels: np.ndarray) -> None:
    PIL.Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture(tmp_path / "a.png", np.tile(np.array([[0, 255]], np.uint8), (6, 4)))
    return tmp_path


def test_the_live_function_reads_the_map_of_its_image(folder: Path) -> None:
    part = registry.start()[0].make("refiner", "saliency", saliency=str(folder))
    assert isinstance(part, Saliency) and not list(spec.implements("refiner", Saliency))
    assert part.takes == "maps" and part.wants_id and part.supervision == ("saliency",)
    assert part.note() == "saliency: NSROM's rule, unverified against the paper's I.+S. numbers"
    image, maps = np.zeros((6, 8, 3), np.uint8), np.zeros((2, 6, 8), np.float32)
    maps[0, :, :4], maps[1, :, 4:] = 0.7, 0.7
    before = maps.copy()
    found = part.open(None)(image, TAGS, maps, "a")
    check_label(found, (6, 8), {3, 7}, "saliency")
    assert (found[:, 1:4:2] == 3).all() and (found[:, 5::2] == 7).all() and (found[:, ::2] == 255).all()
    assert np.array_equal(maps, before)
    assert (part.open(None)(image, TAGS[:0], maps[:0], "a") == 255).all()


def test_maps_that_do_not_fit_are_refused(folder: Path) -> None:
    refine = Saliency(saliency=str(folder)).open(None)
    image = np.zeros((6, 8, 3), np.uint8)
    with pytest.raises(ContractError, match=r"maps of 2 planes, 6 x 8\n.*got 1 x 6 x 8"):
        refine(image, TAGS, np.zeros((1, 6, 8), np.float32), "a")
    with pytest.raises(DataError, match=r"a saliency map for image 'b'\n.*no file .*b\.png"):
        refine(image, TAGS, np.zeros((2, 6, 8), np.float32), "b")
    with pytest.raises(DataError, match=r"of 6 x 9, the size of image 'a'\n.*a\.png of 6 x 8"):
        refine(np.zeros((6, 9, 3), np.uint8), TAGS, np.zeros((2, 6, 9), np.float32), "a")


def test_pictures_that_are_no_saliency_map_are_refused(folder: Path) -> None:
    picture(folder / "colours.png", np.full((6, 8, 3), (1, 2, 3), np.uint8))
    with pytest.raises(DataError, match=r"a grey saliency map .*colours\.png\n.*got colours"):
        read_saliency(folder, "colours", (6, 8))
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"cut\.png\n.*cannot be decoded"):
        read_saliency(folder, "cut", (6, 8))
    picture(folder / "three.png", np.full((6, 8, 3), 77, np.uint8))
    assert (read_saliency(folder, "three", (6, 8)) == 77).all()  # grey, saved as RGB


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"got none, and the data set brings none\n.*--set saliency\.saliency=DIR"):
        Saliency().open(None)
    with pytest.raises(UsageError, match=r"got .*nowhere, no such folder"):
        Saliency(saliency=str(tmp_path / "nowhere")).open(None)


def test_the_maps_content_is_the_key(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "a.png").write_bytes((folder / "a.png").read_bytes())
    changed = tmp_path_factory.mktemp("changed")
    picture(changed / "a.png", np.zeros((6, 8), np.uint8))
    keys = [key_fields(Saliency(saliency=str(f)))["saliency"] for f in (folder, other, changed)]
    assert keys[0] == keys[1] != keys[2] and keys[0].startswith("sha256:")


def test_fields_out_of_range() -> None:
    parts, _ = registry.start()
    with pytest.raises(UsageError, match=r"saliency\.threshold of at most 1"):
        parts.make("refiner", "saliency", threshold="1.5")
    with pytest.raises(UsageError, match=r"saliency\.salient of at most 256"):
        parts.make("refiner", "saliency", salient="300")


def test_what_it_decides_on_the_embedded_scenes_is_mostly_right(tmp_path: Path) -> None:
    """Alphas with a false shadow beside each object: pixels left to a class are surer than a plain threshold's."""
    data = Shapes(root=str(tmp_path), train=12, val=1)
    refine = Saliency(saliency=str(data.folders()["saliency"])).open(None)
    read, files = data.masks("train"), data.alpha_files("train")
    assert read is not None
    right, decided, plain, all_plain = 0, 0, 0, 0
    for sample in data.split("train"):
        planes = []
        for tag in sample.tags:
            with PIL.Image.open(files[sample.id, tag]) as alpha:
                planes.append(np.array(alpha, np.float32) / 255)
        maps = np.stack(planes)
        maps = np.maximum(maps, 0.6 * np.roll(maps, 9, axis=2))
        truth = read(sample.id)
        found = refine(sample.read(), sample.tag_array(), maps, sample.id)
        objects = (found > 0) & (found < 255)
        right, decided = right + (found == truth)[objects].sum(), decided + objects.sum()
        loose = np.where(maps.max(axis=0) > 0.3, sample.tag_array()[maps.argmax(axis=0)], 0)
        plain, all_plain = plain + (loose == truth)[loose > 0].sum(), all_plain + (loose > 0).sum()
    assert right / decided > 0.9 > plain / all_plain
