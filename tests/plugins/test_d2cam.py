"""D2CAM: equations 3-8 by hand, where gradients go, and the trained part."""

from __future__ import annotations

import math
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

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
from matlabel_cams.cam import Cam
from matlabel_cams.d2cam import D2Cam
from matlabel_cams.d2losses import Weights
from matlabel_cams.d2network import D2Network
from matlabel_cams.eq_d2cam import EqD2Cam

PAPER = Weights(
    beta=0.1,
    hinge=1.0,
    m=0.2,
    lam=0.05,
    gamma1=0.5,
    gamma2=2.0,
    gamma3=0.5,
    area="margin",
    level=0.25,
    gradient="literal",
    judge="live",
    start="xavier",
    equal=0.0,
    ramp=0,
)
TAGS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
EPOCH = torch.tensor([0, 0, 0])


def network(weights: Weights = PAPER, **extra: Any) -> D2Network:
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


def test_untagged_batches_train_the_classifier_alone() -> None:
    assert set(network().losses(images(), torch.zeros(3, 3), EPOCH)) == {"loss_cls"}


def test_losses_of_maps_grow_to_their_weight_over_the_ramp() -> None:
    """The n-th batch has n / ramp of them; the classifier's loss is whole from the first."""
    full, net = network().losses(images(), TAGS, EPOCH), network(replace(PAPER, ramp=4))
    for share in (0.25, 0.5, 0.75, 1.0, 1.0):
        told = net.losses(images(), TAGS, EPOCH)
        torch.testing.assert_close(told["loss_cls"], full["loss_cls"])
        for name in ("loss_d2", "loss_ma", "loss_oe"):
            torch.testing.assert_close(told[name], share * full[name])


@pytest.mark.parametrize(("sees", "passed"), [("", []), ("layer4", ["layer4"])])
def test_maps_pass_no_stage_above_what_the_generator_reads(sees: str, passed: list[str]) -> None:
    net, seen = network(sees=sees), []
    for name, stage in net.classifier.upper.named_children():
        stage.register_forward_hook(lambda *_, name=name: seen.append(name))
    want = net.generator(net._above(net.classifier.features(images()))[1]).sigmoid()
    seen.clear()
    assert torch.equal(net.maps(images(), torch.arange(3)), want)
    assert seen == passed


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


# Readings and extensions of it: who judges, what the generator reads, where it starts, margins, equivariance.


def reading(**changes: Any) -> D2Network:
    return network(replace(PAPER, **changes), sees="layer4").train()


