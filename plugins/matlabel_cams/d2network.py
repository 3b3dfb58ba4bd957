"""The network of D2CAM: a classifier with a generator of maps between its halves (equations 2-4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from matlabel_cams import d2losses
from matlabel_cams.backbones import Backbone
from matlabel_cams.classifier import Classifier


@dataclass(frozen=True, slots=True)
class Weights:
    """The numbers of equations 5-8 and of their sum, by the paper's letters."""

    beta: float
    hinge: float
    m: float
    lam: float
    gamma1: float
    gamma2: float
    gamma3: float
    area: str
    gradient: str
    warmup: int


class D2Network(nn.Module):
    """N1, N2 and the generator: one 3 x 3 convolution and a sigmoid on the feature map, one channel a class.

    Args:
        bias: of the generator; 0 starts every map at one half.
        multiple: of the learning rate, for the generator.
        watch: every how many calls `losses` tells what each loss sends to the generator; 0 never.
        classifier: keyword arguments of `Classifier`.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        weights: Weights,
        bias: float,
        multiple: float,
        watch: int = 0,
        **classifier: Any,
    ) -> None:
        super().__init__()
        self.classifier = Classifier(backbone, classes, **classifier)
        self.generator = nn.Conv2d(self.classifier.width, classes, 3, padding=1)
        nn.init.xavier_uniform_(self.generator.weight)
        nn.init.constant_(self.generator.bias, bias)
        self.weights, self.multiple, self.watch, self.calls = weights, multiple, watch, 0

    def maps(self, images: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
        """M_fg of the classes `tags` (0-based): b k gh gw in [0, 1]."""
        return self.generator(self.classifier.features(images))[:, tags].sigmoid()

    def losses(self, images: torch.Tensor, tags: torch.Tensor, epoch: torch.Tensor) -> dict[str, torch.Tensor]:
        """The four losses, weighted, and what tells whether the maps live: areas, cross-entropies, open hinges."""
        features = self.classifier.features(images)
        logits = self.classifier.logits(features)
        told = {"loss_cls": functional.multilabel_soft_margin_loss(logits, tags)}
        pairs = tags.nonzero()
        if int(epoch[0]) < self.weights.warmup or not len(pairs):
            return told
        return told | self._map_losses(features, pairs[:, 0], pairs[:, 1], len(tags))

    def _map_losses(
        self, features: torch.Tensor, images: torch.Tensor, classes: torch.Tensor, count: int
    ) -> dict[str, torch.Tensor]:
        w = self.weights
        still = features.detach()
        free = still if w.gradient == "phi_only" else features  # what the generator sees in equations 6 and 8
        maps = self.generator(free).sigmoid()[images, classes]
        seen = features if w.gradient == "bas" else still  # ... and in equation 5
        judged = maps if seen is free else self.generator(seen).sigmoid()[images, classes]
        ce_fg, ce_bg = self._cross_entropies(still, judged, images, classes)
        hinge = d2losses.decoupling(ce_fg, ce_bg, w.beta, w.hinge)
        areas = d2losses.per_image(d2losses.area(maps), images, count)
        size = d2losses.margin_area(areas, w.m, w.lam) if w.area == "margin" else areas
        both = d2losses.overlap(maps, images, count)
        tagged = len(images.unique())
        losses = {
            "loss_d2": w.gamma1 * d2losses.per_image(hinge, images, count).sum() / tagged,
            "loss_ma": w.gamma2 * size.sum() / tagged,
            "loss_oe": w.gamma3 * both.sum() / tagged,
        }
        told = {
            "area": areas.sum().detach() / tagged,
            "overlap": both.sum().detach() / tagged,
            "ce_fg": ce_fg.mean().detach(),
            "ce_bg": ce_bg.mean().detach(),
            "open": (hinge > 0).float().mean().detach(),
        }
        return losses | told | self._pull(losses)

    def _pull(self, losses: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Length of the gradient that each loss sends to the generator's weights, every `watch` calls."""
        self.calls += 1
        if not self.watch or not self.training or (self.calls - 1) % self.watch:
            return {}
        found = {}
        for name, loss in losses.items():
            (gradient,) = torch.autograd.grad(loss, self.generator.weight, retain_graph=True)
            found[name.replace("loss", "pull")] = gradient.norm().detach()
        return found

    def _cross_entropies(
        self, features: torch.Tensor, maps: torch.Tensor, images: torch.Tensor, classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Equations 3 and 4 for all pairs at once, with N2's parameters out of reach of the gradients."""
        own, mask = features[images], maps.unsqueeze(1)
        logits = self.classifier.logits(torch.cat([own * mask, own * (1 - mask)]), fixed=True)
        ce = functional.cross_entropy(logits.float(), classes.repeat(2), reduction="none")
        return ce[: len(classes)], ce[len(classes) :]

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The classifier's groups and the generator at its multiple of the learning rate."""
        return [*self.classifier.groups(), (list(self.generator.parameters()), self.multiple)]
