"""The network of D2CAM: a classifier with a generator of maps between its halves (equations 2-4)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from matlabel_bench.errors import UsageError, near
from matlabel_cams import d2losses
from matlabel_cams.backbones import Backbone
from matlabel_cams.classifier import Classifier
from matlabel_cams.d2losses import Weights

SHARP, LEVEL = 6.0, 0.35
"""A generator that starts at the classifier's head gives sigmoid(SHARP (CAM / peak - LEVEL))."""
LOOKS = 640
"""Training images at which it looks for the mean peak of each class."""
LOSSES = ("loss_d2", "loss_ma", "loss_oe", "loss_eq")
"""Of the maps; the classifier's own is loss_cls."""


class D2Network(nn.Module):
    """N1, N2 and the generator: one 3 x 3 convolution and a sigmoid on a feature map, one channel a class.

    Args:
        bias: of a generator that starts at random; 0 starts every map at one half.
        multiple: of the learning rate, for the generator.
        sees: the stage whose output the generator reads, N1's last or one above; "" for N1's last, "last" for
            the one that the classifying layer reads.
        watch: every how many calls `losses` tells what each loss sends to the generator; 0 never.
        classifier: keyword arguments of `Classifier`.

    Raises:
        UsageError: a stage that the generator cannot read, or that the head's weights do not fit.
    """

    batches: torch.Tensor
    """Seen so far."""

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        weights: Weights,
        bias: float,
        multiple: float,
        sees: str = "",
        watch: int = 0,
        **classifier: Any,
    ) -> None:
        super().__init__()
        self.classifier = Classifier(backbone, classes, **classifier)
        self.sees, width = self._reads(sees, backbone.widths)
        self.generator = nn.Conv2d(width, classes, 3, padding=1)
        nn.init.xavier_uniform_(self.generator.weight)
        nn.init.constant_(self.generator.bias, bias)
        self.weights, self.multiple, self.watch, self.calls = weights, multiple, watch, 0
        last = self._last()
        if weights.start == "head" and self.sees != last:
            got = f"sees={self.sees} with start=head"
            raise UsageError("a generator that reads what the classifying layer reads", got, f"set sees={last}")
        if weights.judge == "frozen":
            self.judge = copy.deepcopy(self.classifier).requires_grad_(False)
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def _last(self) -> str:
        """The stage that the classifying layer reads."""
        halves = (self.classifier.lower, self.classifier.upper)
        return [name for half in halves for name, _ in half.named_children()][-1]

    def _reads(self, sees: str, widths: Mapping[str, int]) -> tuple[str, int]:
        """The stage that the generator reads and its channels."""
        sees = self._last() if sees == "last" else sees
        last = list(self.classifier.lower.named_children())[-1][0]
        known = [last, *(name for name, _ in self.classifier.upper.named_children() if name != "pool")]
        if sees and sees not in known:
            raise UsageError("sees to name the last stage of N1 or one above it", repr(sees), near(sees, known))
        if sees not in ("", last) and hasattr(self.classifier.upper, "pool"):
            raise UsageError("a generator below the pooling", f"sees={sees} with pool", "set pool=false, or sees empty")
        return sees or last, widths[sees or last]

    def maps(self, images: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
        """M_fg of the classes `tags` (0-based): b k gh gw in [0, 1]."""
        return self._drawn(self._seen(images))[:, tags]

    def losses(self, images: torch.Tensor, tags: torch.Tensor, epoch: torch.Tensor) -> dict[str, torch.Tensor]:
        """The losses, weighted, and what tells whether the maps live: areas, cross-entropies, open hinges."""
        below = self.classifier.frozen_features(images)
        features = self.classifier.trained(below)
        top, seen = self._above(features)
        logits = self.classifier.head(top.mean((2, 3), keepdim=True)).flatten(1)
        told = {"loss_cls": functional.multilabel_soft_margin_loss(logits.float(), tags)}
        pairs = tags.nonzero()
        self.batches += 1
        if not len(pairs):
            return told
        owners, classes, count = pairs[:, 0], pairs[:, 1], len(tags)
        maps = self._drawn(seen.detach() if self.weights.gradient == "phi_only" else seen)[owners, classes]
        told |= self._map_losses(self._judged(below, features), maps, seen, owners, classes, count)
        if self.weights.equal:
            told["loss_eq"] = self.weights.equal * self._inequality(images, maps, owners, classes)
        grown = min(1.0, int(self.batches) / max(1, self.weights.ramp))
        told |= {name: grown * loss for name, loss in told.items() if name in LOSSES}
        return told | self._pull(told)

    def _drawn(self, seen: torch.Tensor) -> torch.Tensor:
        """M_fg of all classes: b N gh gw; float32 under half precision too, for the sums over maps."""
        return self.generator(seen).float().sigmoid()

    def _seen(self, images: torch.Tensor) -> torch.Tensor:
        """What the generator reads, without the stages above it."""
        features, stages = self.classifier.features(images), dict(self.classifier.upper.named_children())
        if self.sees in stages:
            for name, stage in stages.items():
                features = stage(features)
                if name == self.sees:
                    break
        return features

    def _above(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The last feature map, and the one that the generator reads."""
        seen = features
        for name, stage in self.classifier.upper.named_children():
            features = stage(features)
            if name == self.sees:
                seen = features
        return features, seen

    @property
    def _judge(self) -> Classifier:
        return self.judge if self.weights.judge == "frozen" else self.classifier

    @torch.no_grad()
    def _extents(self, still: torch.Tensor, owners: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """The margin of each pair: how much of the image the judge's own class activation map covers."""
        cams = self._judge.head(self._judge.upper(still)).relu()
        return d2losses.extent(cams[owners, classes].float(), self.weights.level)

    def _judged(self, below: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """F of equations 3 and 4, out of reach of gradients."""
        if self.weights.judge == "live":
            return features.detach()
        with torch.no_grad():
            return self.judge.trained(below)

    def _map_losses(
        self,
        still: torch.Tensor,
        maps: torch.Tensor,
        seen: torch.Tensor,
        owners: torch.Tensor,
        classes: torch.Tensor,
        count: int,
    ) -> dict[str, torch.Tensor]:
        w = self.weights
        judged = maps  # what equation 5 sees, and whether it reaches the features
        if w.gradient == "literal":
            judged = self._drawn(seen.detach())[owners, classes]
        ce_fg, ce_bg = self._cross_entropies(still, judged, owners, classes)
        hinge = d2losses.decoupling(ce_fg, ce_bg, w.beta, w.hinge)
        shares = d2losses.area(maps)
        areas = d2losses.per_image(shares, owners, count)
        size = d2losses.margin_area(areas, w.m, w.lam) if w.area == "margin" else areas
        if w.area == "own":
            own = d2losses.margin_area(shares, self._extents(still, owners, classes), w.lam)
            size = d2losses.per_image(own, owners, count)
        both = d2losses.overlap(maps, owners, count)
        tagged = len(owners.unique())
        losses = {
            "loss_d2": w.gamma1 * d2losses.per_image(hinge, owners, count).sum() / tagged,
            "loss_ma": w.gamma2 * size.sum() / tagged,
            "loss_oe": w.gamma3 * both.sum() / tagged,
        }
        return losses | {
            "area": areas.sum().detach() / tagged,
            "overlap": both.sum().detach() / tagged,
            "ce_fg": ce_fg.mean().detach(),
            "ce_bg": ce_bg.mean().detach(),
            "open": (hinge > 0).float().mean().detach(),
        }

    def _cross_entropies(
        self, features: torch.Tensor, maps: torch.Tensor, owners: torch.Tensor, classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Equations 3 and 4 for all pairs at once, with N2's parameters out of reach of the gradients."""
        own, mask = features[owners], maps.unsqueeze(1)
        logits = self._judge.logits(torch.cat([own * mask, own * (1 - mask)]), fixed=True)
        ce = functional.cross_entropy(logits.float(), classes.repeat(2), reduction="none")
        return ce[: len(classes)], ce[len(classes) :]

    def _inequality(
        self, images: torch.Tensor, maps: torch.Tensor, owners: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        """How far the maps of smaller images are from the maps made smaller, mean over pairs and cells (SEAM)."""
        factor = 0.5 if torch.rand(()) < 0.5 else 0.75
        small = functional.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
        seen = self._seen(small)
        seen = seen.detach() if self.weights.gradient == "phi_only" else seen
        again = self._drawn(seen)[owners, classes]
        return (again - d2losses.smaller(maps, factor, again.shape[1:])).abs().mean()

    def begin(self, images: Any) -> None:
        """Go on from a classifier that has learned: it becomes the judge, its head the generator's start.

        Args:
            images: what it has learned from, `Crops` or the like.
        """
        if self.weights.judge == "frozen":
            self.judge.load_state_dict(self.classifier.state_dict())
        if self.weights.start == "head":
            peaks = self._peaks(images).clamp(min=1e-3)
            with torch.no_grad():
                self.generator.weight.zero_()
                self.generator.weight[:, :, 1, 1] = self.classifier.head.weight[:, :, 0, 0] * (SHARP / peaks)[:, None]
                self.generator.bias.fill_(-SHARP * LEVEL)

    @torch.no_grad()
    def _peaks(self, images: Any) -> torch.Tensor:
        """The mean largest activation of each class over images that have it, some `LOOKS` of all: N."""
        classifier, weight = self.classifier.eval(), self.classifier.head.weight
        total, number = weight.new_zeros(len(weight)), weight.new_zeros(len(weight))
        for index in range(0, len(images), max(1, len(images) // LOOKS)):
            one = images[0, index]
            pixels, tags = one["images"][None].to(weight.device), one["tags"].to(weight.device)
            highest = classifier.head(classifier.upper(classifier.features(pixels))).amax((2, 3))[0]
            total, number = total + highest * tags, number + tags
        return total / number.clamp(min=1)

    def _pull(self, told: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Length of the gradient that each loss sends to the generator's weights, every `watch` calls."""
        self.calls += 1
        if not self.watch or not self.training or (self.calls - 1) % self.watch:
            return {}
        found = {}
        for name, loss in told.items():
            if name in LOSSES:
                (gradient,) = torch.autograd.grad(loss, self.generator.weight, retain_graph=True)
                found[name.replace("loss", "pull")] = gradient.norm().detach()
        return found

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The classifier's groups and the generator at its multiple of the learning rate."""
        return [*self.classifier.groups(), (list(self.generator.parameters()), self.multiple)]

    def train(self, mode: bool = True) -> D2Network:
        """As `Classifier.train`, and the judge never leaves evaluation mode."""
        super().train(mode)
        if self.weights.judge == "frozen":
            self.judge.eval()
        return self
