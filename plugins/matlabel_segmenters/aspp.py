"""DeepLab-v2's head for mmseg, and the loss it is trained with.

Both are registered with mmseg: `MODELS.build({"type": "DeepLabV2Head", ...})`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Fail to import ``MultiScaleDeformableAttention``")  # an operator nobody asks for
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    from mmseg.registry import MODELS

from matlabel_bench.types import IGNORE


@MODELS.register_module()
class PixelLoss(nn.Module):
    """Cross entropy over the pixels whose label is not 255; zero where there is none.

    Args:
        balanced: the mean of two means, over background and over foreground pixels, as the seeding loss of DSRG
            (Huang et al., CVPR 2018) weighs them; a side without a pixel adds nothing.
    """

    loss_name = "loss_ce"

    def __init__(self, balanced: bool = False) -> None:
        super().__init__()
        self.balanced = balanced

    def forward(self, logits: torch.Tensor, labels: torch.Tensor, **_: Any) -> torch.Tensor:
        """`logits` b c h w, `labels` b h w int64 -> scalar."""
        each = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
        known = labels != IGNORE
        if not self.balanced:
            return each.sum() / known.sum().clamp(min=1)
        sides = [(each * side).sum() / side.sum().clamp(min=1) for side in (labels == 0, known & (labels != 0))]
        return (sides[0] + sides[1]) / 2


@MODELS.register_module()
class DeepLabV2Head(BaseDecodeHead):
    """Atrous spatial pyramid pooling: the sum of 3 x 3 convolutions of the same map, one a dilation rate.

    Losses are taken at the size of the logits, for which labels are made smaller, not logits larger.
    """

    def __init__(self, rates: Sequence[int] = (6, 12, 18, 24), balanced: bool = False, **settings: Any) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "For binary segmentation")  # background and one class: two logits
            super().__init__(
                dropout_ratio=0,
                loss_decode={"type": PixelLoss, "balanced": balanced},
                init_cfg=None,
                **settings,
            )
        del self.conv_seg  # the base class's own classifier
        self.branches = nn.ModuleList(
            nn.Conv2d(self.in_channels, self.num_classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        for conv in self.branches:
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Feature maps of the backbone -> logits b c gh gw."""
        features = self._transform_inputs(inputs)
        logits = self.branches[0](features)
        for conv in self.branches[1:]:
            logits = logits + conv(features)
        return logits

    def loss_at(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of logits b c gh gw for labels b h w of another size."""
        loss: torch.Tensor = self.loss_decode(logits, nearest(labels, logits.shape[-2:]))
        return loss

    def loss_by_feat(self, seg_logits: torch.Tensor, batch_data_samples: Any) -> dict[str, torch.Tensor]:
        """What mmseg calls: the same loss for its data samples."""
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1)
        return {"loss_ce": self.loss_at(seg_logits, labels)}


def nearest(labels: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Labels b h w in another size: each new pixel takes the one under its middle, exactly as Pillow's NEAREST does."""
    for axis, length in zip((-2, -1), size, strict=True):
        step = labels.shape[axis] / length
        # Pillow adds step to step in double precision, which decides where a middle falls between two pixels
        at = np.cumsum([0.5 * step, *[step] * (length - 1)]).astype(np.int64)
        labels = labels.index_select(axis, torch.from_numpy(at).to(labels.device))
    return labels
