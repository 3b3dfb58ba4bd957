"""DeepLab-v2's network against arithmetic by hand: sizes, head, maximum of scales, losses, groups, initial weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.nn import functional

from matlabel_bench.errors import UsageError
from matlabel_bench.recipe import Recipe, optimizer
from matlabel_segmenters.aspp import MODELS, DeepLabV2Head, PixelLoss, nearest
from matlabel_segmenters.deeplab_v2 import DeepLabV2
from matlabel_segmenters.encoders import CAFFE, DeepLabV2Encoder, Look, resnet101
from matlabel_segmenters.network import MultiScale
from matlabel_segmenters.weights import initialise, ours

Given = Callable[[dict[str, torch.Tensor]], None]


def filled(first: int = 0, classes: int = 21, style: str = "caffe") -> MultiScale:
    """A network with ResNet-101 whose every tensor holds a number of its own; drawing weights would take seconds."""
    with torch.device("meta"):
        network = MultiScale("resnet101", classes, style=style)
    network.to_empty(device="cpu")
    for number, value in enumerate(network.state_dict().values(), first):
        value.fill_(number)
    return network


@pytest.fixture(scope="module")
def large() -> MultiScale:
    return filled()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, torch.Tensor]], None]:
    """Makes a state the contents of whatever file is named; what files are read, test_pretrained says."""
    return lambda state: monkeypatch.setattr("matlabel_segmenters.weights.read_weights", lambda source: state)


@pytest.fixture
def small() -> MultiScale:
    torch.manual_seed(0)
    return MultiScale("small", 3, rates=(1, 2))


def theirs(network: MultiScale) -> dict[str, torch.Tensor]:
    """The state of a network under the names of kazuto1011/deeplab-pytorch, written out from its blocks."""
    names = {}
    for kind, name in (("conv", "conv1"), ("bn", "bn1")):
        names[f"layer1.conv1.{kind}"] = f"backbone.stages.stem.{name}"
    for layer, blocks in zip((2, 3, 4, 5), (3, 4, 23, 3), strict=True):
        stage = f"layer{layer - 1}"
        for block in range(blocks):
            mine, other = f"backbone.stages.{stage}.{stage}.{block}", f"layer{layer}.block{block + 1}"
            for number, place in enumerate(("reduce", "conv3x3", "increase"), 1):
                names |= {f"{other}.{place}.{kind}": f"{mine}.{kind}{number}" for kind in ("conv", "bn")}
            if not block:
                names |= {
                    f"{other}.shortcut.conv": f"{mine}.downsample.0",
                    f"{other}.shortcut.bn": f"{mine}.downsample.1",
                }
    names |= {f"aspp.c{i}": f"decode_head.branches.{i}" for i in range(4)}
    own, out = network.model.state_dict(), {}
    for other, mine in names.items():
        out |= {f"{other}.{k.removeprefix(mine + '.')}": v for k, v in own.items() if k.startswith(mine + ".")}
    assert len(out) == len(own)
    return out


def test_sizes_are_those_of_the_reference(large: MultiScale) -> None:
    assert sum(p.numel() for p in large.parameters()) == 44_048_532
    assert len(large.state_dict()) == 632
    assert sum(p.numel() for p in filled(classes=81).parameters()) == 48_472_452


def test_strides_and_dilations(large: MultiScale) -> None:
    """Caffe's style has strides in the first convolution of a block, dilation in all blocks of the last two stages."""
    for style, (first, middle) in (("caffe", (2, 1)), ("pytorch", (1, 2))):
        with torch.device("meta"):
            blocks = [b for stage in list(resnet101(style).stages.values())[1:] for b in stage[0]]
        assert [b.conv2.dilation[0] for b in blocks] == [1] * 7 + [2] * 23 + [4] * 3
        strides = [(b.conv1.stride[0], b.conv2.stride[0]) for b in blocks]
        assert strides == [(1, 1)] * 3 + [(first, middle)] + [(1, 1)] * 29


def test_maps_of_a_training_crop() -> None:
    with torch.device("meta"):
        maps = MultiScale("resnet101", 21).pyramid(torch.zeros(1, 3, 321, 321))
    assert [m.shape for m in maps] == [(1, 21, side, side) for side in (41, 21, 31, 41)]


