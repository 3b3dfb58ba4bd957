"""Backbones by name, as stages in order: who uses one says where N1 ends and N2 begins.

resnet50 and mobilenet_v2 are mmseg's; their keys are those of torchvision's ResNet-50 and of mmseg's MobileNetV2 with
`conv2` (the 1280-channel layer before the classifier) added. `small` is for the tiny profile and has no pretrained
weights. Every convolution has an odd kernel and is padded by half of it, so the cell j of a map of stride s looks at
pixel s j, not at the middle of the pixels s j .. s j + s - 1; `scales.py` relies on that.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Fail to import ``MultiScaleDeformableAttention``")  # an operator nobody asks for
    from mmcv.cnn import ConvModule
    from mmseg.models.backbones import MobileNetV2, ResNet

from matlabel_bench.errors import UsageError, near

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
HALF = ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))


@dataclass(frozen=True)
class Backbone:
    """Stages of a network, first to last."""

    stages: OrderedDict[str, nn.Sequential]
    widths: dict[str, int]
    """Channels that leave each stage."""
    part: str
    """The last stage of N1 unless the user chooses another (the paper: the penultimate feature map)."""
    mean: tuple[float, float, float]
    """Of RGB in 0..255; what images are padded with."""
    std: tuple[float, float, float]
    pretrained: bool = True
    """Whether it is of use only with pretrained weights."""

    def stage(self, name: str, field: str) -> int:
        """Position of a stage. Raises UsageError, naming `field`, for an unknown one."""
        names = list(self.stages)
        if name not in names:
            raise UsageError(f"{field} to name a stage of the backbone", repr(name), near(name, names))
        return names.index(name)


def make(name: str, stride: int) -> Backbone:
    """A backbone with random weights. Raises UsageError for an unknown name or a stride other than 8 or 16."""
    if name not in BACKBONES:
        raise UsageError("a known backbone", repr(name), near(name, BACKBONES))
    if stride not in (8, 16):
        raise UsageError("an output stride of 8 or 16", str(stride), "choose stride=8 or stride=16")
    return BACKBONES[name](stride)


def resnet50(stride: int) -> Backbone:
    """Stride 16 as IRN's (no dilation); 8 as ReCAM's option: dilations 1, 1, 2, 2, each stage's first block without."""
    net = ResNet(
        depth=50,
        strides=(1, 2, 2, 1) if stride == 16 else (1, 2, 1, 1),
        dilations=(1, 1, 1, 1) if stride == 16 else (1, 1, 2, 2),
        contract_dilation=True,
        init_cfg=[],
    )
    stages = OrderedDict(stem=nn.Sequential(OrderedDict(conv1=net.conv1, bn1=net.bn1, relu=net.relu, pool=net.maxpool)))
    for i in range(1, 5):
        stages[f"layer{i}"] = nn.Sequential(OrderedDict([(f"layer{i}", getattr(net, f"layer{i}"))]))
    widths = {"stem": 64, "layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}
    return Backbone(stages, widths, "layer3", *IMAGENET)


def mobilenet_v2(stride: int) -> Backbone:
    """Stride 16 without dilation; 8 with dilation 2 in all depthwise layers behind the stage that lost its stride."""
    strides = (1, 2, 2, 2, 1, 1, 1) if stride == 16 else (1, 2, 2, 1, 1, 1, 1)
    net = MobileNetV2(strides=strides, out_indices=(6,))
    last = ConvModule(320, 1280, 1, norm_cfg={"type": "BN"}, act_cfg={"type": "ReLU6"})
    names = ["conv1", *net.layers, "conv2"]
    stages = OrderedDict(
        (n, nn.Sequential(OrderedDict([(n, last if n == "conv2" else getattr(net, n))]))) for n in names
    )
    if stride == 8:
        depthwise = [m for n in names[4:] for m in stages[n].modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
        for conv in depthwise[1:]:  # the first sees the undiminished map at its own density
            conv.dilation, conv.padding = (2, 2), (2, 2)
    widths = dict(zip(names, (32, 16, 24, 32, 64, 96, 160, 320, 1280), strict=True))
    return Backbone(stages, widths, "layer7", *HALF)


def small(stride: int) -> Backbone:
    """Seven plain convolutions with group normalisation, trained from scratch in a minute."""
    widths = {"stem": 24, "layer1": 48, "layer2": 64, "layer3": 96, "layer4": 96}
    stages = OrderedDict(
        stem=_convs(3, 24, (2,)),
        layer1=_convs(24, 48, (2,)),
        layer2=_convs(48, 64, (2, 1)),
        layer3=_convs(64, 96, (stride // 8, 1)),
        layer4=_convs(96, 96, (1,)),
    )
    return Backbone(stages, widths, "layer3", *HALF, pretrained=False)


def _convs(channels: int, width: int, strides: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for stride in strides:
        conv = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, nn.GroupNorm(8, width), nn.ReLU(inplace=True)]
        channels = width
    return nn.Sequential(*layers)


BACKBONES: dict[str, Callable[[int], Backbone]] = {
    "resnet50": resnet50,
    "mobilenet_v2": mobilenet_v2,
    "small": small,
}


def channel_constants(backbone: Backbone) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation as 3 x 1 x 1 tensors."""
    return torch.tensor(backbone.mean).view(3, 1, 1), torch.tensor(backbone.std).view(3, 1, 1)
