"""IRN as a part: it ends, resumes, refines, and says what is wrong."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from matlabel_bench import registry
from matlabel_bench.contracts import check_label
from matlabel_bench.errors import ContractError, DataError, UsageError
from matlabel_bench.fields import key_fields
from matlabel_bench.images import Resampling, resize_image, write_label
from matlabel_bench.label import make_label, make_scores
from matlabel_bench.recipe import WEIGHTS
from matlabel_bench.types import Split
from matlabel_cams.backbones import make
from matlabel_refiners import irn_fit
from matlabel_refiners.irn import Irn
from matlabel_refiners.irn_crops import LabelledCrops
from matlabel_refiners.irn_mining import label_file

TINY = Irn(backbone="small", epochs=1, batch=4, lr=0.05, momentum=0.9, crop=48)
BOTH = np.array([1, 2], np.uint8)


def truth_of(split: Split) -> dict[str, np.ndarray]:
    """Squares of 18 x 18 pixels in the class's colour."""
    found = {}
    for sample in split:
        image = sample.read()
        found[sample.id] = np.zeros(image.shape[:2], np.uint8)
        for tag in sample.tags:
            found[sample.id][(image == ((200, 40, 40), (40, 180, 60))[tag - 1]).all(axis=2)] = tag
    return found


def maps_of(split: Split) -> dict[str, np.ndarray]:
    """A cone from each square's middle: too narrow on it where it is high, and far too wide where it is low."""
    found = {}
    for sample in split:
        truth, planes = truth_of(split)[sample.id], []
        for tag in sample.tags:
            middle = np.argwhere(truth == tag).mean(axis=0)
            away = np.linalg.norm(np.moveaxis(np.indices(truth.shape), 0, -1) - middle, axis=2)
            planes.append(np.clip(1 - away / 24, 0, 1))
        found[sample.id] = np.array(planes, np.float32).reshape(-1, *truth.shape)
    return found


@pytest.fixture(scope="module")
def trained(scenes: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("irn")
    replace(TINY, epochs=16).fit(scenes, maps_of(scenes), out, 0)
    return out


def test_the_defaults_are_irns() -> None:
    part = Irn()
    assert (part.conf_fg, part.conf_bg, part.train_radius, part.epochs, part.batch) == (0.3, 0.05, 10, 3, 32)
    assert (part.lr, part.displacement_multiple, part.momentum, part.weight_decay) == (0.1, 10.0, 1e-4, 1e-4)
    assert (part.crop, part.scale_low, part.scale_high, part.power) == (512, 0.5, 1.5, 0.9)
    assert (part.radius, part.beta, 2**part.exp_times, part.threshold) == (5, 10.0, 256, 0.25)


def test_it_fits_labels_to_objects(trained: Path, scenes: Split) -> None:
    """On average over the pictures, at least a tenth of the pixels better than the seed, and 90 % right."""
    refine, maps, truth = TINY.open(trained), maps_of(scenes), truth_of(scenes)
    before, after = [], []
    for sample in scenes.samples[:11]:
        tags, seed = sample.tag_array(), maps[sample.id]
        before.append((make_label(make_scores(seed, TINY.threshold), tags) == truth[sample.id]).mean())
        label = check_label(refine(sample.read(), tags, seed), seed.shape[1:], set(sample.tags), "irn")
        after.append((label == truth[sample.id]).mean())
    assert np.mean(after) > max(np.mean(before) + 0.1, 0.9)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 1), (3, 5), (61, 97)])
