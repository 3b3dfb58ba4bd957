"""MatteFormer as a module: encoder, decoder, and how images and trimaps enter."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from matlabel_bench.types import BACKGROUND, FOREGROUND, UNKNOWN
from matlabel_mattings.matteformer.decoder import Alphas, Decoder
from matlabel_mattings.matteformer.encoder import Encoder
from matlabel_mattings.matteformer.sizes import Size

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue in [0, 1]."""
MARGIN, MULTIPLE = 32, 32


class Network(nn.Module):
    """Image and trimap to three alphas."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(size), Decoder(size)

    def forward(self, image: torch.Tensor, trimap: torch.Tensor) -> Alphas:
        """Three alphas b 1 h w.

        Args:
            image: b 3 h w, normalised; h and w multiples of 32.
            trimap: b 3 h w of 0 and 1: background, unknown, foreground.
        """
        alphas: Alphas = self.decoder(self.encoder(torch.cat([image, trimap], 1), trimap))
        return alphas


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """RGB h w 3 of 0..255 -> 3 h w float32, with ImageNet's mean and deviation."""
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)) / 255
    return (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def one_hot(plane: np.ndarray) -> torch.Tensor:
    """A trimap's plane h w of 0, 128, 255 -> 3 h w float32 of 0 and 1: background, unknown, foreground."""
    return torch.from_numpy(np.stack([plane == value for value in (BACKGROUND, UNKNOWN, FOREGROUND)])).float()


def padded(array: np.ndarray) -> np.ndarray:
    """h w [3] with MARGIN mirrored pixels on all sides, and more at bottom and right up to a multiple of MULTIPLE.

    NumPy mirrors again and again where a side is shorter than the margin, and repeats a single row or column.
    """
    sides = [(MARGIN, MARGIN + -side % MULTIPLE) for side in array.shape[:2]]
    return np.pad(array, [*sides, *[(0, 0)] * (array.ndim - 2)], mode="reflect")
