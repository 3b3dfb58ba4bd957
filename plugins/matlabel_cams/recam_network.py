"""The network of ReCAM: a classifier, and a second one over features pooled under each class's map."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from matlabel_cams.backbones import Backbone
from matlabel_cams.classifier import Classifier
from matlabel_cams.d2losses import per_image


class ReCamNetwork(nn.Module):
    """The classifier of CAM and `predictor`, a 1 x 1 convolution without bias over the same features.

    Args:
        weight: of the softmax cross-entropy.
        multiple: learning rate of the classifier, backbone and head alike, relative to the predictor's.
        product: draw maps with the product of both heads' weights; else with the first head's.
        classifier: keyword arguments of `Classifier`.
    """

    def __init__(
        self, backbone: Backbone, classes: int, weight: float, multiple: float, product: bool, **classifier: Any
    ) -> None:
        super().__init__()
        self.classifier = Classifier(backbone, classes, **classifier)
        self.predictor = nn.Conv2d(self.classifier.head.in_channels, classes, 1, bias=False)
        self.weight, self.multiple, self.product = weight, multiple, product

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What both heads look at: b 3 h w -> b C gh gw."""
        return self.classifier.upper(self.classifier.features(images))

    def maps(self, images: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
        """Class activation maps before any scaling: b k gh gw for the classes `tags` (0-based)."""
        weights = self.classifier.head.weight
        if self.product:
            weights = weights * self.predictor.weight
        return functional.conv2d(self.features(images), weights[tags]).relu()

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """Features under each class's map, averaged over space: b C gh gw -> b N C.

        A map is divided by its maximum (+ 1e-5); gradients pass through it.
        """
        maps = functional.conv2d(features, self.classifier.head.weight).relu()
        maps = maps / (maps.amax((2, 3), keepdim=True) + 1e-5)
        cells = maps[0, 0].numel()
        return maps.flatten(2) @ features.flatten(2).transpose(1, 2) / cells

    def losses(self, images: torch.Tensor, tags: torch.Tensor, epoch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Multi-label soft-margin loss of the head, and the weighted cross-entropy of the predictor; `tags` b N.

        The cross-entropy of each present class's features with that class, averaged over the classes of an image and
        over all images of the batch, those without a class counting zero.
        """
        features = self.features(images)
        logits = self.classifier.head(features.mean((2, 3), keepdim=True)).flatten(1)
        loss = functional.multilabel_soft_margin_loss(logits.float(), tags)
        owner, classes = tags.nonzero(as_tuple=True)
        with torch.autocast(features.device.type, enabled=False):  # sums over space outgrow float16
            vectors = self.pooled(features.float())[owner, classes]
            told = functional.linear(vectors, self.predictor.weight.flatten(1))
            entropies = functional.cross_entropy(told, classes, reduction="none")
        return {"loss_cls": loss, "loss_sce": self.weight * per_image(entropies, owner, len(tags)).mean()}

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """The classifier at its multiple of the learning rate, the predictor at the learning rate."""
        body = [p for p in self.classifier.parameters() if p.requires_grad]
        return [(body, self.multiple), (list(self.predictor.parameters()), 1.0)]
