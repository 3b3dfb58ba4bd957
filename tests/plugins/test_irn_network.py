"""IRN's network: sizes, what is trained, and what it returns."""

from __future__ import annotations

import pytest
import torch

from matlabel_cams.backbones import make
from matlabel_refiners.irn_network import LEVELS, STRIDE, STRIDES, Irn


def network(name: str = "small", *, train_trunk: bool = False) -> Irn:
    torch.manual_seed(0)
    return Irn(name, make(name, STRIDE), radius=3, train_trunk=train_trunk, displacement_multiple=10.0)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (2, 16, 16), generator=generator, dtype=torch.uint8)
    return {"images": torch.randn(2, 3, 64, 64, generator=generator), "labels": labels}


def test_parameters_on_resnet50() -> None:
    ours = network("resnet50")
    assert count(ours.boundary) == 125_409
    assert count(ours.displacement) == 1_269_120
    assert count(ours.trunk) == 23_508_032


@pytest.mark.parametrize(
    ("name", "size"),
    [*((name, (33, 70)) for name in LEVELS), ("small", (64, 1)), ("small", (5, 47)), ("mobilenet_v2", (1, 1))],
)
def test_grids_are_a_quarter_rounded_up(name: str, size: tuple[int, int]) -> None:
    ours = network(name).eval()
    with torch.no_grad():
        levels = ours.features(torch.randn(1, 3, *size))
        boundary, field = ours(torch.randn(1, 3, *size))
    for level, stride in zip(levels, STRIDES, strict=True):
        assert level.shape[2:] == tuple(-(-side // stride) for side in size)
    cells = tuple(-(-side // 4) for side in size)
    assert boundary.shape == (1, 1, *cells) and field.shape == (1, 2, *cells)


def test_a_frozen_trunk_gets_no_gradient() -> None:
    ours = network().train()
    sum(ours.losses(**batch()).values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is None and not p.requires_grad for p in ours.trunk.parameters())
    branches = [*ours.boundary.parameters(), *ours.displacement.parameters()]
    assert all(p.grad is not None for p in branches)
    groups = ours.groups()
    assert [multiple for _, multiple in groups] == [1.0, 10.0]
    assert [sum(p.numel() for p in params) for params, _ in groups] == [count(ours.boundary), count(ours.displacement)]


def test_a_trunk_that_is_trained_learns_at_the_boundary_branchs_rate() -> None:
    ours = network(train_trunk=True).train()
    sum(ours.losses(**batch()).values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in ours.parameters())
    assert sum(p.numel() for p in ours.groups()[0][0]) == count(ours.boundary) + count(ours.trunk)


@pytest.mark.parametrize("train_trunk", [False, True])
def test_batch_normalisation_keeps_its_statistics(train_trunk: bool) -> None:
    ours = network("mobilenet_v2", train_trunk=train_trunk).train()
    before = {k: v.clone() for k, v in ours.state_dict().items() if "running" in k}
    sum(ours.losses(**batch()).values()).backward()  # type: ignore[union-attr]
    assert before and all(torch.equal(v, ours.state_dict()[k]) for k, v in before.items())


def test_the_mean_displacement_counts_in_evaluation_only() -> None:
    ours, images = network(), batch()["images"]
    with torch.no_grad():
        plain = ours.train()(images)[1]
        ours.mean_displacement.copy_(torch.tensor([1.5, -2.0]))
        assert torch.equal(ours.train()(images)[1], plain)
        moved = ours.eval()(images)[1] - plain
    torch.testing.assert_close(moved[0, :, 0, 0], torch.tensor([-1.5, 2.0]))


def test_boundaries_are_the_mean_of_both_views() -> None:
    ours, image = network().eval(), torch.randn(1, 3, 30, 41)
    both = torch.nn.functional.pad(torch.cat([image, image.flip(-1)]), (0, 64 - 41, 0, 64 - 30))
    with torch.no_grad():
        logits = ours(both)[0][:, 0, :8, :11]
        found, mirrored = ours.boundaries(both, (30, 41)), ours.boundaries(both.flip(0), (30, 41))
    torch.testing.assert_close(found, torch.sigmoid((logits[0] + logits[1].flip(-1)) / 2))
    torch.testing.assert_close(mirrored, found.flip(-1))
    assert found.shape == (8, 11) and 0 < found.min() < found.max() < 1
