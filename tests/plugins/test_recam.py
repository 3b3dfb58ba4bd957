"""ReCAM: its losses by hand, two stages that continue where they were stopped, and maps of both rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from matlabel_bench.contracts import check_cams
from matlabel_bench.errors import UsageError
from matlabel_bench.fields import key_fields
from matlabel_bench.images import enlarge
from matlabel_bench.recipe import WEIGHTS, load
from matlabel_bench.types import Split
from matlabel_cams.backbones import make
from matlabel_cams.classifier import Classifier
from matlabel_cams.recam import ReCam
from matlabel_cams.recam_network import ReCamNetwork

TINY = ReCam(
    backbone="small",
    stride=8,
    cut="none",
    epochs=2,
    batch=4,
    lr=0.02,
    momentum=0.9,
    side_low=48,
    side_high=72,
    crop=48,
    scales=(0.5, 1.0),
    recam_epochs=2,
    recam_lr=0.02,
)
PLAIN = replace(TINY, heads="plain")
BOTH = np.array([1, 2], np.uint8)


def network(cut: str = "none", product: bool = True) -> ReCamNetwork:
    torch.manual_seed(0)
    options = {"part": "", "cut": cut, "head_multiple": 10.0}
    return ReCamNetwork(make("small", 8), 3, 0.5, 0.1, product, **options)


@pytest.fixture(scope="module")
def trained(scenes: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recam")
    replace(TINY, epochs=10, recam_epochs=6).fit(scenes, out, 0)
    return out


@pytest.mark.parametrize("part", [TINY, PLAIN])
def test_maps_find_what_they_were_taught(part: ReCam, trained: Path, scenes: Split) -> None:
    """On pictures with one coloured square, the map is higher inside than outside by at least 0.3 on average."""
    generate = part.open(trained)
    gaps = []
    for sample in scenes.samples[:10]:
        image = sample.read()
        maps = check_cams(generate(image, sample.tag_array()), 1, "recam")
        inside = (image.max(axis=2) >= 170) | (image.min(axis=2) <= 60)
        large = enlarge(maps, image.shape[:2])[0]
        gaps.append(large[inside].mean() - large[~inside].mean())
    assert np.mean(gaps) > 0.3


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (97, 61)])
@pytest.mark.parametrize("tags", [(), (2,), (1, 2)])
def test_odd_sizes_and_tags(trained: Path, size: tuple[int, int], tags: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    check_cams(TINY.open(trained)(image, np.array(tags, np.uint8)), len(tags), "recam")


def test_the_losses_by_hand() -> None:
    """Each image and class alone, masked features in full; an image without a class counts zero in the mean."""
    net = network()
    images, tags = torch.randn(3, 3, 32, 40), torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]])
    features = net.classifier.upper(net.classifier.lower(images))
    logits = net.classifier.head(features).mean((2, 3))
    soft = -(tags * functional.logsigmoid(logits) + (1 - tags) * functional.logsigmoid(-logits)).mean()
    images_ce = []
    for feature, own in zip(features, tags, strict=True):
        entropies = []
        for c in own.nonzero()[:, 0]:
            found = torch.einsum("c,chw->hw", net.classifier.head.weight[c, :, 0, 0], feature).clamp(min=0)
            vector = (feature * (found / (found.max() + 1e-5))).mean((1, 2))
            entropies.append(-(net.predictor.weight[:, :, 0, 0] @ vector).log_softmax(0)[c])
        images_ce.append(sum(entropies) / max(len(entropies), 1))
    got = net.losses(images, tags, torch.zeros(3))
    torch.testing.assert_close(got["loss_cls"], soft)
    torch.testing.assert_close(got["loss_sce"], 0.5 * sum(images_ce) / 3)


def test_a_batch_without_any_class_teaches_the_second_head_nothing() -> None:
    net = network()
    got = net.losses(torch.randn(2, 3, 32, 32), torch.zeros(2, 3), torch.zeros(2))
    assert got["loss_sce"] == 0
    sum(got.values()).backward()  # type: ignore[union-attr]
    assert not net.predictor.weight.grad.any() and net.classifier.head.weight.grad.any()


def test_the_cross_entropy_teaches_the_first_head_too() -> None:
    """The map is not detached: the second head's loss alone reaches the first head's weights."""
    net = network()
    net.losses(torch.randn(2, 3, 32, 32), torch.ones(2, 3), torch.zeros(2))["loss_sce"].backward()
    assert net.classifier.head.weight.grad.abs().sum() > 0


def test_learning_rates_and_what_stays() -> None:
    """Backbone and first head at a tenth of the second head's rate; all but the stem is trained."""
    net = network(cut="stem").train()
    (body, low), (predictor, high) = net.groups()
    assert (low, high) == (0.1, 1.0) and [p.shape for p in predictor] == [net.predictor.weight.shape]
    stem = sum(p.numel() for p in net.classifier.lower.stem.parameters())
    assert sum(p.numel() for p in [*body, *predictor]) == sum(p.numel() for p in net.parameters()) - stem
    assert any(p is net.classifier.head.weight for p in body)


