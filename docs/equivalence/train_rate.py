"""Images a second of our trainings beside the public scripts', on one machine at equal settings: one Markdown row each.

    git clone https://github.com/zhaozhengChen/ReCAM && git -C ReCAM checkout 2bdbcd2
    git clone https://github.com/jiwoon-ahn/irn && git -C irn checkout a2ece00
    python docs/equivalence/train_rate.py --reference ReCAM --irn irn --root VOC2012 --out reports/training-rate

`step/train_cam.py`, `step/train_recam.py` and `step/train_irn.py` run as they are, with their own data loaders, losses
and optimisers, on the settings that are the defaults of both sides (ResNet-50, crops of 512, images of 320 to 640, all
random changes); only the device and the number of images a batch are said. Each side is a process of its own, in turns,
round after round. A step is from the end of one optimiser's step to the end of the next, reading included; the first
two are left out. Both sides get the same random weights. The scripts calculate in float32; ours do so too, and once
more in half precision, which is the default.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import recam
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

from matlabel_bench import record
from matlabel_bench.recipe import save
from matlabel_bench.types import Sample, Split
from matlabel_bench.workers import THREAD_VARIABLES, cores
from matlabel_cams.cam import Cam
from matlabel_cams.recam import ReCam
from matlabel_refiners.irn import Irn

CLASSES = 20
SCRIPTS = {"cam": "step.train_cam", "recam": "step.train_recam", "irn": "step.train_irn"}
SIDES = ("reference", "float32", "half")


class Enough(Exception):
    """All steps that were asked for are done."""


def clock(steps: int, device: str) -> list[float]:
    """When each step of any optimiser of this process ended; the last raises Enough."""
    times: list[float] = []

    def note(*_: Any) -> None:
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        if len(times) == steps:
            raise Enough

    register_optimizer_step_post_hook(note)
    return times


def images(root: Path, count: int) -> list[str]:
    """Names of that many photographs, in the order of their names."""
    names = sorted(p.stem for p in (root / "JPEGImages").glob("*.jpg"))
    return (names * -(-count // len(names)))[:count]


def tags(name: str) -> list[int]:
    """One class or two, by the name."""
    number = int(name.replace("_", ""))
    return sorted({number % CLASSES, number // 7 % CLASSES})


def blocks(name: str, size: tuple[int, int]) -> np.ndarray:
    """A label of h x w: background, a rectangle of each class, uncertain pixels around them."""
    label = np.zeros(size, np.uint8)
    for i, tag in enumerate(tags(name)):
        rows, columns = slice(size[0] // 4, size[0] // 2 + 40 * i), slice(size[1] // 5 + 90 * i, size[1] // 2 + 60 * i)
        label[rows, columns] = tag + 1
        label[rows, columns][:9] = 255
    return label


def reference(given: SimpleNamespace) -> None:
    """Run a script of a checkout until there are enough steps."""
    sys.path.insert(0, str(given.checkout))
    os.chdir(given.checkout)
    for name in ("chainercv", "chainercv.datasets", "chainercv.evaluations"):
        sys.modules[name] = mock.MagicMock()
    sys.modules["imageio"] = SimpleNamespace(imread=lambda path: np.asarray(Image.open(path)))  # type: ignore[assignment]
    labels = {int(n.replace("_", "")): np.isin(np.arange(CLASSES), tags(n)).astype("f4") for n in given.names}
    with mock.patch("numpy.load", return_value=SimpleNamespace(item=lambda: labels)):
        importlib.import_module("voc12.dataloader")
    resnet = importlib.import_module("net.resnet50")
    state = torch.load(given.weights, weights_only=True)
    resnet.model_zoo.load_url = lambda url: dict(state)
    if given.device == "cpu":
        cpu: Any = torch
        cpu.Tensor.cuda = cpu.nn.Module.cuda = lambda self, *words, **more: self
    listed = given.folder / "list.txt"
    listed.write_text("\n".join(n.replace("_", "") for n in given.names))
    args: dict[str, Any] = {
        "cam_network": "net.resnet50_cam", "irn_network": "net.resnet50_irn", "voc12_root": str(given.root),
        "train_list": str(listed), "val_list": str(listed), "num_workers": given.readers, "cam_batch_size": given.batch,
        "irn_batch_size": given.batch, "cam_num_epoches": 5, "recam_num_epoches": 4, "irn_num_epoches": 3,
        "cam_learning_rate": 0.01, "recam_learning_rate": 0.0005, "irn_learning_rate": 0.1, "cam_weight_decay": 1e-4,
        "irn_weight_decay": 1e-4, "recam_loss_weight": 1.0, "irn_crop_size": 512, "recam_weight_dir": str(given.folder),
        "cam_weights_name": str(given.folder / "cam.pth"), "ir_label_out_dir": str(given.folder),
    }  # fmt: skip
    if given.part == "recam":
        net = importlib.import_module("net.resnet50_cam").Net_CAM_Feature()
        torch.save(net.state_dict(), args["cam_weights_name"])
    if given.part == "irn":
        for name in given.names:
            with Image.open(given.root / "JPEGImages" / f"{name}.jpg") as image:
                Image.fromarray(blocks(name, image.size[::-1])).save(given.folder / f"{name}.png")
    importlib.import_module(SCRIPTS[given.part]).run(SimpleNamespace(**args))


def ours(given: SimpleNamespace) -> None:
    """Train a part until there are enough steps; a second stage starts from random weights, as the script's does."""
    root, shared = given.root / "JPEGImages", {"weights": str(given.weights), "batch": given.batch, "amp": given.half}
    samples = [Sample(f"{n}-{i}", root / f"{n}.jpg", tuple(t + 1 for t in tags(n))) for i, n in enumerate(given.names)]
    split = Split("voc12", "train", tuple(str(c) for c in range(CLASSES)), tuple(samples))
    shared |= {"device": given.device, "readers": given.readers}
    if given.part == "irn":
        maps = {}
        for sample in samples:
            label = blocks(sample.id.split("-")[0], sample.read().shape[:2])
            maps[sample.id] = np.stack([label == t for t in sample.tags]).astype(np.float32)
        Irn(**shared).fit(split, maps, given.folder, 0)  # type: ignore[arg-type]
    elif given.part == "cam":
        Cam(lr=0.01, **shared).fit(split, given.folder, 0)  # type: ignore[arg-type]
    else:
        part = ReCam(**shared)  # type: ignore[arg-type]
        stem = given.folder / "stem"
        stem.mkdir()
        untrained(part.stem(), split, stem)
        part.fit(split, given.folder, 0, stem=stem)