@pytest.mark.parametrize(("backbone", "width"), [("resnet50", 2048), ("mobilenet_v2", 320), ("small", 96)])
def test_other_backbones_have_stride_eight(backbone: str, width: int) -> None:
    with torch.device("meta"):
        network = MultiScale(backbone, 5, scales=(1.0,))
        (features,) = network.encoder(torch.zeros(1, 3, 65, 90))
        assert features.shape == (1, width, 9, 12)
        assert network(torch.zeros(1, 3, 65, 90)).shape == (1, 5, 9, 12)


def test_the_head_is_a_sum_of_dilated_convolutions() -> None:
    torch.manual_seed(0)
    head = MODELS.get("DeepLabV2Head")(rates=(1, 3), in_channels=2, channels=2, num_classes=4)
    assert {n.split(".")[0] for n, _ in head.named_parameters()} == {"branches"}
    features = torch.randn(1, 2, 7, 9)
    want = torch.zeros(1, 4, 7, 9)
    for conv, rate in zip(head.branches, (1, 3), strict=True):
        nn.init.normal_(conv.bias)
        padded = functional.pad(features, (rate,) * 4)
        for dy in range(3):
            for dx in range(3):
                part = padded[:, :, dy * rate : dy * rate + 7, dx * rate : dx * rate + 9]
                want += torch.einsum("bchw,oc->bohw", part, conv.weight[:, :, dy, dx])
        want += conv.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(head([features]), want, rtol=1e-5, atol=1e-6)


def test_the_heads_weights_are_drawn_as_in_the_reference() -> None:
    torch.manual_seed(0)
    for conv in DeepLabV2Head(in_channels=256, channels=256, num_classes=21).branches:
        assert conv.weight.detach().std().item() == pytest.approx(0.01, rel=0.02)
        assert abs(conv.weight.detach().mean().item()) < 3e-4
        assert not conv.bias.any()


def test_the_maximum_of_the_scales(small: MultiScale) -> None:
    images = torch.randn(2, 3, 40, 56)
    with torch.no_grad():
        maps = [small.model(images)]
        for share in (0.5, 0.75):
            less = functional.interpolate(images, scale_factor=share, mode="bilinear", align_corners=False)
            assert less.shape[-2:] == (40 * share, 56 * share)
            maps.append(small.model(less))
        brought = [functional.interpolate(m, (5, 7), mode="bilinear", align_corners=False) for m in maps]
        want = torch.maximum(torch.maximum(brought[0], brought[1]), brought[2])
        got = small.pyramid(images)
        assert len(got) == 4 and torch.equal(got[3], want) and torch.equal(small(images), want)
        assert all(torch.equal(a, b) for a, b in zip(got[:3], maps, strict=True))
        assert not torch.equal(want, maps[0])


def test_losses_of_all_maps_with_labels_as_small_as_each(small: MultiScale) -> None:
    images, labels = torch.randn(1, 3, 40, 56), torch.randint(0, 3, (1, 40, 56))
    labels[:, :9] = 255
    got = small.losses(images, labels)
    assert list(got) == ["loss_1", "loss_0.5", "loss_0.75", "loss_max"]
    for loss, logits in zip(got.values(), small.pyramid(images), strict=True):
        h, w = logits.shape[-2:]
        picture = PIL.Image.fromarray(labels[0].numpy().astype(np.uint8))
        wanted = np.asarray(picture.resize((w, h), PIL.Image.Resampling.NEAREST))
        chance = logits[0].softmax(0).detach().numpy()
        each = [-np.log(chance[wanted[y, x], y, x]) for y in range(h) for x in range(w) if wanted[y, x] != 255]
        assert 0 < len(each) < h * w
        assert float(loss.detach()) == pytest.approx(np.mean(each), rel=1e-5)


def test_one_scale_has_one_loss() -> None:
    network = MultiScale("small", 3, scales=(1.0,))
    assert list(network.losses(torch.zeros(1, 3, 16, 16), torch.zeros(1, 16, 16, dtype=torch.long))) == ["loss_1"]


@pytest.mark.parametrize("scales", [(), (0.5, 0.75), (1.0, 1.0), (1.0, -1.0)])
def test_scales_that_do_not_fit(scales: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match=r"different scales above 0 in msc, with 1 among them\n.*\n.*1,0\.5,0\.75"):
        MultiScale("small", 3, scales=scales)


