"""Alphas of one image: padded, one class after the other, fused, cropped, and held to the trimap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from matlabel_bench import recipe
from matlabel_bench.contracts import check_inputs
from matlabel_bench.errors import MattingFailed
from matlabel_bench.images import Resampling, resize_image
from matlabel_bench.types import FOREGROUND, UNKNOWN, Alpha, Image, Trimap
from matlabel_mattings.matteformer.fusion import fuse
from matlabel_mattings.matteformer.network import MARGIN, Network, normalised, one_hot, padded
from matlabel_mattings.matteformer.sizes import SIZES


def live(out: Path, size: str, longest: int, device: str) -> Callable[[Image, Trimap], Alpha]:
    """The function a matting's `open` returns.

    It takes an RGB image h w 3 and a trimap k h w and returns float32 k h w in [0, 1], equal to the trimap where that
    is known. Classes go through the network one by one: its memory does not grow with them. A class without unknown
    pixels is its own alpha. MattingFailed is raised where the network returns no numbers.
    """
    network = Network(SIZES[size])
    recipe.load(network, out)
    network.eval().to(device)

    @torch.inference_mode()
    def matte(image: Image, trimap: Trimap) -> Alpha:
        check_inputs(image, trimap)
        alpha = (trimap == FOREGROUND).astype(np.float32)
        for plane, known in zip(alpha, trimap, strict=True):
            unknown = known == UNKNOWN
            if unknown.any():
                plane[unknown] = _solve(network, image, known, longest, device)[unknown]
        return alpha

    return matte


def _solve(network: Network, image: Image, known: np.ndarray, longest: int, device: str) -> np.ndarray:
    """One class: float32 h w in [0, 1]. Images with a side above `longest` are matted at that size."""
    whole = known.shape
    if longest and max(whole) > longest:
        share = longest / max(whole)
        size = tuple(max(1, round(side * share)) for side in whole)
        image = resize_image(image, size)
        known = resize_image(known, size, Resampling.NEAREST)
    height, width = known.shape
    inputs = (normalised(padded(image)), one_hot(padded(known)))
    plane = fuse(network(*(x[None].to(device) for x in inputs)))[0, 0].cpu().numpy()
    alpha: np.ndarray = plane[MARGIN : MARGIN + height, MARGIN : MARGIN + width]
    if not np.isfinite(alpha).all():
        remedy = "check the weights: their training diverged; another device may be less precise"
        raise MattingFailed("finite alphas from matteformer", "nan or infinite", remedy)
    return resize_image(alpha, whole, Resampling.BILINEAR).clip(0, 1)
