"""The reference of `irn.py` and `irn_walk.py`: its own steps on the CPU, what they read and write handed to them."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional

from matlabel_bench.images import Resampling, resize_image
from matlabel_cams.backbones import IMAGENET
from matlabel_refiners.irn import Irn

STEPS, CROP = 3, 160
PART = Irn(epochs=STEPS, batch=2, crop=CROP, amp=False)
TAGS = np.array([3, 7], np.uint8)


def reference(folder: Path) -> SimpleNamespace:
    """The modules of a checkout, on the CPU. Its class labels are pickled, and not needed: they are not read."""
    written: list[np.ndarray] = []
    imageio: Any = SimpleNamespace(imsave=lambda _, label: written.append(label))
    imageio.imwrite = imageio.imsave
    sys.modules["imageio"] = imageio
    sys.path.insert(0, str(folder))
    names = ("net.resnet50", "net.resnet50_irn", "misc.indexing", "misc.imutils", "misc.pyutils", "voc12.dataloader")
    steps = ("step.cam_to_ir_label", "step.train_irn", "step.make_sem_seg_labels")
    with mock.patch("numpy.load", return_value=SimpleNamespace(item=dict)):
        found = {name.split(".")[1]: importlib.import_module(name) for name in names + steps}
    cpu: Any = torch
    cpu.Tensor.cuda = cpu.nn.Module.cuda = lambda self, *given, **named: self
    cpu.cuda.device = lambda number: contextlib.nullcontext()
    cpu.cuda.device_count = lambda: 2  # the last one counts its progress in twentieths of its list: zero, here
    return SimpleNamespace(**found, written=written)


def random_trunk(ref: SimpleNamespace, file: str) -> None:
    """A ResNet-50 whose signals neither die nor grow, for both sides."""
    torch.manual_seed(0)
    state = ref.resnet50.resnet50(pretrained=False).state_dict()
    for name, value in state.items():
        if name.endswith(("running_var", "bn1.weight", "bn2.weight")):
            value.uniform_(0.7, 1.3)
        elif name.endswith("bn3.weight"):
            value.uniform_(0.1, 0.3)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1)
        elif value.ndim == 4:
            torch.nn.init.kaiming_normal_(value)
    torch.save(state, file)
    ref.resnet50.model_zoo.load_url = lambda url: state | {"fc.weight": 0, "fc.bias": 0}


def random_branches(theirs: Any) -> None:
    """Normalisations that differ by channel, boundaries that reach from 0 to 1."""
    torch.manual_seed(1)
    for name, value in theirs.named_parameters():
        if name.startswith(("fc_edge", "fc_dp")) and value.ndim == 1:
            torch.nn.init.normal_(value, float(name.endswith("1.weight")), 0.3)
    with torch.no_grad():
        theirs.fc_edge6.weight.mul_(8)
        theirs.mean_shift.running_mean.copy_(torch.tensor([0.3, -0.2]))


def blotches(count: int, height: int, width: int) -> torch.Tensor:
    """Images of random patches of colour, normalised."""
    torch.manual_seed(2)
    coarse = functional.interpolate(torch.randn(count, 3, 7, 9), (height, width), mode="nearest")
    return coarse + 0.2 * torch.randn(count, 3, height, width)


class Fixed(torch.utils.data.Dataset[dict[str, Any]]):
    """The same two images and labels, for either side."""

    def __init__(self, *_: Any, indices_from: Any = None, indices_to: Any = None, **__: Any) -> None:
        self.images = blotches(2, CROP, CROP)
        labels = np.random.default_rng(3).choice([0, 0, 3, 7, 255], (2, 6, 5)).astype(np.uint8)
        self.labels = np.stack([resize_image(label, (CROP // 4, CROP // 4), Resampling.NEAREST) for label in labels])
        self.indices = indices_from, indices_to

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: Any) -> dict[str, Any]:
        """Ours by (epoch, index); the reference's by index, with its three masks of pairs."""
        if isinstance(at, tuple):
            return {"images": self.images[at[1]], "labels": torch.from_numpy(self.labels[at[1]])}
        if self.indices[0] is None:
            return {"img": self.images[at]}
        masks = sys.modules["voc12.dataloader"].GetAffinityLabelFromIndices(*self.indices)(self.labels[at])
        names = ("aff_bg_pos_label", "aff_fg_pos_label", "aff_neg_label")
        return {"img": self.images[at], **dict(zip(names, masks, strict=True))}

    def top_left(self, index: int) -> torch.Tensor:
        return self.images[index]