def untrained(stem: Any, split: Split, out: Path) -> None:
    """What a first stage would leave, without a step."""
    with mock.patch(
        "matlabel_bench.train.run", lambda network, data, recipe, folder, seed, about: save(network, folder)
    ):
        stem.fit(split, out, 0)


def measure(given: argparse.Namespace, part: str, side: str, weights: str) -> float:
    """Images a second of one process."""
    checkout = given.reference if part == "recam" else given.irn
    with tempfile.TemporaryDirectory() as folder:
        told = {
            "part": part, "side": side, "weights": weights, "folder": folder, "checkout": str(checkout.resolve()),
            "root": str(given.root.resolve()), "batch": given.batch, "steps": given.steps, "device": given.device,
            "readers": given.readers,
        }  # fmt: skip
        threads = dict.fromkeys(THREAD_VARIABLES, str(cores()))
        done = subprocess.run(
            [sys.executable, __file__, "--child", json.dumps(told)],
            env=os.environ | threads, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    times = json.loads(done.stdout.splitlines()[-1])
    return float(given.batch / np.median(np.diff(times[2:])))


def child(told: dict[str, Any]) -> None:
    """One side of one measurement, in a process of its own; the last line it prints has the times."""
    given = SimpleNamespace(**told, names=images(Path(told["root"]), told["batch"] * told["steps"]))
    given.root, given.folder, given.half = Path(given.root), Path(given.folder), given.side == "half"
    times = clock(given.steps, given.device)
    with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(Enough):
        (reference if given.side == "reference" else ours)(given)
    print(json.dumps(times))


def main() -> None:
    """Measure the scripts of the checkouts that are given; write rates.csv and record.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a checkout of ReCAM at 2bdbcd2")
    parser.add_argument("--irn", type=Path, help="a checkout of irn at a2ece00")
    parser.add_argument("--root", type=Path, help="folder VOC2012, of which JPEGImages is read")
    parser.add_argument("--out", type=Path, help="folder for rates.csv and record.json")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8, help="of which the first two do not count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readers", type=int, default=0, help="processes that read images, on both sides")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(json.loads(given.child))
        return
    parts = [p for p in SCRIPTS if (given.reference if p == "recam" else given.irn)]
    rates: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "resnet50.pth")
        torch.save(recam.random_weights(recam.reference(given.irn or given.reference)), weights)
        for number in range(given.rounds):
            for part in parts:
                for side in SIDES:
                    rates.setdefault((part, side), []).append(measure(given, part, side, weights))
                    print(f"round {number + 1}: {part}, {side}: {rates[part, side][-1]:.3g} images/s", file=sys.stderr)
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / "rates.csv").open("w", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["part", "side", "round", "images_per_second"])
        table.writerows(
            [part, side, i + 1, f"{rate:.4g}"] for (part, side), r in rates.items() for i, rate in enumerate(r)
        )
    numbers = " ".join(f"--{n} {getattr(given, n)}" for n in ("device", "batch", "steps", "rounds", "readers"))
    command = f"python docs/equivalence/train_rate.py --reference DIR --irn DIR --root DIR --out DIR {numbers}"
    (given.out / "record.json").write_text(
        json.dumps({"command": command, "environment": record.environment()}, indent=1) + "\n"
    )
    for part in parts:
        theirs, *rest = (np.array(rates[part, side]) for side in SIDES)
        shown = (f"{np.median(r):.3g} ({np.median(r / theirs):.2f}x)" for r in rest)
        print(f"| {part} | {np.median(theirs):.3g} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
