"""What a training is, apart from the library that runs it: the recipe, the order of images, and what it leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from matlabel_bench.errors import UsageError
from matlabel_bench.files import write_text

WEIGHTS, ABOUT, CHECKPOINT, LOG = "weights.safetensors", "training.json", "checkpoint.pth", "log"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained: SGD, learning rate falling with a power of the steps left, whole batches only."""

    epochs: int
    batch: int
    """Images a step, over all processes; an incomplete last batch of an epoch is left out."""
    lr: float
    momentum: float
    weight_decay: float
    power: float
    """lr(step) = lr (1 - step / steps)^power."""
    device: str = "cpu"
    amp: bool = False
    """float16 where that is safe; has an effect on a GPU only."""
    tensorboard: bool = False
    readers: int = 0
    """Processes that read images beside the training; 0 reads in the training process."""


class Trainable(Protocol):
    """What `run` needs of a network, which is a torch.nn.Module."""

    def losses(self, **batch: Any) -> dict[str, Any]:
        """Scalars by name for a collated batch: those with `loss` in their name are summed and minimised."""

    def groups(self) -> Sequence[tuple[list[Any], float]]:
        """Parameters to train, each list with its multiple of the learning rate."""


def ranks() -> tuple[int, int]:
    """This process's rank and the number of processes, as torch's launcher tells; (0, 1) without one."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


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


def steps(recipe: Recipe, images: int) -> int:
    """Steps of an epoch: whole batches, one at least."""
    return max(1, images // recipe.batch)


class Order:
    """The images of an epoch in an order drawn from (seed, epoch), as this process is to read them.

    Yields (epoch, index). All processes together read the batches that one process alone would.
    """

    def __init__(self, images: int, recipe: Recipe, seed: int) -> None:
        self.rank, self.world = ranks()
        self.images, self.recipe, self.seed, self.epoch = images, recipe, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by mmengine's DistSamplerSeedHook before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return min(self.images, self.recipe.batch) // self.world * steps(self.recipe, self.images)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        import numpy as np

        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.images).tolist()
        batch = min(self.images, self.recipe.batch)
        share = batch // self.world
        for step in range(steps(self.recipe, self.images)):
            first = step * batch + self.rank * share
            yield from ((self.epoch, index) for index in order[first : first + share])


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
    if recipe.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("a CUDA device", "none that torch can use", "use device=cpu, or repair driver and torch build")


def claim(out: Path, told: Mapping[str, Any], rank: int) -> None:
    """Write what is trained here, or find that the same was."""
    path, text = out / ABOUT, json.dumps(told, indent=1, sort_keys=True)
    if not path.is_file():
        if rank == 0:
            write_text(path, text)
    elif (before := path.read_text()) != text:
        old, new = json.loads(before), json.loads(text)
        other = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
        raise UsageError(
            f"an empty folder, or one where the same training began, in {out}",
            f"another training ({', '.join(f'{k} {old.get(k)} then, {new.get(k)} now' for k in other[:3])})",
            "choose another folder, or empty this one",
        )


def save(network: Any, out: Path) -> None:
    from safetensors.torch import save_file

    part = out / (WEIGHTS + ".part")
    save_file({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}, part)
    part.replace(out / WEIGHTS)
