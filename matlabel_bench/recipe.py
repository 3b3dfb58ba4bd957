"""What a training is, apart from the library that runs it: the recipe, the order of images, and what it leaves."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from matlabel_bench.errors import TrainingFailed, UsageError, near
from matlabel_bench.files import write_text

WEIGHTS, ABOUT, CHECKPOINT, LOG = "weights.safetensors", "training.json", "checkpoint.pth", "log"


OPTIMIZERS, SCHEDULES = ("sgd", "adam"), ("poly", "cosine")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained. Only whole batches count, and only whole groups of `accumulate` batches."""

    epochs: int
    """Times each image is seen; not looked at where `steps` is given."""
    batch: int
    """Images a batch, over all processes; what is left over at the end of an epoch is left out."""
    lr: float
    momentum: float
    """Of SGD; Adam's first beta."""
    weight_decay: float
    """Added to the gradient, by SGD and by Adam."""
    power: float
    """Of the poly schedule: lr(step) = lr (1 - step / steps)^power."""
    device: str = "cpu"
    amp: bool = False
    """Half precision where that is safe and the device is quick at it (see `arithmetic`)."""
    tensorboard: bool = False
    readers: int = 0
    """Processes that read images beside the training; 0: on a GPU one a thread of all, else in the training process."""
    steps: int = 0
    """Steps of the optimizer in all: epochs follow one another, and the last ends early. 0: as `epochs` says."""
    accumulate: int = 1
    """Batches a step, whose gradients are averaged."""
    optimizer: str = "sgd"
    """One of OPTIMIZERS."""
    beta2: float = 0.999
    """Adam's second beta."""
    warmup: int = 0
    """First steps, in which lr grows in equal parts: lr(step) = lr (step + 1) / warmup; the schedule follows."""
    schedule: str = "poly"
    """One of SCHEDULES; cosine: lr(step) = lr (1 + cos(pi step / steps)) / 2."""

    @classmethod
    def of(cls, part: Any, **others: Any) -> Recipe:
        """The recipe in the fields of a part that have a recipe's names.

        `others` go before them: what the part does not have, or calls by the name of something else.
        """
        named = {f.name for f in fields(part)}
        return cls(**{f.name: getattr(part, f.name) for f in fields(cls) if f.name in named} | others)


class Trainable(Protocol):
    """What `run` needs of a network, which is a torch.nn.Module."""

    def losses(self, **batch: Any) -> dict[str, Any]:
        """Scalars by name for a collated batch: those with `loss` in their name are summed and minimised."""

    def groups(self) -> Sequence[tuple[list[Any], float] | tuple[list[Any], float, float]]:
        """Parameters to train, each list with its multiple of the learning rate and, if not 1, of the weight decay."""


def ranks() -> tuple[int, int]:
    """This process's rank and the number of processes, as torch's launcher tells; (0, 1) without one."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def arithmetic(recipe: Recipe) -> str:
    """What the network computes in: float32, float16 on a GPU, or bfloat16 on a CPU that has it.

    On other CPUs bfloat16 is emulated, several times slower than float32, and has no place.
    """
    if not recipe.amp:
        return "float32"
    return "float16" if recipe.device.startswith("cuda") else "bfloat16" if _has_bfloat16() else "float32"


def _has_bfloat16() -> bool:
    import torch

    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.12 does not tell
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


def load(network: Any, out: Path) -> None:
    """Fill a network with the weights `run` left in `out`. Raises UsageError where there are none, or others."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = out / WEIGHTS
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as err:
        why = "no such file" if isinstance(err, FileNotFoundError) else str(err).splitlines()[0]
        raise UsageError(f"weights of a finished training in {path}", why, "train the part first (fit)") from err


