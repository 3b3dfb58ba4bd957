"""How the readings of D2CAM were searched: many short trainings on one GPU, scored at half size.

No table is made of it. Crops are drawn once and kept in memory, so a training costs its arithmetic alone; a teacher (a
trained CAM, frozen) or the student itself judges masked features; maps of three scales without mirror images are scored
at every second pixel of `train:1/2`. What was found stands as fields of `d2cam`, and every claim in docs/d2cam.md was
measured again by `bench run`. What each run said: docs/d2cam/sweep.jsonl.

    python docs/d2cam/sweep.py crops DATA_ROOT CROPS --epochs 4 --sides 200 400 --crop 256 --workers 16
    python docs/d2cam/sweep.py run CROPS --teacher cam.safetensors --settings docs/d2cam/sweep.json --out FILE.jsonl
        [--share I N]     the I-th of N processes takes every N-th setting
    python docs/d2cam/sweep.py run CROPS --weights mobilenet_v2.pth --settings FILE --out FILE.jsonl
        trains the teachers that the settings ask for first ("teacher": epochs)
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from matlabel_bench import registry
from matlabel_bench.images import resize_image
from matlabel_bench.score import otsu
from matlabel_bench.splits import usable
from matlabel_cams.backbones import make
from matlabel_cams.classifier import Classifier, backbone_with_weights
from matlabel_cams.crops import resize_to, window
from matlabel_cams.d2losses import decoupling, extent, margin_area, overlap, per_image

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLASSES, BATCH, SCALES, CANVAS = 6, 16, (0.5, 1.0, 1.5), 512
DEFAULTS: dict[str, Any] = {
    "src": "conv2", "init": "cam", "k": 3, "sharp": 6.0, "start": 0.35, "judge": "teacher", "mask": "layer7",
    "grad": "bas", "cut": "layer3", "epochs": 2, "lr": 0.002, "gmult": 5.0, "cls": 1.0, "beta": 1.0, "hinge": 1.0,
    "m": 0.35, "lam": 0.05, "g1": 0.5, "g2": 2.0, "g3": 0.5, "area": "margin", "level": 0.25, "neg": 0.0, "eq": 0.0,
    "wd": 1e-4, "seed": 0,
}  # fmt: skip
"""Where the generator reads and starts; who judges features masked behind which stage (or the image); which losses
reach the student's features; rates; weights of the losses, of maps of absent classes (neg), of equivariance (eq)."""


