"""DeepLab-v2 as a part: what it trains on, that it resumes, what it refuses, and what its CRF does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from matlabel_bench.contracts import check_label
from matlabel_bench.errors import DataError, TrainingFailed, UsageError
from matlabel_bench.fields import key_fields
from matlabel_bench.recipe import CHECKPOINT, WEIGHTS, Recipe
from matlabel_bench.types import Label, Split
from matlabel_segmenters.crops import Crops, cut, survey
from matlabel_segmenters.deeplab_v2 import DeepLabV2, wrapped
from matlabel_segmenters.encoders import Look

SMALL = DeepLabV2(
    backbone="small", weights="none", rates=(1, 2), steps=5, batch=2, accumulate=2, crop=40, lr=0.02, head_multiple=1.0
)
LOOK = Look((100.0, 110.0, 120.0), (1.0, 1.0, 1.0))


class Labels(Mapping[str, Label]):
    """Labels of the scenes: their squares, found by colour; it remembers what was read and can be interrupted."""

    def __init__(self, split: Split, change: Any = None, stop_after: int = 10_000) -> None:
        self.samples = {s.id: s for s in split}
        self.change, self.stop_after, self.read = change, stop_after, []

    def __getitem__(self, name: str) -> Label:
        self.read.append(name)
        if len(self.read) > self.stop_after:
            raise KeyboardInterrupt
        image = self.samples[name].read().astype(int)
        label = np.zeros(image.shape[:2], np.uint8)
        label[image[..., 0] - image[..., 1] > 100], label[image[..., 1] - image[..., 0] > 100] = 1, 2
        return label if self.change is None else self.change(label)

    def __iter__(self) -> Iterator[str]:
        return iter(self.samples)

    def __len__(self) -> int:
        return len(self.samples)


@pytest.fixture(scope="module")
def trained(scenes: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("deeplab")
    SMALL.fit(scenes, Labels(scenes), out, 0)
    return out


def test_a_short_training_finds_the_squares(scenes: Split, tmp_path: Path) -> None:
    part = replace(SMALL, steps=60, accumulate=1, batch=4, msc=(1.0,), scales=(1.0,), crop=48)
    part.fit(scenes, Labels(scenes), tmp_path, 0)
    segment, truth = part.open(tmp_path), Labels(scenes)
    found, wanted = [], []
    for sample in scenes:
        label = segment(sample.read())
        check_label(label, sample.read().shape[:2], {1, 2}, "deeplab_v2")
        found.append(label.ravel()), wanted.append(truth[sample.id].ravel())
    got, want = np.concatenate(found), np.concatenate(wanted)
    for square in (1, 2):
        assert ((got == square) & (want == square)).sum() / ((got == square) | (want == square)).sum() > 0.45


def test_what_it_tells_of_itself(scenes: Split, trained: Path) -> None:
    told = json.loads((trained / "training.json").read_text())
    assert told["part"] == "DeepLabV2" and told["classes"] == ["red", "green"]
    assert told["initial"] == "small from scratch"
    assert told["labels"].startswith("2 of 2 classes in the first 12 labels, ") and told["labels"].endswith(
        "% foreground"
    )
    assert "crf" not in told["fields"] and told["fields"]["steps"] == 5


def test_interrupted_and_resumed_is_the_same_bytes(scenes: Split, trained: Path, tmp_path: Path) -> None:
    """Twelve images, four a step: three steps an epoch, the second of which ends early."""
    with pytest.raises(KeyboardInterrupt):
        SMALL.fit(scenes, Labels(scenes, stop_after=12 + 14), tmp_path, 0)
    assert (tmp_path / CHECKPOINT).is_file()
    SMALL.fit(scenes, Labels(scenes), tmp_path, 0)
    assert (tmp_path / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_labels_are_read_lazily(scenes: Split, trained: Path) -> None:
    labels = Labels(scenes)
    SMALL.fit(scenes, labels, trained, 0)
    assert len(labels.read) == 12  # the survey alone: the training is complete
    crops = Crops(scenes, labels, LOOK, scales=(1.0,), crop=32, flip=True, seed=0)
    assert len(labels.read) == 12
    crops[0, 3]
    assert labels.read[12:] == ["3"]


def test_another_seed_trains_another_network(scenes: Split, trained: Path, tmp_path: Path) -> None:
    SMALL.fit(scenes, Labels(scenes), tmp_path, 1)
    assert (tmp_path / WEIGHTS).read_bytes() != (trained / WEIGHTS).read_bytes()


def test_the_recipe_is_that_of_the_paper() -> None:
    recipe = Recipe.of(DeepLabV2(), epochs=1)
    assert (recipe.steps, recipe.batch, recipe.accumulate, recipe.lr) == (20000, 5, 2, 2.5e-4)
    assert (recipe.momentum, recipe.weight_decay, recipe.power, recipe.optimizer) == (0.9, 5e-4, 0.9, "sgd")
    assert (recipe.schedule, recipe.warmup) == ("poly", 0)


@pytest.mark.parametrize("value", [0, 255])
def test_labels_without_foreground_are_refused_before_training(scenes: Split, tmp_path: Path, value: int) -> None:
    labels = Labels(scenes, lambda label: np.full_like(label, value))
    words = r"foreground class in at least one of the first 12 images\n.*nothing else\n.*background only.*threshold"
    with pytest.raises(DataError, match=words):
        SMALL.fit(scenes, labels, tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_the_survey_counts_classes_and_foreground(scenes: Split) -> None:
    def half(label: Label) -> Label:
        out = np.zeros_like(label)
        out[: len(out) // 2], out[-1] = 2, 255
        return out

    told = survey(scenes, Labels(scenes, half))
    shares = [(s.read().shape[0] // 2, s.read().shape[0] - 1, s.read().shape[1]) for s in scenes]
    share = 100 * sum(a * w for a, _, w in shares) / sum(b * w for _, b, w in shares)
    assert told == f"1 of 2 classes in the first 12 labels, {share:.1f} % foreground"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda label: label + np.uint8(5), r"classes 0\.\.2 and 255 in pseudo-labels\n.*5.* in the label of 0\n"),
        (lambda label: label.astype(np.int64), r"pseudo-label of 0 as uint8, h x w\n.*int64"),
    ],
)
def test_labels_that_are_none(scenes: Split, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        SMALL.fit(scenes, Labels(scenes, change), tmp_path, 0)


def test_a_label_of_another_size(scenes: Split) -> None:
    crops = Crops(scenes, Labels(scenes, lambda label: label[1:]), LOOK, scales=(1.0,), crop=32, flip=True, seed=0)
    height, width = scenes.samples[2].read().shape[:2]
    words = rf"as large as image 2\n.*{height - 1} x {width} for an image of {height} x {width}"
    with pytest.raises(DataError, match=words):
        crops[0, 2]


def test_a_training_that_diverges_says_so(scenes: Split, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"finite losses\n.*loss_0\.5 .* of 5 .*\n.*lower the part's lr"):
        replace(SMALL, lr=1e20).fit(scenes, Labels(scenes), tmp_path, 0)


def test_weights_are_asked_for_before_labels_are_read(scenes: Split, tmp_path: Path) -> None:
    labels = Labels(scenes)
    with pytest.raises(UsageError, match=r"pretrained weights for mobilenet_v2\n.*none given"):
        replace(SMALL, backbone="mobilenet_v2", weights="").fit(scenes, labels, tmp_path, 0)
    assert not labels.read


def test_nothing_trained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a finished training in (.|\n)*train the part first"):
        SMALL.open(tmp_path)


def test_a_crop_by_hand() -> None:
    """A 2 x 3 image at twice its size, padded to 7 x 7 below and to the right; then a square from a larger one."""
    image, label = torch.arange(6.0).reshape(1, 2, 3), torch.arange(6).reshape(2, 3)
    got, labels = cut(image, label, 2.0, 7, (0.9, 0.9))
    assert got.shape == (1, 7, 7) and labels.shape == (7, 7)
    assert labels[:4, :6].tolist() == np.arange(6).reshape(2, 3).repeat(2, 0).repeat(2, 1).tolist()
    assert (labels[4:] == 255).all() and (labels[:, 6] == 255).all()
    assert not got[:, 4:].any() and not got[:, :, 6].any()
    torch.testing.assert_close(got[0, 0, :6], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2]))
    torch.testing.assert_close(got[0, :4, 0], torch.tensor([0, 0.75, 2.25, 3]))
    wide = torch.arange(80).reshape(8, 10)
    got, labels = cut(wide[None].float(), wide, 1.0, 4, (0.999, 0.5))
    assert torch.equal(labels, wide[4:8, 3:7]) and torch.equal(got[0].long(), labels)


def test_crops_depend_on_seed_epoch_and_index_alone(scenes: Split) -> None:
    crops = Crops(scenes, Labels(scenes), LOOK, scales=(0.5, 1.0, 1.5), crop=32, flip=True, seed=3)
    first = crops[1, 4]
    assert first["images"].shape == (3, 32, 32) and first["labels"].dtype == torch.int64
    for other, same in ((crops[1, 4], True), (crops[2, 4], False), (crops[1, 5], False)):
        assert torch.equal(first["images"], other["images"]) is same
    mirrored = [Crops(scenes, Labels(scenes), LOOK, scales=(1.0,), crop=96, flip=f, seed=3) for f in (True, False)]
    kinds = set()
    for index in range(12):
        a, b = (c[0, index]["images"] for c in mirrored)
        kinds.add("same" if torch.equal(a, b) else "mirrored" if torch.equal(a.flip(-1), b) else "other")
    assert kinds == {"same", "mirrored"}


def test_the_crf_changes_inference_only(scenes: Split, trained: Path) -> None:
    """Same training key, and the label equals pydensecrf called with DeepLab's parameters on the network's softmax."""
    from pydensecrf import densecrf, utils

    with_crf = replace(SMALL, crf=True)
    assert key_fields(with_crf, training=True) == key_fields(SMALL, training=True)
    assert key_fields(with_crf) != key_fields(SMALL)
    image = scenes.samples[3].read()
    scores: list[np.ndarray] = []
    for kind, seen in (("raw", image), ("upstream", wrapped(image))):
        part = replace(with_crf, crf_image=kind)
        inner = part._crf(2)
        object.__setattr__(part, "_crf", lambda n, inner=inner: lambda i, s: scores.append(s) or inner(i, s))
        got = part.open(trained)(image)
        field = densecrf.DenseCRF2D(image.shape[1], image.shape[0], 3)
        field.setUnaryEnergy(utils.unary_from_softmax(scores[-1]))
        field.addPairwiseGaussian(sxy=1, compat=3)
        field.addPairwiseBilateral(sxy=67, srgb=3, rgbim=np.ascontiguousarray(seen), compat=4)
        want = np.array(field.inference(10)).reshape(3, *image.shape[:2]).argmax(0)
        assert np.array_equal(got, want)
        assert np.array_equal(scores[-1].argmax(0), SMALL.open(trained)(image))
        assert scores[-1].sum(0) == pytest.approx(1, abs=1e-5)


def test_what_the_references_crf_sees() -> None:
    """BGR minus (104.008, 116.669, 122.675), cut towards zero, and below zero counted down from 256."""
    image = np.array([[[0, 116, 255], [123, 117, 90]]], np.uint8)
    assert wrapped(image).tolist() == [[[150, 0, 134], [242, 0, 0]]]


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 3), (64, 65)])
def test_images_of_any_size(trained: Path, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    check_label(SMALL.open(trained)(image), size, {1, 2}, "deeplab_v2")