def their_training(ref: SimpleNamespace, file: Path) -> tuple[dict[str, float], torch.Tensor]:
    """Run the reference's training; its weights go to the file, losses and gradients of the first step are returned."""
    said: list[dict[str, float]] = []
    gradients: list[torch.Tensor] = []
    step = ref.train_irn.torchutils.PolyOptimizer.step

    def watched(self: Any) -> None:
        gradients.append(torch.cat([p.grad.flatten() for group in self.param_groups for p in group["params"]]))
        step(self)

    ref.train_irn.torchutils.PolyOptimizer.step = watched
    ref.pyutils.AverageMeter.add = lambda self, told: said.append(told)
    ref.pyutils.AverageMeter.pop = lambda self, name: said[-1][name]
    ref.dataloader.VOC12AffinityDataset = ref.dataloader.VOC12ImageDataset = Fixed
    given = {"irn_crop_size": CROP, "irn_network": "net.resnet50_irn", "irn_batch_size": 2, "irn_num_epoches": STEPS}
    given |= {"irn_learning_rate": PART.lr, "irn_weight_decay": PART.weight_decay, "num_workers": 0, "voc12_root": ""}
    given |= {"train_list": "", "infer_list": "", "ir_label_out_dir": "", "irn_weights_name": str(file)}
    with contextlib.redirect_stdout(None):
        ref.train_irn.run(SimpleNamespace(**given))
    return said[0], gradients[0]


def large(maps: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Maps at the image's size whose means over cells are the maps."""
    return maps.repeat(4, axis=1).repeat(4, axis=2)[:, : size[0], : size[1]]


def their_labels(ref: SimpleNamespace, theirs: Any, image: np.ndarray, maps: np.ndarray) -> list[np.ndarray]:
    """The labels that the reference's two steps write for an image; boundaries and walk stay in `ref`."""
    size = image.shape[:2]
    keys = TAGS.astype(np.int64) - 1
    cams = {"cam": torch.from_numpy(maps), "high_res": large(maps, size), "keys": keys}
    given = {"cam_out_dir": "", "conf_fg_thres": PART.conf_fg, "conf_bg_thres": PART.conf_bg, "num_workers": 9}
    given |= {"ir_label_out_dir": "", "sem_seg_out_dir": "", "beta": PART.beta, "exp_times": PART.exp_times}
    args = SimpleNamespace(**given, sem_seg_bg_thres=PART.threshold)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
    pixels = (torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)) - mean) / std
    both = torch.stack([pixels, pixels.flip(-1)])[None]
    propagate = ref.indexing.propagate_to_edge

    def watched(cam: torch.Tensor, edge: torch.Tensor, **settings: Any) -> torch.Tensor:
        ref.boundary, ref.walked = edge[0], propagate(cam, edge, **settings)
        return ref.walked

    ref.indexing.propagate_to_edge = watched
    model = ref.resnet50_irn.EdgeDisplacement()
    model.load_state_dict(theirs.state_dict(), strict=False)
    model.eval()
    for step in (ref.cam_to_ir_label, ref.make_sem_seg_labels):
        step.DataLoader = lambda packs, **_: packs
    named = {"name": ["2007000001"], "size": size}
    with mock.patch("numpy.load", return_value=SimpleNamespace(item=lambda: cams)):
        ref.cam_to_ir_label._work(0, [[named | {"img": torch.from_numpy(image)[None]}]], args)
        ref.make_sem_seg_labels._work(0, model, [[named | {"img": both}]], args)
    return ref.written