def test_the_second_stage_has_a_recipe_of_its_own() -> None:
    part = ReCam()
    second = part._second()
    assert (second.epochs, second.batch, second.lr) == (4, 16, 5e-4)
    assert (second.momentum, second.weight_decay, second.power) == (1e-4, 1e-4, 0.9)
    assert replace(part, recam_batch=6)._second().batch == 6


def test_stopped_in_the_second_stage_and_continued(scenes: Split, tmp_path: Path) -> None:
    """Same bytes as in one go; another seed gives others."""
    for name, seed in (("whole", 0), ("stopped", 0), ("other", 1)):
        TINY.fit(scenes, tmp_path / name, seed)
    whole, other = ((tmp_path / name / WEIGHTS).read_bytes() for name in ("whole", "other"))
    (tmp_path / "stopped" / WEIGHTS).unlink()
    TINY.fit(scenes, tmp_path / "stopped", 0)
    assert (tmp_path / "stopped" / WEIGHTS).read_bytes() == whole != other


def test_the_second_stage_starts_from_the_first(scenes: Split, trained: Path, tmp_path: Path) -> None:
    """With a learning rate of zero the second stage leaves what the first one, a CAM's training, taught."""
    replace(TINY, epochs=10, recam_epochs=6, recam_lr=0.0).fit(scenes, tmp_path, 0, stem=trained / "stem")
    assert not (tmp_path / "stem").exists()
    options = {"part": "", "cut": "none", "head_multiple": 10.0}
    first, both = (
        Classifier(make("small", 8), 2, **options),
        ReCamNetwork(make("small", 8), 2, 1.0, 0.1, True, **options),
    )
    load(first, trained / "stem")
    load(both, tmp_path)
    for name, value in first.state_dict().items():
        assert torch.equal(value, both.classifier.state_dict()[name]), name


def test_both_rules_open_one_training(scenes: Split, trained: Path) -> None:
    """`heads` is no matter of the training: not in its key, and a training of one rule serves the other."""
    assert key_fields(TINY, training=True) == key_fields(PLAIN, training=True)
    assert key_fields(TINY) != key_fields(PLAIN)
    before = (trained / WEIGHTS).read_bytes()
    replace(PLAIN, epochs=10, recam_epochs=6).fit(scenes, trained, 0)
    assert (trained / WEIGHTS).read_bytes() == before
    image = scenes.samples[10].read()
    assert np.abs(TINY.open(trained)(image, BOTH) - PLAIN.open(trained)(image, BOTH)).max() > 0.01


def test_product_and_plain_weights() -> None:
    images, tags = torch.randn(2, 3, 32, 32), torch.tensor([2, 0])
    for product in (True, False):
        net = network(product=product)
        weights = net.classifier.head.weight * (net.predictor.weight if product else 1)
        want = torch.einsum("kc,bchw->bkhw", weights[tags, :, 0, 0], net.features(images)).clamp(min=0)
        torch.testing.assert_close(net.maps(images, tags), want)


def test_open_without_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)a finished training in .*train the part first"):
        TINY.open(tmp_path)


def test_unknown_stage_names_are_refused(scenes: Split, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)cut to name a stage.*'layer9'.*layer1, layer2"):
        replace(TINY, cut="layer9").fit(scenes, tmp_path, 0)
