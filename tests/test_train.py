"""Training: what it computes, that it resumes bit for bit, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from matlabel_bench import metrics
from matlabel_bench import recipe as recipes
from matlabel_bench.errors import TrainingFailed, UsageError
from matlabel_bench.metrics import NAME as METRICS
from matlabel_bench.progress import look
from matlabel_bench.recipe import CHECKPOINT, LOG, WEIGHTS, Order, Recipe, load
from matlabel_bench.train import run

RECIPE = Recipe(epochs=3, batch=4, lr=0.1, momentum=0.9, weight_decay=1e-3, power=0.9)


class Toy(nn.Module):
    """Least squares; the head learns ten times as fast."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.head = nn.Linear(3, 5), nn.Linear(5, 1)

    def losses(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        error = self.head(self.body(x).tanh()).squeeze(1) - y
        return {"loss_square": error.square().mean(), "largest": error.detach().abs().max()}

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        return [(list(self.body.parameters()), 1.0), (list(self.head.parameters()), 0.5)]


class Points:
    """Ten points, moved a little in each epoch."""

    def __init__(self, seed: int = 0, stop_in: int = -1, poison: float = 1.0) -> None:
        self.seed, self.stop_in, self.poison = seed, stop_in, poison

    def __len__(self) -> int:
        return 10

    def __getitem__(self, at: tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = at
        if epoch == self.stop_in:
            raise KeyboardInterrupt
        x = torch.from_numpy(np.random.default_rng([self.seed, epoch, index]).normal(size=3)).float()
        return {"x": x, "y": x.sum().sin() * self.poison}


def train(out: Path, seed: int = 0, recipe: Recipe = RECIPE, **points: float) -> Toy:
    network = Toy(seed)
    run(network, Points(seed, **points), recipe, out, seed, {"part": "toy"})  # type: ignore[arg-type]
    return network


def test_weights_equal_a_plain_loop(tmp_path: Path) -> None:
    """SGD with momentum and decay, groups at their multiples, lr (1 - step / steps)^0.9, whole batches only."""
    got, want, points = train(tmp_path), Toy(), Points()
    optimizer = torch.optim.SGD(
        [{"params": p, "lr": 0.1 * multiple} for p, multiple in want.groups()], momentum=0.9, weight_decay=1e-3
    )
    order, step = Order(10, RECIPE, 0), 0
    for epoch in range(3):
        order.set_epoch(epoch)
        indices = list(order)
        assert len(indices) == len(order) == 8
        for batch in (indices[:4], indices[4:]):
            for group, multiple in zip(optimizer.param_groups, (1.0, 0.5), strict=True):
                group["lr"] = 0.1 * multiple * (1 - step / 6) ** 0.9
            items = [points[at] for at in batch]
            loss = want.losses(torch.stack([i["x"] for i in items]), torch.stack([i["y"] for i in items]))
            optimizer.zero_grad()
            loss["loss_square"].backward()
            optimizer.step()
            step += 1
    for name, value in got.state_dict().items():
        torch.testing.assert_close(value, want.state_dict()[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stop_in", [1, 2])
def test_interrupted_and_resumed_is_the_same_bytes(tmp_path: Path, stop_in: int) -> None:
    train(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", stop_in=stop_in)
    assert (tmp_path / "broken" / CHECKPOINT).is_file()
    (tmp_path / "broken" / (CHECKPOINT + ".part")).write_bytes(b"half a checkp")  # killed while writing the next
    train(tmp_path / "broken")
    assert (tmp_path / "broken" / WEIGHTS).read_bytes() == (tmp_path / "straight" / WEIGHTS).read_bytes()
    assert not (tmp_path / "broken" / CHECKPOINT).exists()
    told = [(tmp_path / name / LOG / METRICS).read_text() for name in ("broken", "straight")]
    assert told[0] == told[1]
    assert metrics.read(tmp_path / "broken" / LOG).index.tolist() == [1, 2, 3, 4, 5, 6]


def test_images_that_other_processes_read_give_the_same_bytes(tmp_path: Path) -> None:
    for readers in (0, 2):
        train(tmp_path / str(readers), recipe=replace(RECIPE, readers=readers))
    assert (tmp_path / "0" / WEIGHTS).read_bytes() == (tmp_path / "2" / WEIGHTS).read_bytes()


def test_half_precision_on_a_cpu_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 where the CPU is quick at it and amp is on; the record says so; weights stay float32."""
    half = replace(RECIPE, amp=True)
    arithmetic = {}
    for has in (True, False):
        monkeypatch.setattr(recipes, "_has_bfloat16", lambda has=has: has)
        arithmetic[has] = [recipes.arithmetic(r) for r in (half, replace(half, device="cuda"), RECIPE)]
    assert arithmetic == {True: ["bfloat16", "float16", "float32"], False: ["float32", "float16", "float32"]}
    plain = train(tmp_path / "plain", recipe=half).state_dict()
    monkeypatch.setattr(recipes, "_has_bfloat16", lambda: True)
    short = train(tmp_path / "short", recipe=half).state_dict()
    told = [json.loads((tmp_path / name / "training.json").read_text())["arithmetic"] for name in ("plain", "short")]
    assert told == ["float32", "bfloat16"]
    assert all(value.dtype == torch.float32 for value in short.values())
    apart = max(float((value - short[name]).abs().max()) for name, value in plain.items())
    assert 1e-5 < apart < 0.05, "eight bits of precision, six steps"


def test_a_training_may_go_on_in_another_arithmetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = replace(RECIPE, amp=True)
    monkeypatch.setattr(recipes, "_has_bfloat16", lambda: True)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, recipe=half, stop_in=2)
    monkeypatch.setattr(recipes, "_has_bfloat16", lambda: False)
    train(tmp_path, recipe=half)
    assert (tmp_path / WEIGHTS).is_file()
    assert json.loads((tmp_path / "training.json").read_text())["arithmetic"] == "bfloat16", "where it began"


def test_checkpoints_hold_tensors_and_plain_values_only(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop_in=1)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["meta"]["epoch"] == 1 and state["meta"]["iter"] == 2


def test_an_unreadable_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop_in=1)
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:300])
    with pytest.raises(TrainingFailed, match=r"(?s)readable checkpoint.*checkpoint\.pth.*delete it"):
        train(tmp_path)


def test_the_same_seed_gives_the_same_weights_and_another_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, seed)
    a, b, c = ((tmp_path / name / WEIGHTS).read_bytes() for name in "abc")
    assert a == b != c


def test_what_it_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = train(tmp_path)
    other = Toy(5)
    load(other, tmp_path)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in network.state_dict().items())
    progress = look(tmp_path)
    assert progress is not None and (progress.done, progress.total) == (6, 6) and "loss" in progress.note
    told = json.loads((tmp_path / "training.json").read_text())
    assert told == {"part": "toy", "seed": 0, "images": 10, "arithmetic": "float32"}
    lines = next((tmp_path / "log").glob("*/vis_data/scalars.json")).read_text().splitlines()
    assert {"loss", "loss_square", "largest", "lr"} <= json.loads(lines[0]).keys()
    assert "loss_square" in next((tmp_path / "log").glob("*/*.log")).read_text()
    assert capsys.readouterr() == ("", "")


def test_a_finished_training_is_not_repeated_and_not_overwritten(tmp_path: Path) -> None:
    train(tmp_path)
    before = (tmp_path / WEIGHTS).stat().st_mtime_ns
    train(tmp_path, stop_in=0)
    assert (tmp_path / WEIGHTS).stat().st_mtime_ns == before
    with pytest.raises(UsageError, match=r"(?s)same training began.*seed 0 then, 1 now.*another folder"):
        train(tmp_path, seed=1)


def test_divergence_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingFailed, match=r"(?s)finite losses.*nan at step 1 of 6.*learning rate.*lower the part's lr"
    ):
        train(tmp_path, poison=float("nan"))
    assert not (tmp_path / WEIGHTS).exists()


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    assert len(Order(3, RECIPE, 0)) == 3


def test_processes_share_the_batches_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = list(Order(10, RECIPE, 7))
    shares = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        shares.append(list(Order(10, RECIPE, 7)))
    assert alone[:4] == shares[0][:2] + shares[1][:2]
    assert alone[4:] == shares[0][2:] + shares[1][2:]
    with pytest.raises(UsageError, match=r"(?s)2 processes can share evenly.*5 images.*multiple of 2"):
        recipes.check(Recipe(**{**_fields(RECIPE), "batch": 5}), 10, 2)


def _fields(recipe: Recipe) -> dict[str, object]:
    return {name: getattr(recipe, name) for name in recipe.__dataclass_fields__}


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_an_absent_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)a CUDA device.*device=cpu"):
        train(tmp_path, recipe=Recipe(**{**_fields(RECIPE), "device": "cuda"}))  # type: ignore[arg-type]


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)images to train on.*none"):
        run(Toy(), [], RECIPE, tmp_path, 0, {})


def test_tensorboard_on_request(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    train(tmp_path, recipe=Recipe(**{**_fields(RECIPE), "tensorboard": True}))  # type: ignore[arg-type]
    assert list((tmp_path / "log").glob("**/events.out.tfevents*"))


def test_tensorboard_absent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"(?s)the package tensorboard.*not installed.*matlabel-bench\[tensorboard\]"):
        train(tmp_path, recipe=Recipe(**{**_fields(RECIPE), "tensorboard": True}))  # type: ignore[arg-type]


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(network: object, out: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("matlabel_bench.train.save", full)
        with pytest.raises(TrainingFailed, match=r"(?s)to write the training.*No space left.*same command continues"):
            train(tmp_path)
    train(tmp_path, stop_in=0)  # all epochs are in the checkpoint: nothing is read again
    assert (tmp_path / WEIGHTS).is_file()


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    """torchrun, gloo, two processes: same batches, same mean of gradients, so the same weights but for rounding."""
    alone = train(tmp_path / "alone")
    script = tmp_path / "both.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from pathlib import Path\nfrom test_train import train\ntrain(Path({str(tmp_path / 'both')!r}))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    both = Toy(3)
    load(both, tmp_path / "both")
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(both.state_dict()[name], value, rtol=1e-4, atol=1e-5)
