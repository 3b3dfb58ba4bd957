"""CAM: training, maps, weights, and what it says when something is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from matlabel_bench.contracts import check_cams
from matlabel_bench.errors import UsageError
from matlabel_bench.images import enlarge
from matlabel_bench.recipe import WEIGHTS
from matlabel_bench.types import Split
from matlabel_cams.backbones import make
from matlabel_cams.cam import Cam
from matlabel_cams.classifier import Classifier, backbone_with_weights
from matlabel_cams.crops import Crops
from matlabel_cams.trained import folded, scaled

TINY = Cam(
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
)
BOTH = np.array([1, 2], np.uint8)


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "small"])
def test_folded_networks_give_the_same_without_batch_normalisation(name: str, stride: int) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(make(name, stride).stages).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    images = torch.randn(1, 3, 65, 81)
    with torch.inference_mode():
        want = network(images)
        got = folded(network)(images)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * float(want.abs().max()))


@pytest.fixture(scope="module")
def trained(scenes: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cam")
    replace(TINY, epochs=12).fit(scenes, out, 0)
    return out


def test_maps_find_what_they_were_taught(trained: Path, scenes: Split) -> None:
    """On pictures with one coloured square, the map is higher inside than outside by at least 0.3 on average."""
    generate = TINY.open(trained)
    gaps = []
    for sample in scenes.samples[:10]:
        image = sample.read()
        maps = check_cams(generate(image, sample.tag_array()), 1, "cam")
        inside = (image.max(axis=2) >= 170) | (image.min(axis=2) <= 60)
        large = enlarge(maps, image.shape[:2])[0]
        gaps.append(large[inside].mean() - large[~inside].mean())
    assert np.mean(gaps) > 0.3


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 1), (3, 5), (97, 61)])
@pytest.mark.parametrize("tags", [(), (2,), (1, 2)])
def test_odd_sizes_and_tags(trained: Path, size: tuple[int, int], tags: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    maps = check_cams(TINY.open(trained)(image, np.array(tags, np.uint8)), len(tags), "cam")
    assert all(-(-side // cells) * cells >= side for side, cells in zip(size, maps.shape[1:], strict=True))


def test_maps_do_not_depend_on_the_other_tags(trained: Path, scenes: Split) -> None:
    generate, image = TINY.open(trained), scenes.samples[10].read()
    np.testing.assert_allclose(generate(image, BOTH)[1:], generate(image, BOTH[1:]), atol=1e-5)


def test_same_seed_same_bytes_other_seed_others(scenes: Split, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        TINY.fit(scenes, tmp_path / name, seed)
    a, b, c = ((tmp_path / name / WEIGHTS).read_bytes() for name in "abc")
    assert a == b != c


def test_scaled_gives_maximum_one_or_zero() -> None:
    maps = np.stack([np.full((2, 2), 3.7), np.zeros((2, 2)), np.full((2, 2), 1e-7)]).astype(np.float32)
    assert np.array_equal(scaled(maps), np.stack([np.ones((2, 2)), np.zeros((2, 2)), np.zeros((2, 2))]))
    assert scaled(np.zeros((0, 4, 5), np.float32)).shape == (0, 4, 5)


def test_the_loss_is_multi_label_soft_margin() -> None:
    network = Classifier(make("small", 8), 2, part="", cut="none", head_multiple=10.0)
    images, tags = torch.randn(2, 3, 32, 32), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    logits = network.head(network.upper(network.lower(images))).mean((2, 3))
    by_hand = -(tags * functional.logsigmoid(logits) + (1 - tags) * functional.logsigmoid(-logits)).mean()
    got = network.losses(images, tags, torch.tensor([0, 0]))["loss_cls"]
    torch.testing.assert_close(got, by_hand)


def test_cut_stages_get_no_gradient_and_others_do() -> None:
    network = Classifier(make("small", 8), 2, part="layer3", cut="layer1", head_multiple=10.0).train()
    network.losses(torch.randn(2, 3, 32, 32), torch.ones(2, 2), torch.tensor([0, 0]))["loss_cls"].backward()
    moved = {name.split(".")[1] for name, p in network.named_parameters() if p.grad is not None and "head" not in name}
    assert moved == {"layer2", "layer3", "layer4"}
    groups = network.groups()
    assert [multiple for _, multiple in groups] == [1.0, 10.0]
    assert sum(len(params) for params, _ in groups) == sum(p.requires_grad for p in network.parameters())


def test_batch_normalisation_keeps_its_statistics() -> None:
    network = Classifier(make("mobilenet_v2", 16), 2, part="", cut="none", head_multiple=10.0).train()
    before = {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
    network.losses(torch.randn(2, 3, 64, 64), torch.ones(2, 2), torch.tensor([0, 0]))["loss_cls"].backward()
    assert before and all(torch.equal(v, network.state_dict()[k]) for k, v in before.items())
    assert network.lower.conv1.conv1.bn.weight.grad is not None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"backbone": "mobilenet_v2"}, r"(?s)pretrained weights for mobilenet_v2.*none given.*weights=none"),
        ({"backbone": "resnet50", "weights": "/no/file.pth"}, r"(?s)no file /no/file\.pth"),
        ({"weights": "torchvision://resnet50"}, r"(?s)no weights for small.*weights=none"),
        ({"cut": "layer9"}, r"(?s)cut to name a stage.*'layer9'.*layer1, layer2"),
        ({"part": "layr3"}, r"(?s)part to name a stage.*did you mean 'layer3'"),
        ({"part": "layer1", "cut": "layer3"}, r"(?s)cut not above part \(layer1\).*layer3"),
        ({"side_low": 90, "side_high": 60}, r"(?s)side_low not above side_high.*90 and 60"),
    ],
)
def test_wrong_fields(scenes: Split, tmp_path: Path, fields: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(TINY, **fields).fit(scenes, tmp_path, 0)  # type: ignore[arg-type]


def test_open_without_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)a finished training in .*train the part first"):
        TINY.open(tmp_path)


def test_open_with_weights_of_another_network(trained: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)weights of a finished training.*train the part first"):
        replace(TINY, backbone="mobilenet_v2").open(trained)


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(3)}, tmp_path / "alien.pth")
    with pytest.raises(UsageError, match=r"(?s)0 that fit.*missing \(first: conv1\.conv\.weight"):
        backbone_with_weights("mobilenet_v2", 16, str(tmp_path / "alien.pth"), 0)


def test_real_mobilenet_weights_cover_the_network(real_data: Path) -> None:
    path = real_data / "weights" / "mobilenet_v2_imagenet.pth"
    state = torch.load(path, weights_only=True)["state_dict"]
    backbone = backbone_with_weights("mobilenet_v2", 16, str(path), 0)
    assert torch.equal(backbone.stages["conv2"].conv2.conv.weight, state["conv2.conv.weight"])
    assert torch.equal(backbone.stages["layer7"].layer7[0].conv[0].conv.weight, state["layer7.0.conv.0.conv.weight"])
    with pytest.raises(UsageError, match=r"(?s)is of another network"):
        backbone_with_weights("resnet50", 16, str(path), 0)


def test_resnet_names_its_layers_as_torchvision() -> None:
    names = {n for stage in make("resnet50", 16).stages.values() for n in stage.state_dict()}
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.downsample.0.weight", "layer4.2.bn3.bias"} <= names
    assert sum(p.numel() for stage in make("resnet50", 16).stages.values() for p in stage.parameters()) == 23_508_032


@pytest.mark.parametrize("name", ["small", "mobilenet_v2", "resnet50"])
@pytest.mark.parametrize("stride", [8, 16])
def test_strides_and_widths(name: str, stride: int) -> None:
    backbone = make(name, stride)
    image = torch.randn(1, 3, 33, 64)
    for stage, layers in backbone.stages.items():
        image = layers.eval()(image)
        assert image.shape[1] == backbone.widths[stage]
    assert image.shape[2:] == (-(-33 // stride), 64 // stride)


def test_crops_depend_on_seed_epoch_and_index_alone(scenes: Split) -> None:
    crops = Crops(scenes, make("small", 8), (30, 90), 48, 5)
    one, again, later = crops[0, 3], crops[0, 3], crops[1, 3]
    assert torch.equal(one["images"], again["images"]) and not torch.equal(one["images"], later["images"])
    assert one["images"].shape == (3, 48, 48) and one["tags"].tolist() == [0.0, 1.0]
    assert not torch.equal(one["images"], Crops(scenes, make("small", 8), (30, 90), 48, 6)[0, 3]["images"])


def test_crops_pad_with_the_mean_colour(scenes: Split) -> None:
    image = Crops(scenes, make("small", 8), (20, 20), 64, 0)[0, 0]["images"]
    assert (image == 0).all(dim=0).float().mean() > 1 - 20 * 20 / 64**2 - 0.01
