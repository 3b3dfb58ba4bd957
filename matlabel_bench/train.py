"""The one door to mmengine's Runner: networks are trained through `run`, and nothing else in the core knows mmengine.

A training leaves in its folder: `weights.safetensors`, `training.json` (what was trained on what), and `log/` (every
step's values in `metrics.csv`, text and JSON lines of mmengine, TensorBoard events on request). While it runs,
`checkpoint.pth` holds the state after the last whole epoch; a call that finds it continues from there, bit for bit as
if it had never stopped: every random number comes from (seed, epoch, index), never from a generator that runs on.

Under torch's launcher (`torchrun`) every process calls `run`: a batch is split among them, and rank 0 writes.
Importing this module imports torch and mmengine: parts do it inside `fit`.
"""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook, ParamSchedulerHook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import distributed
from torch.utils.data import DataLoader

from matlabel_bench import recipe as recipes
from matlabel_bench.errors import TrainingFailed, UsageError
from matlabel_bench.metrics import Metrics
from matlabel_bench.progress import Progress, report
from matlabel_bench.recipe import CHECKPOINT, LOG, WEIGHTS, Order, Recipe, save


def run(
    network: Any,
    dataset: Any,
    recipe: Recipe,
    out: Path,
    seed: int,
    about: Mapping[str, Any],
) -> None:
    """Train `network` in place, or continue what `out` holds; return at once where that is complete.

    Args:
        network: a `Trainable` module whose initial weights depend on `seed` alone.
        dataset: `len(dataset)` and `dataset[epoch, index]` -> dict of tensors, depending on nothing else.
        about: what is trained, JSON-ready; kept in training.json and compared when a training continues.

    Raises:
        UsageError: `out` holds another training, a batch that does not divide, a device that is absent.
        TrainingFailed: a loss that is not finite, an unreadable checkpoint, a full disk.
    """
    rank, world = recipes.ranks()
    recipes.check(recipe, len(dataset), world)
    try:
        out.mkdir(parents=True, exist_ok=True)
        told = {**about, "seed": seed, "images": len(dataset), "arithmetic": recipes.arithmetic(recipe)}
        recipes.claim(out, told, rank)
        if (out / WEIGHTS).is_file():
            return
        with _processes(recipe, world):
            _train(network, dataset, recipe, out, seed)
        if rank == 0:
            save(network, out)
            (out / CHECKPOINT).unlink(missing_ok=True)
    except OSError as err:
        remedy = "free space, check the permissions; the same command continues from the last checkpoint"
        raise TrainingFailed(f"to write the training into {out}", err.strerror or str(err), remedy) from err


def _train(network: Any, dataset: Any, recipe: Recipe, out: Path, seed: int) -> None:
    network = network.to(memory_format=torch.channels_last)  # a third faster on CPUs, and what tensor cores want
    order = Order(len(dataset), recipe, seed)
    gpu = recipe.device != "cpu"
    # A GPU would wait for images that this process reads between steps; on a CPU the cores are taken.
    readers = recipe.readers or (max(1, torch.get_num_threads() // order.world) if gpu else 0)
    loader = DataLoader(
        dataset, order.share, sampler=order, num_workers=readers, pin_memory=gpu, persistent_workers=readers > 0
    )
    wrapper = WRAPPERS[recipes.arithmetic(recipe)]
    checkpoint = recipes.readable(out / CHECKPOINT)
    total = recipes.total_steps(recipe, len(dataset))
    runner = _Runner(
        _Trainee(network),
        str(out / LOG),
        device=recipe.device,
        train_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": recipes.epochs(recipe, len(dataset))},
        optim_wrapper=wrapper(optimizer=recipes.optimizer(network, recipe), accumulative_counts=recipe.accumulate),
        param_scheduler=schedulers(recipe, total),
        default_hooks={
            "checkpoint": None,
            "logger": {"type": "LoggerHook", "interval": 1 if recipe.tensorboard else 10},
            "param_scheduler": _Rates(recipe.accumulate),
        },
        custom_hooks=[_Watch(out, seed, recipe.accumulate, total)],
        resume=checkpoint is not None,
        load_from=checkpoint,
        launcher="none" if order.world == 1 else "pytorch",
        env_cfg={"mp_cfg": {"mp_start_method": multiprocessing.get_start_method()}},
        visualizer={"type": "Visualizer", "vis_backends": _backends(recipe)},
        randomness={"seed": seed},
        experiment_name=uuid.uuid4().hex[:8],  # mmengine keeps loggers and hubs by name, for the life of the process
    )
    try:
        runner.train()
    finally:
        runner.visualizer.close()
        for handler in runner.logger.handlers:
            handler.close()


def schedulers(recipe: Recipe, total: int) -> list[dict[str, Any]]:
    """mmengine's schedulers, in steps of the optimizer."""
    # both reach zero at step end - 1: one more makes that the step after the last
    fall: dict[str, Any] = {"by_epoch": False, "begin": recipe.warmup, "end": total + 1}
    if recipe.schedule == "cosine":
        fall |= {"type": "CosineAnnealingLR", "T_max": total - recipe.warmup}
    else:
        fall |= {"type": "PolyLR", "power": recipe.power}
    if recipe.warmup < 2:  # one step of warm-up has the whole learning rate
        return [fall]
    rise = {"type": "LinearLR", "by_epoch": False, "start_factor": 1 / recipe.warmup, "end": recipe.warmup}
    return [rise, fall]


def _backends(recipe: Recipe) -> list[dict[str, str]]:
    if not recipe.tensorboard:
        return [{"type": "LocalVisBackend"}]
    if importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            "the package tensorboard, for tensorboard=true",
            "it is not installed",
            "pip install 'matlabel-bench[tensorboard]', or leave tensorboard=false: log/ has the same as JSON lines",
        )
    return [{"type": "LocalVisBackend"}, {"type": "TensorboardVisBackend"}]


@contextmanager
def _processes(recipe: Recipe, world: int) -> Iterator[None]:
    """Join the processes of torch's launcher, if there are any; mmengine's own way would need CUDA."""
    if world == 1 or distributed.is_initialized():
        yield
        return
    if recipe.device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if recipe.device.startswith("cuda") else "gloo")
    try:
        yield
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


