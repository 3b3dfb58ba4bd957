"""D2CAM: equations 3-8 by hand, where gradients go, and the trained part."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from matlabel_bench.contracts import check_cams
from matlabel_bench.errors import UsageError
from matlabel_bench.recipe import WEIGHTS
from matlabel_bench.types import Split
from matlabel_cams import d2losses
from matlabel_cams.backbones import make
from matlabel_cams.d2cam import D2Cam
from matlabel_cams.d2network import D2Network, Weights

PAPER = Weights(
    beta=0.1,
    hinge=1.0,
    m=0.2,
    lam=0.05,
    gamma1=0.5,
    gamma2=2.0,
    gamma3=0.5,
    area="margin",
    gradient="literal",
    warmup=0,
)
TAGS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
EPOCH = torch.tensor([0, 0, 0])


def network(weights: Weights = PAPER, **extra: int) -> D2Network:
    torch.manual_seed(3)
    return D2Network(make("small", 8), 3, weights, 0.0, 10.0, part="", cut="none", head_multiple=10.0, **extra)


def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# The losses on numbers one can check in the head.


def test_decoupling_is_equation_5() -> None:
    got = d2losses.decoupling(torch.tensor([0.5, 0.0, 2.0]), torch.tensor([2.0, 12.0, 30.0]), 0.1, 1.0)
    torch.testing.assert_close(got, torch.tensor([1.3, 0.0, 0.0]))  # 1 - .2 + .5; 1 - 1.2 < 0; 1 - 3 + 2 = 0


def test_area_is_a_share() -> None:
    torch.testing.assert_close(d2losses.area(torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])), torch.tensor([0.5]))


def test_margin_area_is_equation_6() -> None:
    got = d2losses.margin_area(torch.tensor([0.5, 0.2, 0.1]), 0.2, 0.05)
    torch.testing.assert_close(got, torch.tensor([0.3 + 0.025, 0.01, 0.005]))


def test_overlap_is_equation_8_as_a_mean() -> None:
    maps = torch.tensor([[[0.9, 0.2]], [[0.6, 0.7]], [[1.0, 1.0]]])  # two classes in image 0, one in image 2
    got = d2losses.overlap(maps, torch.tensor([0, 0, 2]), 3)
    torch.testing.assert_close(got, torch.tensor([0.25, 0.0, 0.0]))  # (0.5 + 0) / 2


def test_per_image_is_the_mean_over_its_classes() -> None:
    got = d2losses.per_image(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2]), 4)
    torch.testing.assert_close(got, torch.tensor([2.0, 0.0, 5.0, 0.0]))


def by_hand(net: D2Network, batch: torch.Tensor, w: Weights) -> dict[str, float]:
    """The whole of section 3.2.1 with loops, one class of one image at a time."""
    features = net.classifier.features(batch)
    maps = net.generator(features).sigmoid()
    d2, ma, oe = [], [], []
    for image in range(3):
        present = [c for c in range(3) if TAGS[image, c]]
        if not present:
            continue
        hinges, areas = [], []
        for c in present:
            fg = net.classifier.logits(features[image : image + 1] * maps[image, c])
            bg = net.classifier.logits(features[image : image + 1] * (1 - maps[image, c]))
            ce = [-functional.log_softmax(y[0], 0)[c] for y in (fg, bg)]
            hinges.append(max(0.0, float(w.hinge - w.beta * ce[1] + ce[0])))
            areas.append(float(maps[image, c].mean()))
        share = sum(areas) / len(areas)
        d2.append(sum(hinges) / len(hinges))
        ma.append(max(0.0, share - w.m) + w.lam * share if w.area == "margin" else share)
        oe.append(float((maps[image, present].sum(0) - 1).clamp(min=0).mean()))
    logits = net.classifier.logits(features)
    cls = float(functional.multilabel_soft_margin_loss(logits, TAGS))
    return {
        "loss_cls": cls,
        "loss_d2": w.gamma1 * sum(d2) / len(d2),
        "loss_ma": w.gamma2 * sum(ma) / len(ma),
        "loss_oe": w.gamma3 * sum(oe) / len(oe),
    }


@pytest.mark.parametrize("gradient", ["literal", "bas", "phi_only"])
@pytest.mark.parametrize("area", ["margin", "plain"])
def test_all_losses_equal_the_equations_in_loops(gradient: str, area: str) -> None:
    weights = replace(PAPER, gradient=gradient, area=area, beta=0.3, hinge=0.4)
    net = network(weights)
    with torch.no_grad():
        net.generator.bias += torch.tensor([0.5, -1.0, 1.0])
        got, want = net.losses(images(), TAGS, EPOCH), by_hand(net, images(), weights)
    assert {k: float(v) for k, v in got.items() if "loss" in k} == pytest.approx(want, rel=1e-4)
    assert 0 < float(got["area"]) < 1 and float(got["ce_bg"]) > 0 and 0 <= float(got["open"]) <= 1


# Where gradients go.


def reached(gradient: str, loss: str) -> set[str]:
    """Which of N1, N2, head and generator one loss moves."""
    net = network(replace(PAPER, gradient=gradient)).train()
    with torch.no_grad():
        net.generator.bias += 1.0  # overlap and area above their margins
    net.losses(images(), TAGS, EPOCH)[loss].backward()
    names = {"classifier.lower": "N1", "classifier.upper": "N2", "classifier.head": "N2", "generator": "phi"}
    moved = [n for n, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    return {part for n in moved for prefix, part in names.items() if n.startswith(prefix)}


@pytest.mark.parametrize(
    ("gradient", "d2", "constraints"),
    [("literal", {"phi"}, {"N1", "phi"}), ("bas", {"N1", "phi"}, {"N1", "phi"}), ("phi_only", {"phi"}, {"phi"})],
)
def test_gradients_go_where_the_reading_lets_them(gradient: str, d2: set[str], constraints: set[str]) -> None:
    assert reached(gradient, "loss_d2") == d2
    assert reached(gradient, "loss_ma") == constraints
    assert reached(gradient, "loss_oe") == constraints
    assert reached(gradient, "loss_cls") == {"N1", "N2"}


@pytest.mark.parametrize("gradient", ["literal", "bas", "phi_only"])
def test_what_each_loss_sends_to_the_generator_is_told_every_so_many_calls(gradient: str) -> None:
    weights = replace(PAPER, gradient=gradient)
    watched, plain = network(weights, watch=2).train(), network(weights).train()
    for net in (watched, plain):
        with torch.no_grad():
            net.generator.bias += 1.0
    told = watched.losses(images(), TAGS, EPOCH)
    for name in ("d2", "ma", "oe"):
        plain.zero_grad()
        plain.losses(images(), TAGS, EPOCH)[f"loss_{name}"].backward()
        assert plain.generator.weight.grad is not None
        torch.testing.assert_close(told[f"pull_{name}"], plain.generator.weight.grad.norm())
    assert all(p.grad is None for p in watched.parameters()), "telling leaves no gradient behind"
    assert not any(k.startswith("pull") for k in watched.losses(images(), TAGS, EPOCH))
    assert "pull_d2" in watched.losses(images(), TAGS, EPOCH)


def test_the_product_with_the_features_is_detached_in_bas() -> None:
    """In `bas`, N1 learns through the generator's input alone: with a generator of zeros, nothing."""
    net = network(replace(PAPER, gradient="bas")).train()
    torch.nn.init.zeros_(net.generator.weight)
    net.losses(images(), TAGS, EPOCH)["loss_d2"].backward()
    assert all(p.grad is None or not p.grad.any() for p in net.classifier.lower.parameters())