def test_mmseg_finds_the_same_loss_through_its_own_door(small: MultiScale) -> None:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    images, labels = torch.randn(1, 3, 40, 56), torch.randint(0, 3, (1, 40, 56))
    found = small.model.loss(images, [SegDataSample(gt_sem_seg=PixelData(data=labels))])
    assert torch.equal(found["decode.loss_ce"], small.losses(images, labels)["loss_1"])
    predicted = small.model.predict(images)[0].seg_logits.data
    assert predicted.shape == (3, 40, 56)


@pytest.mark.parametrize("balanced", [False, True])
def test_pixel_loss(balanced: bool) -> None:
    logits = torch.tensor([[[[2.0, 0.0, 1.0, 5.0]], [[0.0, 1.0, 0.5, 0.0]]]])  # 1 2 1 4
    labels = torch.tensor([[[0, 1, 0, 255]]])
    each = [-np.log(np.exp(a) / (np.exp(a) + np.exp(b))) for a, b in ((2, 0), (1, 0), (1, 0.5))]
    want = (np.mean([each[0], each[2]]) + each[1]) / 2 if balanced else np.mean(each)
    assert float(PixelLoss(balanced)(logits, labels)) == pytest.approx(want, rel=1e-6)
    assert float(PixelLoss(balanced)(logits, torch.full_like(labels, 255))) == 0


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (41, 41), (160, 240), (321, 500), (640, 3)])
def test_labels_are_resized_as_pillow_does(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for shape in ((321, 321), (375, 500), (2, 3), (64, 96)):
        label = rng.integers(0, 256, shape, dtype=np.uint8)
        want = np.asarray(PIL.Image.fromarray(label).resize(size[::-1], PIL.Image.Resampling.NEAREST))
        assert np.array_equal(nearest(torch.from_numpy(label)[None], size)[0].numpy(), want)


def test_groups(large: MultiScale) -> None:
    """104 weights of convolutions; four of the head at ten times; their biases at twenty times without decay."""
    mine = optimizer(large, Recipe.of(DeepLabV2(), epochs=1))
    told = [(len(g["params"]), g["lr"], g["weight_decay"]) for g in mine.param_groups]
    assert told == [(104, 2.5e-4, 5e-4), (4, pytest.approx(2.5e-3), 5e-4), (4, pytest.approx(5e-3), 0.0)]
    held = {id(p) for g in mine.param_groups for p in g["params"]}
    left = [n for n, p in large.named_parameters() if id(p) not in held]
    norms = [n for n, m in large.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert sorted(left) == sorted(f"{n}.{end}" for n in norms for end in ("weight", "bias"))


def test_batch_normalisation_stays_as_it_came(large: MultiScale) -> None:
    large.train()
    norms = [m for m in large.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 104
    assert not any(m.training or m.weight.requires_grad for m in norms)


def test_what_is_trained_from_scratch_trains_its_normalisation(small: MultiScale) -> None:
    body = {id(p) for p in small.groups()[0][0]}
    norms = [m for m in small.modules() if isinstance(m, nn.GroupNorm)]
    assert norms and all(id(m.weight) in body and id(m.bias) in body for m in norms)


def test_the_input_of_each_style() -> None:
    image = np.array([[[10, 100, 200]]], np.uint8)
    with torch.device("meta"):
        look = DeepLabV2Encoder("resnet101", "caffe").look
    caffe = look(image).flatten()
    np.testing.assert_allclose(caffe, [200 - 104.008, 100 - 116.669, 10 - 122.675], rtol=1e-6)
    pytorch = Look(*[(123.675, 116.28, 103.53), (58.395, 57.12, 57.375)])(image).flatten()
    np.testing.assert_allclose(
        pytorch, [(10 - 123.675) / 58.395, (100 - 116.28) / 57.12, (200 - 103.53) / 57.375], rtol=1e-6
    )
    assert Look(*CAFFE).bgr is False


def test_names_of_the_reference() -> None:
    assert ours("base.layer1.conv1.conv.weight") == "backbone.stages.stem.conv1.weight"
    assert ours("layer1.conv1.bn.running_var") == "backbone.stages.stem.bn1.running_var"
    assert ours("layer4.block23.conv3x3.bn.bias") == "backbone.stages.layer3.layer3.22.bn2.bias"
    assert ours("layer2.block1.shortcut.conv.weight") == "backbone.stages.layer1.layer1.0.downsample.0.weight"
    assert ours("base.aspp.c3.bias") == "decode_head.branches.3.bias"
    assert ours("layer1.0.conv1.weight") is None and ours("fc.weight") is None


def test_a_whole_network_of_the_reference_is_loaded(large: MultiScale, given: Given) -> None:
    given({f"base.{k}": v for k, v in theirs(large).items()})
    other = filled(10_000)
    told = initialise(other, "resnet101", "caffe", "a.pth")
    assert told == "44,153,876 of 44,153,876 values (100.0 %) from the file, the rest drawn"
    mine = large.state_dict()
    different = [k for k, v in other.state_dict().items() if not torch.equal(v, mine[k])]
    assert all(k.endswith("num_batches_tracked") for k in different)


def test_a_network_of_other_classes_gives_its_backbone(large: MultiScale, given: Given) -> None:
    given(theirs(large) | {"fc.weight": torch.zeros(1)})
    other = filled(10_000, classes=6)
    told = initialise(other, "resnet101", "caffe", "a.pth")
    assert told == "42,605,504 of 43,047,896 values (99.0 %) from the file, the rest drawn"
    own, kept = large.model.state_dict(), other.model.state_dict()
    for name, value in kept.items():
        if not name.endswith("num_batches_tracked"):
            assert (value.flatten()[0] == own[name].flatten()[0]) == name.startswith("backbone."), name


def test_weights_of_the_reference_that_do_not_cover_the_network(large: MultiScale, given: Given) -> None:
    state = theirs(large)
    given({k: v for k, v in state.items() if not k.startswith("layer5.block3")})
    words = r"all \d+ parameters and buffers of the network in a\.pth\n.* 15 missing \(first: backbone\.stages\.layer4"
    with pytest.raises(UsageError, match=rf"{words}.*\n.*a variant of this network"):
        initialise(large, "resnet101", "caffe", "a.pth")
    given(state | {"layer4.block24.reduce.conv.weight": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"0 missing; 0 of another shape; 1 unknown \(first: backbone\.stages\.layer3"):
        initialise(large, "resnet101", "caffe", "a.pth")
    given(state | {"layer1.conv1.conv.weight": torch.zeros(64, 4, 7, 7)})
    shape = r"1 of another shape \(first: .*conv1\.weight \(64, 4, 7, 7\) instead of \(64, 3"
    with pytest.raises(UsageError, match=shape):
        initialise(large, "resnet101", "caffe", "a.pth")


def test_weights_of_the_other_style_are_told_apart(large: MultiScale, given: Given) -> None:
    ordinary = filled(500, style="pytorch").encoder.named().state_dict()
    given(ordinary | {"fc.weight": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"style=caffe\n.*a\.pth, which .*3 x 3 .*RGB\n.*set style=pytorch"):
        initialise(large, "resnet101", "caffe", "a.pth")
    other = filled(10_000, style="pytorch")
    assert "42,605,504 of 44,153,876 values (96.5 %)" in initialise(other, "resnet101", "pytorch", "a.pth")
    assert torch.equal(other.encoder.stages.stem.conv1.weight, ordinary["conv1.weight"])
    given(theirs(large))
    with pytest.raises(UsageError, match=r"style=pytorch\n.*a\.pth, which .*1 x 1 .*BGR\n.*set style=caffe"):
        initialise(other, "resnet101", "pytorch", "a.pth")


def test_weights_are_needed_but_for_small(small: MultiScale, large: MultiScale) -> None:
    with pytest.raises(UsageError, match=r"pretrained weights for resnet101\n.*none given\n.*set style=caffe"):
        initialise(large, "resnet101", "caffe", "")
    with pytest.raises(UsageError, match=r"pretrained weights for resnet101\n.*weights=none, with which its frozen"):
        initialise(large, "resnet101", "caffe", "none")
    with pytest.raises(UsageError, match=r"no weights for small, which is trained from scratch\n.*a\.pth"):
        initialise(small, "small", "caffe", "a.pth")
    assert initialise(small, "small", "caffe", "none") == "small from scratch"


def test_real_weights_of_mobilenet_cover_it(real_data: Path) -> None:
    network = MultiScale("mobilenet_v2", 8)
    told = initialise(network, "mobilenet_v2", "caffe", str(real_data / "weights" / "mobilenet_v2_imagenet.pth"))
    assert told.startswith("1,") and " values (9" in told