class _Trainee(BaseModel):  # type: ignore[misc]
    """A network as mmengine wants it."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, mode: str = "loss", **batch: Any) -> dict[str, torch.Tensor]:
        losses: dict[str, torch.Tensor] = self.network.losses(**batch)
        return losses

    def init_weights(self) -> None:
        """Nothing: the network comes with its weights, pretrained ones among them."""


class _BFloat16(OptimWrapper):  # type: ignore[misc]
    """Half precision on a CPU, which mmengine's own wrapper does not know. bfloat16 needs no scaling of the loss."""

    @contextmanager
    def optim_context(self, model: BaseModel) -> Iterator[None]:
        with super().optim_context(model), torch.autocast("cpu", torch.bfloat16):
            yield


WRAPPERS = {"float32": OptimWrapper, "float16": AmpOptimWrapper, "bfloat16": _BFloat16}


class _Rates(ParamSchedulerHook):  # type: ignore[misc]
    """Learning rates that change with the steps of the optimizer, not with the batches."""

    def __init__(self, accumulate: int) -> None:
        self.accumulate = accumulate

    def after_train_iter(self, runner: Runner, *args: Any, **more: Any) -> None:
        if (runner.iter + 1) % self.accumulate == 0:
            super().after_train_iter(runner, *args, **more)


class _Watch(Hook):  # type: ignore[misc]
    """Progress, checkpoints, and an end to trainings that diverge."""

    priority = "LOWEST"

    def __init__(self, out: Path, seed: int, accumulate: int, total: int) -> None:
        self.out, self.seed, self.accumulate, self.total = out, seed, accumulate, total

    def before_train(self, runner: Runner) -> None:
        if runner.rank == 0:
            self.metrics = Metrics(self.out / LOG, runner.iter)

    def before_train_epoch(self, runner: Runner) -> None:
        torch.manual_seed(self.seed * 100_003 + runner.epoch)  # dropout and the like: the same after a resume

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        values = {name: float(value.detach()) for name, value in (outputs or {}).items()}
        if not all(torch.isfinite(torch.tensor(list(values.values())))):
            lr = max(group["lr"] for group in runner.optim_wrapper.param_groups)
            told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            raise TrainingFailed(
                "finite losses",
                f"{told} at step {runner.iter // self.accumulate + 1} of {self.total} (learning rate up to {lr:.3g})",
                "lower the part's lr or momentum, or raise batch; --set part.lr=... starts a new training",
            )
        if runner.rank == 0:
            note = f"epoch {runner.epoch + 1}/{runner.max_epochs}, loss {values.get('loss', 0.0):.3f}"
            rate = max(group["lr"] for group in runner.optim_wrapper.param_groups)
            self.metrics.add(runner.iter + 1, values | {"lr": rate})
            report(self.out, Progress((runner.iter + 1) // self.accumulate, self.total, "step", note))

    def after_train_epoch(self, runner: Runner) -> None:
        part = CHECKPOINT + ".part"
        runner.save_checkpoint(str(self.out), part)
        if runner.rank == 0:
            (self.out / part).replace(self.out / CHECKPOINT)  # a kill leaves the old checkpoint or the new one

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        # mmengine's history of scalars cannot be read with weights_only=True; the log has it all the same
        checkpoint["message_hub"] = {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}}


class _Runner(Runner):  # type: ignore[misc]
    """mmengine's Runner on a chosen device, writing to its log file and nowhere else."""

    def __init__(self, model: BaseModel, work_dir: str, *, device: str, **settings: Any) -> None:
        self._device = device
        super().__init__(model, work_dir, **settings)

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **settings: Any) -> MMLogger:
        logger = super().build_logger(log_level, log_file, **settings)
        logger.handlers = [h for h in logger.handlers if isinstance(h, logging.FileHandler)]
        return logger

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: BaseModel) -> Any:
        if not self.distributed:
            return model.to(self._device)
        cuda = self._device.startswith("cuda")
        local = int(os.environ["LOCAL_RANK"])
        model = model.to(f"cuda:{local}" if cuda else self._device)
        return MMDistributedDataParallel(
            model, device_ids=[local] if cuda else None, broadcast_buffers=False, find_unused_parameters=True
        )

    def dump_config(self) -> None:
        """Nothing: the settings stand in training.json."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Nothing: the record of the run has machine and versions."""