def crops(root: str, out: Path, epochs: int, sides: tuple[int, int], side: int, workers: int) -> None:
    """Draw augmented crops of train_aug and keep the images and masks of train:1/2 beside them."""
    parts, _ = registry.start()
    data = parts.make("dataset", "voc12-animals", root=root)
    train, half, masks = usable(data, "train_aug"), usable(data, "train:1/2"), data.masks("train")
    out.mkdir(parents=True, exist_ok=True)
    count = len(train.samples)
    np.lib.format.open_memmap(out / "crops.npy", "w+", np.uint8, (epochs * count, 3, side, side)).flush()

    def draw(first: int) -> None:
        bank = np.load(out / "crops.npy", mmap_mode="r+")
        for at in range(first, epochs * count, workers):
            rng = np.random.default_rng([0, at // count, at % count])
            pixels = resize_to(train.samples[at % count].read(), int(rng.integers(sides[0], sides[1] + 1)))
            pixels = pixels[:, ::-1] if rng.random() < 0.5 else pixels
            source, target = window(pixels.shape[:2], side, rng)
            square = np.full((side, side, 3), 128, np.uint8)
            square[target] = pixels[source]
            bank[at] = square.transpose(2, 0, 1)

    drawn = [multiprocessing.get_context("fork").Process(target=draw, args=(k,)) for k in range(workers)]
    for process in drawn:
        process.start()
    for process in drawn:
        process.join()
    tags = np.zeros((count, CLASSES), np.float32)
    for row, sample in zip(tags, train.samples, strict=True):
        row[[tag - 1 for tag in sample.tags]] = 1
    np.save(out / "tags.npy", tags)
    arrays = {f"image{i}": s.read() for i, s in enumerate(half.samples)}
    arrays |= {f"mask{i}": masks(s.id) for i, s in enumerate(half.samples)}
    arrays |= {f"tags{i}": np.array(s.tags, np.int64) - 1 for i, s in enumerate(half.samples)}
    np.savez(out / "half.npz", count=len(half.samples), **arrays)


class Bank:
    """The crops, on the GPU where there is one."""

    def __init__(self, folder: Path) -> None:
        self.pixels: Any = np.load(folder / "crops.npy", mmap_mode="r")
        self.tags = torch.from_numpy(np.load(folder / "tags.npy")).to(DEVICE)
        self.images = len(self.tags)
        self.epochs = len(self.pixels) // self.images
        if DEVICE == "cuda":
            self.pixels = torch.from_numpy(np.array(self.pixels)).cuda()

    def batches(self, epoch: int, seed: int) -> list[np.ndarray]:
        order = np.random.default_rng([seed, epoch]).permutation(self.images)
        return [order[i : i + BATCH] for i in range(0, self.images - BATCH + 1, BATCH)]

    def at(self, index: np.ndarray, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        where = index + (epoch % self.epochs) * self.images
        taken = self.pixels[torch.as_tensor(where, device=DEVICE)] if DEVICE == "cuda" else self.pixels[where]
        images = (torch.as_tensor(taken).float() - 127.5) / 127.5
        return images.to(memory_format=torch.channels_last), self.tags[torch.as_tensor(index, device=DEVICE)]


class Half:
    """The images of train:1/2 on canvases of one size a scale (each new size costs cuDNN a plan), and their masks."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "half.npz") as found:
            count = int(found["count"])
            images = [found[f"image{i}"] for i in range(count)]
            self.masks = [torch.from_numpy(found[f"mask{i}"][::2, ::2]).to(DEVICE).long() for i in range(count)]
            self.tags = [torch.from_numpy(found[f"tags{i}"]).to(DEVICE) for i in range(count)]
        self.sizes = [image.shape[:2] for image in images]
        self.scales = []
        for scale in SCALES:
            side, within = int(CANVAS * scale), [tuple(max(1, round(v * scale)) for v in s) for s in self.sizes]
            canvas = np.full((count, 3, side, side), 128, np.uint8)
            for plane, image, (height, width) in zip(canvas, images, within, strict=True):
                plane[:, :height, :width] = resize_image(image, (height, width)).transpose(2, 0, 1)
            self.scales.append((torch.from_numpy(canvas), within))

    @torch.no_grad()
    def maps(self, network: Any) -> list[torch.Tensor]:
        """Mean over scales of what `network` makes of each image, a cell every 8 pixels."""
        total: list[Any] = [0.0] * len(self.sizes)
        for canvas, within in self.scales:
            for first in range(0, len(canvas), BATCH):
                inputs = (canvas[first : first + BATCH].to(DEVICE).float() - 127.5) / 127.5
                found = network(inputs.to(memory_format=torch.channels_last)).float()
                for i, one in enumerate(found, first):
                    inside = one[None, :, : -(-within[i][0] // 16), : -(-within[i][1] // 16)]
                    grid = [-(-side // 8) for side in self.sizes[i]]
                    total[i] = total[i] + functional.interpolate(inside, size=grid, mode="bilinear")[0]
        return [maps / len(self.scales) for maps in total]

    def score(self, maps: list[torch.Tensor], normalise: bool = True) -> dict[str, Any]:
        """mIoU at the best threshold on these masks and at Otsu's, IoU of each class."""
        classes = CLASSES + 1
        cube = torch.zeros(256 * classes * 101, dtype=torch.long, device=DEVICE)
        pooled = torch.zeros(101, dtype=torch.long, device=DEVICE)
        for mask, tags, one in zip(self.masks, self.tags, maps, strict=True):
            if not len(tags):
                cube += torch.bincount((mask * classes * 101).flatten(), minlength=len(cube))
                continue
            one = one[tags]
            one = one / one.amax((1, 2), keepdim=True).clamp(min=1e-5) if normalise else one
            value, winner = functional.interpolate(one.clamp(0, 1)[None], size=mask.shape, mode="bilinear")[0].max(0)
            level = (value * 100).ceil().clamp(0, 100).long()
            cube += torch.bincount(((mask * classes + tags[winner] + 1) * 101 + level).flatten(), minlength=len(cube))
            pooled += torch.bincount(level.flatten(), minlength=101)
        counts = cube.view(256, classes, 101)[:classes].cpu().numpy().astype(float)
        front = counts.sum(2, keepdims=True) - np.cumsum(counts, 2)[:, :, :-1]
        front[:, 0] = counts.sum((1, 2))[:, None] - front[:, 1:].sum(1)
        iou = np.stack([np.diag(q) / (q.sum(0) + q.sum(1) - np.diag(q)) for q in np.moveaxis(front, 2, 0)]) * 100
        best, free = int(iou.mean(1).argmax()), otsu(pooled.cpu().numpy())
        told = {"best": iou[best].mean(), "t": best / 100, "free": iou[round(free * 100)].mean(), "tf": free}
        return {k: round(float(v), 2) for k, v in told.items()} | {"iou": iou[best].round(1).tolist()}


class Stages:
    """A classifier's stages by name."""

    def __init__(self, path: Path) -> None:
        from safetensors.torch import load_file

        self.net = Classifier(make("mobilenet_v2", 16), CLASSES, part="", cut="layer3", head_multiple=10.0)
        self.net.load_state_dict(load_file(path))
        self.net.eval().to(DEVICE, memory_format=torch.channels_last)
        self.of = dict(self.net.lower.named_children()) | dict(self.net.upper.named_children())
        self.names = list(self.of)

    def run(self, inputs: torch.Tensor, after: str, upto: str = "conv2") -> dict[str, torch.Tensor]:
        """Outputs of the stages behind `after` ("" for the image) up to `upto`."""
        found = {}
        for name in self.names[self.names.index(after) + 1 if after else 0 : self.names.index(upto) + 1]:
            inputs = found[name] = self.of[name](inputs)
        return found


def half_precision() -> Any:
    return torch.autocast("cuda", torch.bfloat16, enabled=DEVICE == "cuda")


def teach(bank: Bank, weights: str, out: Path, epochs: int, seed: int) -> None:
    """A CAM as profile `light` trains it, on this bank's crops."""
    from safetensors.torch import save_file

    backbone = backbone_with_weights("mobilenet_v2", 16, weights, seed)
    net = Classifier(backbone, CLASSES, part="", cut="layer3", head_multiple=10.0).to(DEVICE).train()
    net.to(memory_format=torch.channels_last)
    descend = _descent([{"params": p, "lr": 0.005 * r} for p, r in net.groups()], 1e-4, epochs * (bank.images // BATCH))
    for epoch in range(epochs):
        for index in bank.batches(epoch, seed):
            images, tags = bank.at(index, epoch)
            with half_precision():
                logits = net.logits(net.features(images))
            descend(functional.multilabel_soft_margin_loss(logits.float(), tags))
    save_file({k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}, out)


def _descent(groups: list[dict[str, Any]], decay: float, total: int) -> Any:
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=decay)
    base, steps = [g["lr"] for g in groups], iter(range(total + 1))

    def descend(loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        fall = max(1 - next(steps) / total, 0) ** 0.9
        for group, rate in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = rate * fall
        optimizer.step()

    return descend


class Student(nn.Module):
    """The network that learns maps: a copy of the teacher and a generator on its last features."""

    def __init__(self, bank: Bank, path: Path, c: dict[str, Any]) -> None:
        super().__init__()
        self.c, self.teacher, self.own = c, Stages(path), Stages(path)
        self.teacher.net.requires_grad_(False)
        names = self.own.names
        for name in names[: names.index(c["cut"]) + 1]:
            self.own.of[name].requires_grad_(False)
        self.generator = nn.Conv2d({"layer7": 320, "conv2": 1280}[c["src"]], CLASSES, c["k"], padding=c["k"] // 2)
        nn.init.xavier_uniform_(self.generator.weight)
        nn.init.zeros_(self.generator.bias)
        if c["init"] == "cam":
            self._start(bank)
        self.generator.to(DEVICE)

    @torch.no_grad()
    def _start(self, bank: Bank) -> None:
        peaks, number, head = torch.zeros(CLASSES), torch.zeros(CLASSES), self.teacher.net.head
        for index in bank.batches(0, 0)[:30]:
            images, tags = bank.at(index, 0)
            highest = head(self.teacher.run(images, "")["conv2"]).amax((2, 3))
            peaks, number = peaks + (highest * tags).sum(0).cpu(), number + tags.sum(0).cpu()
        scale = self.c["sharp"] / (peaks / number)
        self.generator.weight.zero_()
        middle = self.c["k"] // 2
        self.generator.weight[:, :, middle, middle] = head.weight[:, :, 0, 0].cpu() * scale[:, None]
        self.generator.bias.fill_(-self.c["sharp"] * self.c["start"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.generator(self.own.run(images, "")[self.c["src"]].float()).sigmoid()

    def loss(
        self, images: torch.Tensor, tags: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, list[Any]]:
        """All losses, weighted, and area, cross-entropies, open hinges."""
        c, (owners, classes), count = self.c, tags.nonzero(as_tuple=True), len(tags)
        with half_precision():
            with torch.no_grad():
                seen = self.own.run(images, "", c["cut"])
            seen |= self.own.run(seen[c["cut"]], c["cut"]) if c["cut"] != "conv2" else {}
            logits = self.own.net.head(seen["conv2"].float().mean((2, 3), keepdim=True)).flatten(1)
        source = seen[c["src"]].float()
        free = self.generator(source.detach() if c["grad"] == "phi" else source).sigmoid()
        maps = free[owners, classes]
        judged = maps if c["grad"] == "bas" else self.generator(source.detach()).sigmoid()[owners, classes]
        fg, bg = self._judge(images, seen, judged, owners, classes)
        hinge = decoupling(fg, bg, c["beta"], c["hinge"])
        shares = maps.mean((1, 2))
        areas = per_image(shares, owners, count)
        if c["area"] == "own":
            with torch.no_grad(), half_precision():
                cams = self.teacher.net.head(self.teacher.run(images, "")["conv2"]).float().relu()[owners, classes]
            areas_loss = per_image(margin_area(shares, extent(cams, c["level"]), c["lam"]), owners, count)
        else:
            areas_loss = margin_area(areas, c["m"], c["lam"]) if c["area"] == "margin" else areas
        total = c["cls"] * functional.multilabel_soft_margin_loss(logits, tags)
        total = total + c["g1"] * per_image(hinge, owners, count).sum() / count + c["g2"] * areas_loss.sum() / count
        total = total + c["g3"] * overlap(maps, owners, count).sum() / count
        total = total + c["neg"] * (free * (1 - tags)[:, :, None, None]).mean()
        if c["eq"]:
            factor = 0.5 if rng.random() < 0.5 else 0.75
            with half_precision():
                small = functional.interpolate(images, scale_factor=factor, mode="bilinear")
                again = self.generator(self.own.run(small, "")[c["src"]].float()).sigmoid()
            # the grids of both are laid over each other corner to corner here; d2losses.smaller is exact
            shrunk = functional.interpolate(free, size=again.shape[-2:], mode="bilinear")
            total = total + c["eq"] * (again[owners, classes] - shrunk[owners, classes]).abs().mean()
        return total, [areas.mean(), fg.mean(), bg.mean(), (hinge > 0).float().mean()]

    def _judge(
        self, images: torch.Tensor, seen: dict[str, torch.Tensor], maps: torch.Tensor, owners: Any, classes: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mask, after = maps.unsqueeze(1), "" if self.c["mask"] == "image" else self.c["mask"]
        judge = self.teacher if self.c["judge"] == "teacher" else self.own
        with torch.no_grad(), half_precision():
            behind = self.teacher.run(images, "", after)[after] if after and judge is self.teacher else images
            behind = seen[after].detach() if after and judge is self.own else behind
        behind = behind.float()
        if mask.shape[-2:] != behind.shape[-2:]:
            mask = functional.interpolate(mask, size=behind.shape[-2:], mode="bilinear")
        both = torch.cat([behind[owners] * mask, behind[owners] * (1 - mask)]).contiguous()
        learns = [p.requires_grad for p in judge.net.parameters()]
        judge.net.requires_grad_(False)
        with half_precision():
            top = judge.run(both.contiguous(memory_format=torch.channels_last), after)["conv2"].float()
        logits = functional.conv2d(top.mean((2, 3), keepdim=True), judge.net.head.weight.detach()).flatten(1)
        for parameter, was in zip(judge.net.parameters(), learns, strict=True):
            parameter.requires_grad_(was)
        ce = functional.cross_entropy(logits, classes.repeat(2), reduction="none")
        return ce[: len(classes)], ce[len(classes) :]


def learn(bank: Bank, path: Path, c: dict[str, Any]) -> tuple[Student, list[Any]]:
    """Train a student; every 32nd step's area, cross-entropies and open hinges."""
    torch.manual_seed(c["seed"] + 1000)
    rng, student, told = np.random.default_rng(c["seed"]), Student(bank, path, c), []
    own = student.own
    body = [p for name in own.names for p in own.of[name].parameters() if p.requires_grad]
    groups = [{"params": body, "lr": c["lr"]}, {"params": list(own.net.head.parameters()), "lr": 10 * c["lr"]}]
    groups += [{"params": list(student.generator.parameters()), "lr": c["gmult"] * c["lr"]}]
    descend = _descent([g for g in groups if g["params"]], c["wd"], c["epochs"] * (bank.images // BATCH))
    for epoch in range(c["epochs"]):
        for step, index in enumerate(bank.batches(epoch, c["seed"])):
            loss, values = student.loss(*bank.at(index, epoch), rng)
            descend(loss)
            if step % 32 == 31:
                told.append([round(float(v.detach()), 3) for v in values])
    return student, told


def run(options: argparse.Namespace) -> None:
    """All settings of a share, a JSON line each."""
    torch.set_num_threads(1)
    bank, half = Bank(options.crops), Half(options.crops)

    def tell(**said: Any) -> None:
        with options.out.open("a") as out:
            out.write(json.dumps(said | {"device": DEVICE, "crops": options.crops.name}) + "\n")

    def tell_teacher(path: Path, **said: Any) -> None:
        teacher = Stages(path)
        maps = half.maps(lambda x: teacher.net.head(teacher.run(x, "")["conv2"]).relu())
        tell(kind="cam", **said, **half.score(maps))

    first, every = options.share
    if options.teacher and first == 0:
        tell_teacher(options.teacher)
    for setting in json.loads(options.settings.read_text())[first::every]:
        c, start, path = DEFAULTS | setting, time.monotonic(), options.teacher
        if path is None:
            path = options.out.parent / f"teacher-{c['teacher']}-{c['seed']}.safetensors"
            if not path.exists():
                teach(bank, options.weights, path, c["teacher"], c["seed"])
                tell_teacher(path, teacher=c["teacher"], seed=c["seed"])
        student, told = learn(bank, path, c)
        maps = half.maps(student)
        seconds = round(time.monotonic() - start, 1)
        tell(cfg=setting, seconds=seconds, log=told[:1] + told[-1:], raw=half.score(maps, False), **half.score(maps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True, dest="verb")
    draw = verbs.add_parser("crops")
    draw.add_argument("root")
    draw.add_argument("crops", type=Path)
    draw.add_argument("--epochs", type=int, default=4)
    draw.add_argument("--sides", type=int, nargs=2, default=(200, 400))
    draw.add_argument("--crop", type=int, default=256)
    draw.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    verb = verbs.add_parser("run")
    verb.add_argument("crops", type=Path)
    verb.add_argument("--teacher", type=Path)
    verb.add_argument("--weights", default="")
    verb.add_argument("--settings", type=Path, required=True)
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--share", type=int, nargs=2, default=(0, 1))
    options = parser.parse_args()
    if options.verb == "crops":
        crops(options.root, options.crops, options.epochs, tuple(options.sides), options.crop, options.workers)
    else:
        run(options)


if __name__ == "__main__":
    main()
