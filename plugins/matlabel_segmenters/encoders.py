"""Backbones of DeepLab-v2, at output stride 8, with the way each wants its input."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from matlabel_bench.types import Image
from matlabel_cams.backbones import IMAGENET, Backbone, make  # first: it keeps quiet what mmcv's import would say

from mmengine.model import BaseModule  # isort: skip
from mmseg.models.backbones import ResNet  # isort: skip
from mmseg.registry import MODELS  # isort: skip

CAFFE = ((122.675, 116.669, 104.008), (1.0, 1.0, 1.0))
"""Mean and deviation, of RGB, of networks that come from Caffe."""

WIDTHS = {"resnet101": 2048, "resnet50": 2048, "mobilenet_v2": 320, "small": 96}
"""Channels of the map that each backbone gives."""


@dataclass(frozen=True)
class Look:
    """How a network wants its pixels."""

    mean: tuple[float, float, float]
    """Of RGB in 0..255."""
    std: tuple[float, float, float]
    bgr: bool = False

    def __call__(self, image: Image) -> torch.Tensor:
        """h w 3 uint8 -> 3 h w float32."""
        pixels = (image.astype(np.float32) - np.float32(self.mean)) / np.float32(self.std)
        planes = pixels.transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(planes[::-1] if self.bgr else planes))


@MODELS.register_module()
class DeepLabV2Encoder(BaseModule):
    """Stages of a backbone one after another; one map comes out, a cell for 8 x 8 pixels.

    Args:
        name: resnet101, or a backbone that the generators of class activation maps know.
        style: of resnet101, see `resnet101`.
    """

    def __init__(self, name: str, style: str = "caffe") -> None:
        super().__init__()
        backbone = resnet101(style) if name == "resnet101" else make(name, 8)
        if name == "mobilenet_v2":
            del backbone.stages["conv2"]  # 1280 channels made for classifying images
        self.stages = nn.Sequential(backbone.stages)
        self.pretrained = backbone.pretrained
        self.look = Look(backbone.mean, backbone.std, bgr=name == "resnet101" and style == "caffe")

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """b 3 h w -> [b width h/8 w/8], rounded up."""
        return [self.stages(images)]

    def named(self) -> nn.Module:
        """The same layers under the names that files of weights use: without the stage before them."""
        out = nn.Module()
        for stage in self.stages:
            for name, child in stage.named_children():
                out.add_module(name, child)
        return out


def resnet101(style: str) -> Backbone:
    """ResNet-101 with dilation 2 in layer3 and 4 in layer4, in all of their blocks; mmseg's names.

    Args:
        style: `caffe` as DeepLab-v2's: strides in the first 1 x 1 convolution, BGR minus the mean; `pytorch` for
            weights from torchvision or mmseg: strides in the 3 x 3 convolution, RGB by mean and deviation. The pooling
            of the stem rounds sizes up in both.
    """
    net = ResNet(depth=101, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), style=style, init_cfg=[])
    pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
    stem = OrderedDict(conv1=net.conv1, bn1=net.bn1, relu=net.relu, pool=pool)
    stages = OrderedDict(stem=nn.Sequential(stem))
    for i in range(1, 5):
        stages[f"layer{i}"] = nn.Sequential(OrderedDict([(f"layer{i}", getattr(net, f"layer{i}"))]))
    widths = {"stem": 64, "layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}
    return Backbone(stages, widths, "layer3", *(CAFFE if style == "caffe" else IMAGENET))