def steps_an_epoch(recipe: Recipe, images: int) -> int:
    """Steps of a whole epoch, one at least."""
    return max(1, images // (recipe.batch * recipe.accumulate))


def total_steps(recipe: Recipe, images: int) -> int:
    """Steps of the whole training."""
    return recipe.steps or recipe.epochs * steps_an_epoch(recipe, images)


def epochs(recipe: Recipe, images: int) -> int:
    """Epochs of the whole training, one that ends early among them."""
    return math.ceil(total_steps(recipe, images) / steps_an_epoch(recipe, images))


class Order:
    """The images of an epoch in an order drawn from (seed, epoch), as this process is to read them.

    Yields (epoch, index). All processes together read the batches that one process alone would. Where there are fewer
    images than a step takes, a batch has all of them, or the order is gone through again for the batches of the step.
    """

    def __init__(self, images: int, recipe: Recipe, seed: int) -> None:
        self.rank, self.world = ranks()
        self.images, self.recipe, self.seed, self.epoch = images, recipe, seed, 0
        self.share = min(images, recipe.batch) // self.world

    def set_epoch(self, epoch: int) -> None:
        """Called by mmengine's DistSamplerSeedHook before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Of a whole epoch."""
        return self.share * self.recipe.accumulate * steps_an_epoch(self.recipe, self.images)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        import numpy as np

        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.images).tolist()
        whole = steps_an_epoch(self.recipe, self.images)
        left = total_steps(self.recipe, self.images) - self.epoch * whole
        for batch in range(min(whole, left) * self.recipe.accumulate):
            first = batch * min(self.images, self.recipe.batch) + self.rank * self.share
            yield from ((self.epoch, order[at % self.images]) for at in range(first, first + self.share))


def check(recipe: Recipe, images: int, world: int) -> None:
    import torch

    if not images:
        raise UsageError("images to train on", "none", "choose a split that is not empty")
    if min(recipe.batch, images) % world:
        raise UsageError(
            f"a batch that {world} processes can share evenly",
            f"{min(recipe.batch, images)} images",
            f"choose a multiple of {world}, or another number of processes",
        )
    for name, value, known in (
        ("optimizer", recipe.optimizer, OPTIMIZERS),
        ("schedule", recipe.schedule, SCHEDULES),
    ):
        if value not in known:
            raise UsageError(f"a known {name}", repr(value), near(value, known))
    if recipe.warmup and recipe.warmup >= (total := total_steps(recipe, images)):
        raise UsageError(f"fewer steps of warmup than of training ({total})", f"{recipe.warmup}", "lower warmup")
    if recipe.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("a CUDA device", "none that torch can use", "use device=cpu, or repair driver and torch build")


def claim(out: Path, told: Mapping[str, Any], rank: int) -> None:
    """Write what is trained here, or find that the same was. A training may go on in another arithmetic."""
    path, text = out / ABOUT, json.dumps(told, indent=1, sort_keys=True)
    if not path.is_file():
        if rank == 0:
            write_text(path, text)
        return
    old, new = json.loads(path.read_text()), json.loads(text)
    if other := sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k) and k != "arithmetic"):
        raise UsageError(
            f"an empty folder, or one where the same training began, in {out}",
            f"another training ({', '.join(f'{k} {old.get(k)} then, {new.get(k)} now' for k in other[:3])})",
            "choose another folder, or empty this one",
        )


def optimizer(network: Trainable, recipe: Recipe) -> Any:
    """torch's optimizer of the network's groups."""
    import torch

    groups = []
    for params, rate, *decay in network.groups():
        if params:
            multiple = decay[0] if decay else 1.0
            groups.append({"params": params, "lr": recipe.lr * rate, "weight_decay": recipe.weight_decay * multiple})
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, recipe.lr, betas=(recipe.momentum, recipe.beta2))
    return torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum)


def readable(path: Path) -> str | None:
    """The checkpoint, if there is one; proven to hold tensors and plain values only before mmengine reads it.

    Raises TrainingFailed for a damaged file.
    """
    import torch

    if not path.is_file():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as err:
        raise TrainingFailed(
            f"a readable checkpoint in {path}", str(err).splitlines()[0], "delete it: the training begins anew"
        ) from err
    return str(path)


def save(network: Any, out: Path) -> None:
    from safetensors.torch import save_file

    part = out / (WEIGHTS + ".part")
    save_file({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}, part)
    part.replace(out / WEIGHTS)
