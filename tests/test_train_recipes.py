"""Recipes: steps instead of epochs, accumulation, Adam, schedules, warm-up, groups with a decay of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from matlabel_bench.errors import UsageError
from matlabel_bench.progress import look
from matlabel_bench.recipe import CHECKPOINT, WEIGHTS, Order, Recipe, epochs, steps_an_epoch, total_steps
from matlabel_bench.train import run

RECIPE = Recipe(epochs=1, batch=2, lr=0.1, momentum=0.9, weight_decay=0.0, power=0.9)


class Line(nn.Module):
    """A linear model; it remembers the learning rate of every batch."""

    def __init__(self, decay: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.bias = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(1))
        self.decay = decay

    def losses(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (x @ self.weight + self.bias - y).square().mean()}

    def groups(self) -> list[Any]:
        return [([self.weight], 1.0), ([self.bias], 2.0, self.decay)]


class Points:
    """Points that differ from epoch to epoch."""

    def __init__(self, images: int = 10, stop_in: int = -1) -> None:
        self.images, self.stop_in = images, stop_in

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, at: tuple[int, int]) -> dict[str, torch.Tensor]:
        if at[0] == self.stop_in:
            raise KeyboardInterrupt
        x = torch.from_numpy(np.random.default_rng(at).normal(size=3)).float()
        return {"x": x, "y": x.sum().sin()}


def train(out: Path, recipe: Recipe, points: Points | None = None, decay: float = 1.0) -> Line:
    network = Line(decay)
    run(network, points or Points(), recipe, out, 0, {})
    return network


def batches(recipe: Recipe, images: int = 10) -> list[list[tuple[int, int]]]:
    """The batches of a whole training."""
    order, out = Order(images, recipe, 0), []
    for epoch in range(epochs(recipe, images)):
        order.set_epoch(epoch)
        ats = list(order)
        out += [ats[i : i + recipe.batch] for i in range(0, len(ats), recipe.batch)]
    return out


def by_hand(recipe: Recipe, rates: list[float], optimizer: Any, decay: float = 1.0) -> Line:
    """The same training as a plain loop; `optimizer` is made of the parameter groups."""
    network, points, parts = Line(decay), Points(), batches(recipe)
    stepper = optimizer([{"params": [network.weight]}, {"params": [network.bias]}])
    for step, rate in enumerate(rates):
        stepper.zero_grad()
        for at in parts[step * recipe.accumulate : (step + 1) * recipe.accumulate]:
            items = [points[i] for i in at]
            loss = network.losses(torch.stack([i["x"] for i in items]), torch.stack([i["y"] for i in items]))["loss"]
            (loss / recipe.accumulate).backward()
        for group, multiple in zip(stepper.param_groups, (1.0, 2.0), strict=True):
            group["lr"] = rate * multiple
        stepper.step()
    assert len(parts) == len(rates) * recipe.accumulate
    return network


def same(got: Line, want: Line, tolerance: float = 1e-6) -> None:
    for name, value in got.state_dict().items():
        torch.testing.assert_close(value, want.state_dict()[name], rtol=tolerance, atol=tolerance)


def poly(step: int, steps: int) -> float:
    return 0.1 * (1 - step / steps) ** 0.9


@pytest.mark.parametrize(
    ("change", "rates"),
    [
        ({"steps": 7}, [poly(s, 7) for s in range(7)]),
        ({"schedule": "cosine"}, [0.05 * (1 + math.cos(math.pi * s / 5)) for s in range(5)]),
        ({"warmup": 2}, [0.05, 0.1, *(poly(s, 3) for s in range(3))]),
        ({"warmup": 1}, [0.1, *(poly(s, 4) for s in range(4))]),
        (
            {"warmup": 3, "schedule": "cosine", "steps": 6},
            [0.1 / 3, 0.2 / 3, 0.1, 0.1, 0.05 * (1 + math.cos(math.pi / 3)), 0.05 * (1 + math.cos(math.pi * 2 / 3))],
        ),
        ({"accumulate": 2, "steps": 5}, [poly(s, 5) for s in range(5)]),
        ({"accumulate": 2, "steps": 4, "warmup": 2}, [0.05, 0.1, poly(0, 2), poly(1, 2)]),
    ],
)
def test_schedules(tmp_path: Path, change: dict[str, Any], rates: list[float]) -> None:
    recipe = replace(RECIPE, **change)
    assert total_steps(recipe, 10) == len(rates)
    same(train(tmp_path, recipe), by_hand(recipe, rates, lambda groups: torch.optim.SGD(groups, momentum=0.9)))


def test_steps_replace_epochs_and_cut_the_last(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=99, steps=7)
    assert (steps_an_epoch(recipe, 10), total_steps(recipe, 10), epochs(recipe, 10)) == (5, 7, 2)
    parts = batches(recipe)
    assert len(parts) == 7 and {epoch for part in parts[:5] for epoch, _ in part} == {0}
    assert sorted(index for part in parts[:5] for _, index in part) == list(range(10))
    train(tmp_path, recipe)
    progress = look(tmp_path)
    assert progress is not None and (progress.done, progress.total) == (7, 7) and "epoch 2/2" in progress.note


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 12},
        {"steps": 7, "accumulate": 2},
        {"steps": 12, "optimizer": "adam", "momentum": 0.5, "lr": 0.01, "schedule": "cosine", "warmup": 6},
    ],
)
def test_interrupted_in_the_epoch_that_is_cut_and_resumed_is_the_same_bytes(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    recipe = replace(RECIPE, weight_decay=1e-3, **change)
    last = epochs(recipe, 10) - 1
    assert last >= 2 and total_steps(recipe, 10) % steps_an_epoch(recipe, 10)
    train(tmp_path / "straight", recipe)
    for stop_in in (1, last):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "broken", recipe, Points(stop_in=stop_in))
        assert (tmp_path / "broken" / CHECKPOINT).is_file()
    train(tmp_path / "broken", recipe)
    assert (tmp_path / "broken" / WEIGHTS).read_bytes() == (tmp_path / "straight" / WEIGHTS).read_bytes()


def test_accumulation_is_a_larger_batch(tmp_path: Path) -> None:
    """Ten images in an epoch: two steps of twice two, or of four; two images are left out either way."""
    recipe = replace(RECIPE, epochs=3, accumulate=2)
    large = replace(RECIPE, epochs=3, batch=4)
    assert len(batches(recipe)) == 12 and [a + b for a, b in zip(*[iter(batches(recipe))] * 2, strict=True)] == batches(
        large
    )
    same(train(tmp_path / "a", recipe), train(tmp_path / "b", large))
    progress = look(tmp_path / "a")
    assert progress is not None and (progress.done, progress.total) == (6, 6)


def test_fewer_images_than_a_step_are_gone_through_again(tmp_path: Path) -> None:
    recipe = replace(RECIPE, accumulate=4, epochs=2)
    parts = batches(recipe, 3)
    assert [len(part) for part in parts] == [2] * 8
    for epoch in range(2):
        indices = [index for part in parts[epoch * 4 : epoch * 4 + 4] for _, index in part]
        assert sorted(indices[:3]) == [0, 1, 2] and indices[3:6] == indices[:3] and indices[6:] == indices[:2]
    train(tmp_path, recipe, Points(3))


def test_adam_equals_its_formula(tmp_path: Path) -> None:
    """m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p -= lr m' / (sqrt(v') + 1e-8), decay added to g."""

    class Formula(torch.optim.Optimizer):
        def __init__(self, groups: list[dict[str, Any]]) -> None:
            super().__init__(groups, {"lr": 0.0})
            self.time = 0

        @torch.no_grad()
        def step(self) -> None:  # type: ignore[override]
            self.time += 1
            for group in self.param_groups:
                for p in group["params"]:
                    kept = self.state[p]
                    g = p.grad + 0.01 * p
                    kept["m"] = 0.5 * kept.get("m", 0) + 0.5 * g
                    kept["v"] = 0.9 * kept.get("v", 0) + 0.1 * g * g
                    m, v = kept["m"] / (1 - 0.5**self.time), kept["v"] / (1 - 0.9**self.time)
                    p -= group["lr"] * m / (v.sqrt() + 1e-8)

    recipe = replace(RECIPE, optimizer="adam", momentum=0.5, beta2=0.9, weight_decay=0.01)
    same(train(tmp_path, recipe), by_hand(recipe, [poly(s, 5) for s in range(5)], Formula), 1e-5)


def test_a_group_has_its_own_weight_decay(tmp_path: Path) -> None:
    recipe = replace(RECIPE, momentum=0.0, weight_decay=0.5, steps=1)
    plain, decayed = train(tmp_path / "a", recipe, decay=0.0), train(tmp_path / "b", recipe, decay=3.0)
    bias = Line().bias
    torch.testing.assert_close(plain.bias - decayed.bias, 0.2 * 3 * 0.5 * bias)  # lr 0.1, twice for this group
    assert torch.equal(plain.weight, decayed.weight)
    same(plain, by_hand(recipe, [0.1], lambda g: torch.optim.SGD([g[0] | {"weight_decay": 0.5}, g[1]])))


def test_divergence_names_the_step_of_the_optimizer(tmp_path: Path) -> None:
    recipe = replace(RECIPE, accumulate=2, lr=1e30, steps=9)
    with pytest.raises(Exception, match=r"finite losses\n.*at step [23] of 9"):
        train(tmp_path, recipe)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimizer": "adm"}, r"a known optimizer\n.*'adm'\n.*did you mean 'adam'"),
        ({"schedule": "cosin"}, r"a known schedule\n.*'cosin'\n.*did you mean 'cosine'"),
        ({"warmup": 5}, r"fewer steps of warmup than of training \(5\)\n.*5\n.*lower warmup"),
    ],
)
def test_recipes_that_cannot_be_followed(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        train(tmp_path, replace(RECIPE, **change))


def test_a_recipe_of_a_parts_fields() -> None:
    @dataclass(frozen=True)
    class Part:
        batch: int = 3
        lr: float = 0.2
        momentum: float = 0.8
        weight_decay: float = 0.0
        power: float = 1.0
        steps: int = 50
        colour: str = "red"

    recipe = Recipe.of(Part(), epochs=1, optimizer="adam")
    assert recipe == Recipe(1, 3, 0.2, 0.8, 0.0, 1.0, steps=50, optimizer="adam")


def test_a_parts_own_warmup_is_not_one_of_the_learning_rate() -> None:
    from matlabel_cams.d2cam import D2Cam

    assert D2Cam(warmup=10).recipe().warmup == 0
