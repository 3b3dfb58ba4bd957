"""Maps lie where the network looked: at every scale, mirrored, at odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from matlabel_bench.images import enlarge
from matlabel_cams.backbones import make
from matlabel_cams.scales import at_scales, grid, sampling

ZERO, ONE = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)


@pytest.mark.parametrize("cell", [1, 3, 4, 8, 16])
@pytest.mark.parametrize("pixels", [1, 2, 7, 16, 17, 100, 113, 375, 500])
def test_a_reader_finds_the_cell_size(pixels: int, cell: int) -> None:
    cells, size = grid(pixels, cell)
    assert size == -(-pixels // cells) <= cell
    assert cells * size >= pixels > (cells - 1) * size


def test_sampling_is_linear_and_repeats_the_border() -> None:
    weights = sampling(
        cells=3, step=4, first=0.5, count=4, size=3
    )  # cells at 0.5, 4.5, 8.5; asked at 1.5, 4.5, 7.5, 10.5
    want = torch.tensor([[0.75, 0.25, 0], [0, 1, 0], [0, 0.25, 0.75], [0, 0, 1]])
    torch.testing.assert_close(weights, want)
    assert torch.equal(sampling(1, 16, 0.5, 2, 8), torch.ones(2, 1))


def brightness(stride: int):
    """A network of one odd, centred kernel: cell j is the mean around pixel stride j."""
    side = stride | 1
    kernel = torch.full((1, 1, side, side), 1 / side**2)
    return lambda batch: functional.conv2d(batch[:, :1], kernel, stride=stride, padding=side // 2)


def centre(values: np.ndarray) -> tuple[float, float]:
    y, x = np.mgrid[: values.shape[0], : values.shape[1]]
    return float((values * y).sum() / values.sum()), float((values * x).sum() / values.sum())


@pytest.mark.parametrize("size", [(101, 133), (96, 128), (75, 64)])
@pytest.mark.parametrize(("stride", "cell"), [(8, 8), (8, 4), (16, 8), (16, 16)])
@pytest.mark.parametrize("flip", [False, True])
def test_maps_are_aligned_with_the_image(size: tuple[int, int], stride: int, cell: int, flip: bool) -> None:
    """A bright square comes back at its place, within a third of half a cell."""
    image = np.zeros((*size, 3), np.uint8)
    image[31:56, 22:45] = 255
    maps = at_scales(
        image,
        brightness(stride),
        stride=stride,
        cell=cell,
        scales=(0.5, 1.0, 1.5, 2.0),
        flip=flip,
        mean=ZERO,
        std=ONE * 255,
    )
    found = centre(enlarge(maps.numpy(), size)[0])
    assert found == pytest.approx((43, 33), abs=stride / 6)


def test_a_ramp_keeps_its_values() -> None:
    """Linear brightness is reproduced at the cells' centres, away from the borders."""
    image = np.broadcast_to(np.arange(128, dtype=np.uint8)[None, :, None], (96, 128, 3))
    maps = at_scales(
        image, brightness(8), stride=8, cell=4, scales=(1.0, 2.0), flip=True, mean=ZERO, std=ONE
    )  # pixel i covers [i, i + 1) and has brightness i: the middle of cell j, at 4 j + 2, has 4 j + 1.5
    want = torch.arange(32) * 4 + 1.5
    torch.testing.assert_close(maps[0, 12, 4:-4], want[4:-4], atol=0.1, rtol=0)


def test_large_images_are_made_smaller_first() -> None:
    seen = []

    def forward(batch: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(batch.shape))
        return brightness(8)(batch)

    image = np.zeros((300, 600, 3), np.uint8)
    maps = at_scales(image, forward, stride=8, cell=8, scales=(1.0,), flip=False, mean=ZERO, std=ONE, longest=200)
    assert seen == [(1, 3, 100, 200)] and maps.shape == (1, 38, 75)


@pytest.mark.parametrize(("name", "stride"), [("small", 8), ("small", 16), ("mobilenet_v2", 8), ("mobilenet_v2", 16)])
def test_backbones_look_at_the_pixel_that_the_sampling_assumes(name: str, stride: int) -> None:
    """With equal weights and no activation, what cell j sees is centred on pixel s j, in both axes."""
    check_centre(name, stride)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [8, 16])
def test_resnet_looks_at_the_pixel_that_the_sampling_assumes(stride: int) -> None:
    check_centre("resnet50", stride)


def check_centre(name: str, stride: int) -> None:
    backbone = make(name, stride)
    network = nn.Sequential(*backbone.stages.values()).eval()
    for module in network.modules():
        for child, layer in list(module.named_children()):
            if isinstance(layer, nn.MaxPool2d):
                setattr(module, child, nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding))
            elif isinstance(layer, nn.ReLU | nn.ReLU6 | nn.GroupNorm | nn.BatchNorm2d):
                setattr(module, child, nn.Identity())
            elif isinstance(layer, nn.Conv2d):
                nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    cells = 528 // stride  # wide enough for the receptive field not to reach the border
    image = torch.zeros(1, 3, 528, 528, requires_grad=True)
    maps = network(image)
    assert maps.shape[2:] == (cells, cells)
    at = cells // 2
    maps[0, 0, at, at].backward()
    assert image.grad is not None
    weight = image.grad[0, 0].double().numpy()
    assert centre(weight) == pytest.approx((at * stride, at * stride), abs=0.5)
