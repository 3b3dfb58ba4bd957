"""DeepLab-v2 at several scales: one mmseg network, applied to an image and to smaller copies of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from mmengine.config import ConfigDict
from torch import nn
from torch.nn import functional

from matlabel_bench.errors import UsageError
from matlabel_segmenters.aspp import DeepLabV2Head
from matlabel_segmenters.encoders import WIDTHS, DeepLabV2Encoder

from mmseg.models.segmentors import EncoderDecoder  # isort: skip - after matlabel_segmenters.aspp, which keeps it quiet


class MultiScale(nn.Module):
    """An EncoderDecoder whose logits are the greatest of those at several scales.

    Batch normalisation keeps the statistics and the affine weights it came with; group normalisation, of a network
    trained from scratch, is trained.

    Args:
        classes: N + 1, background included.
        scales: of the input; 1 among them, on whose grid the maximum is taken.
        head_multiple: learning rate of the head's weights, relative to the backbone's; its biases have twice that.
    """

    def __init__(
        self,
        backbone: str,
        classes: int,
        *,
        style: str = "caffe",
        rates: Sequence[int] = (6, 12, 18, 24),
        scales: Sequence[float] = (1.0, 0.5, 0.75),
        head_multiple: float = 10.0,
        balanced: bool = False,
    ) -> None:
        super().__init__()
        if 1.0 not in scales or min(scales) <= 0 or len(set(scales)) != len(scales):
            got = ", ".join(f"{s:g}" for s in scales) or "none"
            raise UsageError("different scales above 0 in msc, with 1 among them", got, "set msc, e.g. 1,0.5,0.75")
        self.scales = [s for s in scales if s != 1.0]
        self.head_multiple = head_multiple
        # classes rather than their names: a training leaves mmengine's scope behind, in which mmseg's are not found
        width = WIDTHS[backbone]
        head = {"type": DeepLabV2Head, "in_channels": width, "channels": width}
        head |= {"num_classes": classes, "rates": tuple(rates), "balanced": balanced}
        self.model = EncoderDecoder(
            backbone={"type": DeepLabV2Encoder, "name": backbone, "style": style},
            decode_head=head,
            test_cfg=ConfigDict(mode="whole"),
        )
        for module in self._frozen():
            module.requires_grad_(False)

    @property
    def encoder(self) -> DeepLabV2Encoder:
        return self.model.backbone

    @property
    def head(self) -> DeepLabV2Head:
        return self.model.decode_head

    def pyramid(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Logits at scale 1, at the other scales, and, if there are others, the greatest of all at scale 1."""
        maps = [self.model(images)] + [self.model(_smaller(images, s)) for s in self.scales]
        if not self.scales:
            return maps
        size = maps[0].shape[-2:]
        brought = [maps[0]] + [functional.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps[1:]]
        return [*maps, torch.stack(brought).amax(0)]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """b 3 h w -> logits b c h/8 w/8, the greatest of all scales."""
        return self.pyramid(images)[-1]

    def losses(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss of every map of the pyramid, labels b h w int64 made as small as each."""
        names = ["loss_1", *(f"loss_{s:g}" for s in self.scales), "loss_max"]
        return {n: self.head.loss_at(m, labels) for n, m in zip(names, self.pyramid(images), strict=False)}

    def groups(self) -> list[tuple[list[nn.Parameter], float, float]]:
        """Weights of the backbone; weights of the head; biases of the head, without decay."""
        body = [p for p in self.encoder.parameters() if p.requires_grad]
        weights, biases = ([getattr(conv, n) for conv in self.head.branches] for n in ("weight", "bias"))
        return [(body, 1.0, 1.0), (weights, self.head_multiple, 1.0), (biases, 2 * self.head_multiple, 0.0)]

    def train(self, mode: bool = True) -> MultiScale:
        """Batch normalisation stays in evaluation mode."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def _frozen(self) -> Iterator[nn.Module]:
        return (m for m in self.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


def _smaller(images: torch.Tensor, scale: float) -> torch.Tensor:
    """Bilinear, at positions given by the scale and not by the rounded size; one pixel at least."""
    if min(images.shape[-2:]) * scale < 1:
        size = [max(1, int(side * scale)) for side in images.shape[-2:]]
        return functional.interpolate(images, size, mode="bilinear", align_corners=False)
    return functional.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