def test_every_map_begins_near_one_half() -> None:
    net = network()
    torch.nn.init.zeros_(net.generator.weight)
    maps = net.maps(images(), torch.tensor([0, 2]))
    assert maps.shape == (3, 2, 4, 4) and torch.equal(maps, torch.full_like(maps, 0.5))


def test_warm_up_and_untagged_batches_train_the_classifier_alone() -> None:
    warm = network(replace(PAPER, warmup=2))
    assert set(warm.losses(images(), TAGS, torch.tensor([1, 1, 1]))) == {"loss_cls"}
    assert "loss_d2" in warm.losses(images(), TAGS, torch.tensor([2, 2, 2]))
    assert set(network().losses(images(), torch.zeros(3, 3), EPOCH)) == {"loss_cls"}


def test_pool_halves_the_map_before_n2() -> None:
    net = network(pool=True)
    features = net.classifier.features(images())
    assert net.classifier.upper[0](features).shape[2:] == (2, 2)
    assert math.isfinite(net.losses(images(), TAGS, EPOCH)["loss_d2"].item())


def test_groups_hold_every_parameter_once() -> None:
    net = network()
    groups = net.groups()
    assert [multiple for _, multiple in groups] == [1.0, 10.0, 10.0]
    assert sum(len(params) for params, _ in groups) == len(list(net.parameters()))


# The part.

TINY = D2Cam(
    backbone="small",
    cut="none",
    epochs=3,
    warmup=1,
    batch=4,
    lr=0.02,
    side_low=48,
    side_high=72,
    crop=48,
    scales=(0.5, 1.0),
)


@pytest.fixture(scope="module")
def trained(scenes: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("d2cam")
    TINY.fit(scenes, out, 0)
    return out


@pytest.mark.parametrize("size", [(1, 1), (37, 1), (97, 61)])
@pytest.mark.parametrize("tags", [(), (2,), (1, 2)])
def test_odd_sizes_and_tags(trained: Path, size: tuple[int, int], tags: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    check_cams(TINY.open(trained)(image, np.array(tags, np.uint8)), len(tags), "d2cam")


def test_normalise_none_leaves_the_sigmoid(trained: Path, scenes: Split) -> None:
    image, tags = scenes.samples[10].read(), np.array([1, 2], np.uint8)
    plain, full = replace(TINY, normalise="none").open(trained)(image, tags), TINY.open(trained)(image, tags)
    assert plain.max() < 1 and plain.min() > 0
    np.testing.assert_allclose(plain / plain.max(axis=(1, 2), keepdims=True), full, atol=1e-5)


def test_interrupted_and_resumed_is_the_same_bytes(
    trained: Path, scenes: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = D2Network.losses

    def stop(self: D2Network, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        if int(batch["epoch"][0]) == 2:
            raise KeyboardInterrupt
        return losses(self, **batch)

    with monkeypatch.context() as patch:
        patch.setattr(D2Network, "losses", stop)
        with pytest.raises(KeyboardInterrupt):
            TINY.fit(scenes, tmp_path, 0)
    TINY.fit(scenes, tmp_path, 0)
    assert (tmp_path / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_missing_weights_are_told(scenes: Split, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)pretrained weights for resnet50.*none given"):
        D2Cam().fit(scenes, tmp_path, 0)