@pytest.mark.parametrize("tags", [(), (2,), (1, 2)])
def test_odd_sizes_and_tags(trained: Path, size: tuple[int, int], tags: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    image, maps = rng.integers(0, 256, (*size, 3)).astype(np.uint8), rng.random((len(tags), *size)).astype(np.float32)
    given = image.copy(), maps.copy()
    refine = TINY.open(trained)
    label = check_label(refine(image, np.array(tags, np.uint8), maps), size, set(tags), "irn")
    assert np.array_equal(label, refine(image, np.array(tags, np.uint8), maps))
    assert np.array_equal(image, given[0]) and np.array_equal(maps, given[1])


def test_maps_of_zeros_are_background(trained: Path, scenes: Split) -> None:
    image = scenes.samples[10].read()
    assert not TINY.open(trained)(image, BOTH, np.zeros((2, *image.shape[:2]), np.float32)).any()


def test_an_image_is_filled_up_to_the_crop_and_never_cut(trained: Path, scenes: Split) -> None:
    """A picture larger than the crop has labels at its far corner, too."""
    image = np.tile(scenes.samples[0].read(), (3, 3, 1))
    maps = np.zeros((1, *image.shape[:2]), np.float32)
    maps[0, -24:, -24:] = 1
    assert min(image.shape[:2]) > 2 * TINY.crop
    label = replace(TINY, exp_times=0).open(trained)(image, BOTH[:1], maps)
    assert label[-8:, -8:].all() and not label[:48, :48].any()


def test_same_seed_same_bytes_other_seed_others(scenes: Split, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        TINY.fit(scenes, maps_of(scenes), tmp_path / name, seed)
    a, b, c = ((tmp_path / name / WEIGHTS).read_bytes() for name in "abc")
    assert a == b != c


def test_it_goes_on_where_it_was_interrupted(scenes: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some labels; after all labels; between training and mean displacement; and not at all when it is done."""
    whole, parts, maps = tmp_path / "whole", tmp_path / "parts", maps_of(scenes)
    TINY.fit(scenes, maps, whole, 3)
    few = dict(list(maps.items())[:5])
    with pytest.raises(DataError, match="maps of image 5"):
        TINY.fit(scenes, few, parts, 3)
    assert len(list((parts / "labels").iterdir())) == 5
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(irn_fit, "_store_mean", _interrupt)
        TINY.fit(scenes, maps, parts, 3)
    assert not load_file(parts / WEIGHTS)["mean_displacement"].any()
    for _ in range(2):
        TINY.fit(scenes, {}, parts, 3)
        assert load_file(parts / WEIGHTS)["mean_displacement"].any()
        assert (parts / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def _interrupt(*args: Any) -> None:
    raise KeyboardInterrupt


def test_the_walks_fields_train_nothing_anew(trained: Path, scenes: Split) -> None:
    other = replace(TINY, beta=2.0, exp_times=1, radius=2, threshold=0.9)
    assert key_fields(other, training=True) == key_fields(TINY, training=True)
    assert {f.name for f in fields(Irn) if f.metadata["key"] == "open"} == {"beta", "exp_times", "radius", "threshold"}
    sample = scenes.samples[0]
    image, tags, maps = sample.read(), sample.tag_array(), maps_of(scenes)[sample.id]
    labels = [replace(TINY, **f).open(trained)(image, tags, maps) for f in ({}, {"threshold": 0.9}, {"exp_times": 0})]
    assert not np.array_equal(labels[0], labels[1]) and not np.array_equal(labels[0], labels[2])


def test_the_mean_displacement_is_no_part_of_the_label(trained: Path, scenes: Split, tmp_path: Path) -> None:
    state = load_file(trained / WEIGHTS)
    save_file(state | {"mean_displacement": torch.tensor([50.0, -50.0])}, tmp_path / WEIGHTS)
    sample = scenes.samples[10]
    given = sample.read(), sample.tag_array(), maps_of(scenes)[sample.id]
    assert np.array_equal(TINY.open(trained)(*given), TINY.open(tmp_path)(*given))


def test_crops_keep_image_and_label_together(scenes: Split, tmp_path: Path) -> None:
    truth = truth_of(scenes)
    for sample in scenes:
        write_label(label_file(tmp_path, sample.id), truth[sample.id])
    crops = LabelledCrops(scenes, tmp_path, make("small", 16), (0.5, 1.5), 64, 5)
    mirrored = placed = 0
    for index in range(10):
        one = crops[0, index]
        assert all(torch.equal(one[k], crops[0, index][k]) for k in one)
        assert not torch.equal(one["images"], crops[1, index]["images"])
        images, labels = one["images"], one["labels"]
        assert images.shape == (3, 64, 64) and labels.shape == (16, 16) and labels.dtype == torch.uint8
        object_ = labels == index % 2 + 1
        centres = (images * 127.5 + 127.5)[:, 2::4, 2::4]  # where the reduced label looks
        own, other = (centres[:, object_][c] for c in ((0, 1) if index % 2 == 0 else (1, 0)))
        assert object_.any() and (own > other + 20).float().mean() > 0.8  # bicubic edges are mixed
        assert not images[:, 2::4, 2::4][:, labels == 255].any()
        mirrored += bool(object_[:, :8].sum() > object_[:, 8:].sum())
        placed += bool((labels == 255).any())
    assert 0 < mirrored < 10 and placed > 0


def test_the_label_of_a_crop_is_reduced_to_pixel_middles() -> None:
    label = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    assert np.array_equal(resize_image(label, (16, 16), Resampling.NEAREST), label[2::4, 2::4])


def test_a_label_of_another_size_is_named(scenes: Split, tmp_path: Path) -> None:
    write_label(label_file(tmp_path, "0"), np.zeros((3, 4), np.uint8))
    with pytest.raises(DataError, match=r"size of image 0\n.*got 3 x 4 for .* pixels\n.*delete it"):
        LabelledCrops(scenes, tmp_path, make("small", 16), (0.5, 1.5), 48, 0)[0, 0]


@pytest.mark.parametrize(("crop", "radius"), [(512, 10), (157, 10), (156, 9), (64, 4), (16, 2)])
def test_the_radius_fits_into_the_crop(crop: int, radius: int) -> None:
    assert irn_fit.radius_of(10, crop) == radius
    assert irn_fit.radius_of(3, crop) == min(3, radius)


def test_a_small_backbone_trains_its_trunk_and_others_do_not() -> None:
    assert irn_fit.network_of(TINY, make("small", 16)).train_trunk
    light = replace(TINY, backbone="mobilenet_v2")
    assert not irn_fit.network_of(light, make("mobilenet_v2", 16)).train_trunk
    assert irn_fit.network_of(replace(light, train_trunk=True), make("mobilenet_v2", 16)).train_trunk


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "mobilenet_v2"}, r"(?s)pretrained weights for mobilenet_v2.*none given.*weights=none"),
        ({"backbone": "resnet50", "weights": "/no/file.pth"}, r"(?s)no file /no/file\.pth"),
        ({"scale_low": 1.6}, r"(?s)scale_low not above scale_high.*1\.6 and 1\.5.*exchange"),
        ({"conf_bg": 0.4}, r"(?s)conf_bg not above conf_fg.*0\.4 and 0\.3.*exchange"),
    ],
)
def test_wrong_fields(scenes: Split, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(TINY, **changes).fit(scenes, {}, tmp_path, 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"backbone": "resnet"}, r"irn\.backbone to be one of 'resnet50', 'mobilenet_v2', 'small'"),
        ({"exp_times": "30"}, r"irn\.exp_times of at most 14"),
        ({"radius": "1"}, r"irn\.radius of at least 2"),
        ({"bta": "3"}, r"did you mean 'beta'"),
    ],
)
def test_fields_out_of_range(given: dict[str, Any], words: str) -> None:
    parts, _ = registry.start()
    with pytest.raises(UsageError, match=words):
        parts.make("refiner", "irn", **given)


def test_open_without_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)a finished training in .*train the part first"):
        TINY.open(tmp_path)


def test_open_with_weights_of_another_network(trained: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)weights of a finished training.*train the part first"):
        replace(TINY, backbone="mobilenet_v2").open(trained)


def test_maps_of_another_image_are_refused(trained: Path, scenes: Split) -> None:
    with pytest.raises(ContractError, match=r"maps of 2 planes, \d+ x \d+\n.*got 2 x 4 x 4"):
        TINY.open(trained)(scenes.samples[0].read(), BOTH, np.zeros((2, 4, 4), np.float32))


def test_the_training_of_other_fields_is_not_continued(trained: Path, scenes: Split) -> None:
    with pytest.raises(UsageError, match=r"(?s)where the same training began.*another training"):
        TINY.fit(scenes, maps_of(scenes), trained, 0)
