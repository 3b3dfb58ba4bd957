"""A multi-label classifier in two halves, N1 and N2, around the feature map between them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from matlabel_bench.errors import UsageError
from matlabel_bench.pretrained import SCRATCH, SOURCES, cover, read_weights
from matlabel_cams.backbones import Backbone, make


class Classifier(nn.Module):
    """N1 = `lower`; N2 = `tail`: the stages above, global average pooling, a 1 x 1 convolution without bias.

    Batch normalisation always uses the statistics it came with; its weights are trained (IRN's FixedBatchNorm).

    Args:
        classes: N.
        part: last stage of N1; "" for the backbone's own choice.
        cut: last stage that is not trained; "none" trains all.
        head_multiple: learning rate of the classifying layer, relative to the backbone's.
        pool: halve the feature map by max-pooling at the beginning of N2 (BAS).
    """

    def __init__(
        self, backbone: Backbone, classes: int, *, part: str, cut: str, head_multiple: float, pool: bool = False
    ) -> None:
        super().__init__()
        names = list(backbone.stages)
        end = backbone.stage(part or backbone.part, "part") + 1
        self.frozen = 0 if cut == SCRATCH else backbone.stage(cut, "cut") + 1
        if self.frozen > end:
            raise UsageError(f"cut not above part ({names[end - 1]})", cut, "choose a lower stage for cut")
        self.width, self.head_multiple = backbone.widths[names[end - 1]], head_multiple
        self.lower = nn.Sequential(OrderedDict((n, backbone.stages[n]) for n in names[:end]))
        upper: OrderedDict[str, nn.Module] = OrderedDict((n, backbone.stages[n]) for n in names[end:])
        if pool:
            upper["pool"] = nn.MaxPool2d(2, ceil_mode=True)
            upper.move_to_end("pool", last=False)
        self.head = nn.Conv2d(backbone.widths[names[-1]], classes, 1, bias=False)
        self.upper = nn.Sequential(upper)
        for stage in list(self.lower)[: self.frozen]:
            stage.requires_grad_(False)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """N1: b 3 h w -> b C gh gw."""
        return self.trained(self.frozen_features(images))

    def frozen_features(self, images: torch.Tensor) -> torch.Tensor:
        """The stages that are not trained: b 3 h w -> b c gh gw."""
        with torch.no_grad():
            for stage in list(self.lower)[: self.frozen]:
                images = stage(images)
        return images

    def trained(self, features: torch.Tensor) -> torch.Tensor:
        """The other stages of N1, on what `frozen_features` gives."""
        for stage in list(self.lower)[self.frozen :]:
            features = stage(features)
        return features

    def logits(self, features: torch.Tensor, fixed: bool = False) -> torch.Tensor:
        """N2: b C gh gw -> b N. `fixed` keeps gradients from its parameters, not from `features`."""
        if not fixed:
            return self.head(self.upper(features).mean((2, 3), keepdim=True)).flatten(1)
        above = torch.func.functional_call(self.upper, detached(self.upper), (features,))
        return functional.conv2d(above.mean((2, 3), keepdim=True), self.head.weight.detach()).flatten(1)

    def maps(self, images: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
        """Class activation maps before any scaling, ReLU(w_c F): b k gh gw for the classes `tags` (0-based)."""
        above = self.upper(self.features(images))
        return functional.conv2d(above, self.head.weight[tags]).relu()

    def losses(self, images: torch.Tensor, tags: torch.Tensor, epoch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Multi-label soft-margin loss; `tags` b N of 0 and 1."""
        logits = self.logits(self.features(images)).float()
        return {"loss_cls": functional.multilabel_soft_margin_loss(logits, tags)}

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Backbone at the learning rate, head at its multiple."""
        body = [p for m in (self.lower, self.upper) for p in m.parameters() if p.requires_grad]
        return [(body, 1.0), (list(self.head.parameters()), self.head_multiple)]

    def train(self, mode: bool = True) -> Classifier:
        """Batch normalisation stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def detached(module: nn.Module) -> Mapping[str, torch.Tensor]:
    """Parameters and buffers of a module, out of reach of gradients."""
    return {name: value.detach() for name, value in [*module.named_parameters(), *module.named_buffers()]}


def backbone_with_weights(name: str, stride: int, weights: str, seed: int) -> Backbone:
    """A backbone with its pretrained weights.

    Args:
        weights: a file or an address; "none" for random weights; "" where the backbone needs none.

    Raises:
        UsageError: no weights for a backbone that is of no use without; a file of another network.
    """
    torch.manual_seed(seed)
    backbone = make(name, stride)
    if weights == SCRATCH or (not weights and not backbone.pretrained):
        return backbone
    if not weights:
        raise UsageError(f"pretrained weights for {name}", "none given", SOURCES)
    if not backbone.pretrained:
        raise UsageError(f"no weights for {name}, which is trained from scratch", weights, f"use weights={SCRATCH}")
    cover(_Named(backbone), read_weights(weights), weights)
    return backbone


class _Named(nn.Module):
    """All stages under the names their file uses: each stage's own, without the stage before it."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        for stage in backbone.stages.values():
            for name, child in stage.named_children():
                self.add_module(name, child)


def options(part: Any) -> dict[str, Any]:
    """What a part's fields say about the classifier."""
    return {"part": part.part, "cut": part.cut, "head_multiple": part.head_multiple}