class Few:
    """Training images without random crops: `images()` and TAGS, one by one."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, at: tuple[int, int]) -> dict[str, torch.Tensor]:
        return {"images": images()[at[1]], "tags": TAGS[at[1]]}


def test_the_generator_may_read_a_stage_of_n2() -> None:
    net = reading()
    features = net.classifier.features(images())
    want = net.generator(net.classifier.upper.layer4(features)).sigmoid()[:, [0, 2]]
    torch.testing.assert_close(net.maps(images(), torch.tensor([0, 2])), want)
    net.losses(images(), TAGS, EPOCH)["loss_ma"].backward()
    assert any(p.grad is not None and p.grad.any() for p in net.classifier.upper.parameters())


@pytest.mark.parametrize(
    ("changes", "extra", "words"),
    [
        ({}, {"sees": "layer2"}, r"sees to name the last stage of N1 or one above it.*'layer2'"),
        ({}, {"sees": "layer4", "pool": True}, "a generator below the pooling"),
        ({"start": "head"}, {}, r"reads what the classifying layer reads.*sees=layer3.*set sees=layer4"),
    ],
)
def test_readings_that_cannot_be_are_told(changes: dict[str, Any], extra: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){words}"):
        network(replace(PAPER, **changes), **extra)


def test_a_generator_that_starts_at_the_head_gives_cams_over_their_mean_peak() -> None:
    net = reading(start="head")
    cams = net.classifier.head(net.classifier.upper(net.classifier.features(images())))
    assert (cams.amax((2, 3))[TAGS.bool()] > 0).all(), "the example needs live CAMs"
    peaks = (cams.amax((2, 3)) * TAGS).sum(0)  # one image a class
    net.begin(Few())
    want = (6 * (cams / peaks[:, None, None] - 0.35)).sigmoid()
    torch.testing.assert_close(net.maps(images(), torch.arange(3)), want, atol=1e-5, rtol=1e-4)


def test_a_peak_is_the_mean_over_images_with_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "TAGS", torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0]]))
    net = reading(start="head")
    highest = net.classifier.head(net.classifier.upper(net.classifier.features(images()))).amax((2, 3))
    want = torch.stack([highest[:2, 0].mean(), highest[1:, 1].mean(), torch.tensor(0.0)])
    torch.testing.assert_close(net._peaks(Few()), want)


@pytest.mark.parametrize("change", [{"judge": "frozen"}, {"start": "head", "sees": "last"}])
def test_what_needs_a_warm_up_says_so(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"(?s)a classifier that has learned.*warmup=0"):
        D2Cam(**change)


def test_a_frozen_judge_is_the_classifier_after_the_warm_up_and_stays_so() -> None:
    net = reading(judge="frozen", gradient="bas")
    with torch.no_grad():
        net.classifier.head.weight += 1.0  # what is loaded after the network was made
    net.begin(Few())
    groups = [{"params": params, "lr": 0.1 * multiple} for params, multiple in net.groups()]
    optimizer = torch.optim.SGD(groups)
    before = {k: v.clone() for k, v in net.classifier.state_dict().items()}
    for _ in range(3):
        optimizer.zero_grad()
        told = net.losses(images(), TAGS, EPOCH)
        sum(v for k, v in told.items() if "loss" in k).backward()
        optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in net.judge.state_dict().items())
    assert any(not torch.equal(v, before[k]) for k, v in net.classifier.state_dict().items())
    assert not any(p is q for params, _ in net.groups() for p in params for q in net.judge.parameters())
    maps = net.maps(images(), torch.arange(3))[TAGS.bool()]
    features = net.judge.features(images())[[0, 0, 1]]
    with torch.no_grad():
        logits = net.judge.logits(features * maps[:, None])
        want = functional.cross_entropy(logits, torch.tensor([0, 2, 1]))
        torch.testing.assert_close(net.losses(images(), TAGS, EPOCH)["ce_fg"], want)


def test_extent_is_the_share_above_a_part_of_the_maximum() -> None:
    cams = torch.tensor([[[4.0, 1.0], [0.9, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(d2losses.extent(cams, 0.25), torch.tensor([0.25, 0.0]))  # above 1, not at it
    torch.testing.assert_close(d2losses.extent(cams, 0.2), torch.tensor([0.75, 0.0]))


def test_own_margins_are_those_of_the_judges_cams() -> None:
    net = network(replace(PAPER, area="own", gradient="phi_only"))
    with torch.no_grad():
        net.generator.bias += torch.tensor([0.5, -1.0, 1.0])
        got = net.losses(images(), TAGS, EPOCH)["loss_ma"]
        features = net.classifier.features(images())
        maps = net.generator(features).sigmoid()
        cams = net.classifier.head(net.classifier.upper(features)).clamp(min=0)
    size = []
    for image in (0, 1):
        each = []
        for c in (c for c in range(3) if TAGS[image, c]):
            margin = float((cams[image, c] > 0.25 * cams[image, c].max()).float().mean())
            share = float(maps[image, c].mean())
            each.append(max(0.0, share - margin) + 0.05 * share)
        size.append(sum(each) / len(each))
    assert float(got) == pytest.approx(2.0 * sum(size) / 2, rel=1e-5)


@pytest.mark.parametrize(("factor", "count"), [(0.5, 4), (0.75, 6)])
def test_maps_made_smaller_are_read_where_the_smaller_image_is_looked_at(factor: float, count: int) -> None:
    """On a map that grows linearly, cell j of the smaller one lies at j / factor, until the last cell."""
    maps = (torch.arange(8.0)[:, None] + 10 * torch.arange(8.0)[None])[None]
    at = (torch.arange(count) / factor).clamp(max=7)
    torch.testing.assert_close(d2losses.smaller(maps, factor, (count, count))[0], at[:, None] + 10 * at[None])


def test_equivariance_is_the_mean_difference_of_the_maps_of_smaller_images() -> None:
    net = reading(equal=2.0, gradient="bas")
    torch.manual_seed(0)
    factor = 0.5 if torch.rand(()) < 0.5 else 0.75
    torch.manual_seed(0)
    with torch.no_grad():
        got = net.losses(images(), TAGS, EPOCH)["loss_eq"]
        small = functional.interpolate(images(), scale_factor=factor, mode="bilinear", align_corners=False)
        again = net.maps(small, torch.arange(3))[TAGS.bool()]
        maps = d2losses.smaller(net.maps(images(), torch.arange(3))[TAGS.bool()], factor, again.shape[1:])
    assert float(got) == pytest.approx(2.0 * float((again - maps).abs().mean()), rel=1e-5) and float(got) > 0
    assert "loss_eq" not in network().losses(images(), TAGS, EPOCH)


# The part.

TINY = D2Cam(
    backbone="small",
    cut="none",
    epochs=2,
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


OTHER = replace(TINY, judge="frozen", sees="layer4", start="head", equal=1.0, gradient="bas")


@pytest.mark.parametrize("part", [TINY, OTHER], ids=["paper", "extended"])
def test_interrupted_and_resumed_is_the_same_bytes(
    part: D2Cam, scenes: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part.fit(scenes, tmp_path / "whole", 0)
    losses = D2Network.losses

    def stop(self: D2Network, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        if int(batch["epoch"][0]) == 1:
            raise KeyboardInterrupt
        return losses(self, **batch)

    with monkeypatch.context() as patch:
        patch.setattr(D2Network, "losses", stop)
        with pytest.raises(KeyboardInterrupt):
            part.fit(scenes, tmp_path / "parts", 0)
    part.fit(scenes, tmp_path / "parts", 0)
    assert (tmp_path / "parts" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_the_equivariant_part_is_d2cam_with_other_fields(scenes: Split, tmp_path: Path) -> None:
    shared = {f.name: getattr(TINY, f.name) for f in fields(TINY) if getattr(TINY, f.name) != f.default}
    part = EqD2Cam(**shared)
    changed = {f.name: getattr(part, f.name) for f in fields(part)}
    assert {k for k, v in changed.items() if v != getattr(TINY, k)} == {
        *("ramp", "judge", "sees", "start", "beta", "hinge", "area", "equal", "gradient")
    }
    part.fit(scenes, tmp_path / "part", 0)
    D2Cam(**changed).fit(scenes, tmp_path / "fields", 0)
    assert (tmp_path / "part" / WEIGHTS).read_bytes() == (tmp_path / "fields" / WEIGHTS).read_bytes()


def test_trainings_that_begin_alike_share_their_stem(scenes: Split, tmp_path: Path) -> None:
    """The stem is the training of a CAM with the same fields; given or trained within, the result is the same bytes."""
    assert TINY.stem() == OTHER.stem() == replace(TINY, gamma1=2.0, generator_multiple=1.0).stem()
    assert TINY.stem() != replace(TINY, crop=40).stem() and replace(TINY, warmup=0).stem() is None
    stem = TINY.stem()
    assert isinstance(stem, Cam) and (stem.epochs, stem.lr) == (1, 0.02)
    faster = replace(TINY, warmup_lr=0.5).stem()
    assert faster is not None and faster.lr == 0.5
    stem.fit(scenes, tmp_path / "stem", 0)
    OTHER.fit(scenes, tmp_path / "given", 0, stem=tmp_path / "stem")
    OTHER.fit(scenes, tmp_path / "within", 0)
    assert not (tmp_path / "given" / "stem").exists()
    assert (tmp_path / "given" / WEIGHTS).read_bytes() == (tmp_path / "within" / WEIGHTS).read_bytes()


def test_missing_weights_are_told(scenes: Split, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)pretrained weights for resnet50.*none given"):
        D2Cam().fit(scenes, tmp_path, 0)
