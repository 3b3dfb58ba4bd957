"""Why a class's map dies: the generator's training again and again, with the rest of the network as it was.

Where the losses of the maps do not reach the features (`gradient = phi_only`, as in profile `light`), the classifier
learns the same whatever the generator does. So one training is recorded (the features of every batch, the layers above
them as they stood), and the generator alone is trained on that record, with the losses and rates of the part itself.
Maps are scored at half size on every image of train:1/2, from two scales without mirror images. All is in bfloat16,
which a processor that has none emulates, slowly.

    python docs/d2cam/replay.py record FIT RECORD --data-root DIR --weights FILE [--seed N]
        FIT is STORE/fit/KEY/files of the CAM that `bench plan` shows first for a D2CAM of that seed
    python docs/d2cam/replay.py try RECORD... --data-root DIR --out FILE.jsonl [--setting NAME...] [--cure NAME...]
        a line for each setting and record: mIoU at the best threshold and each class's IoU (background first); for
        each class a map's greatest value and area, means over its images in the last epoch, and the greatest values in
        the first batches that show it; quantiles of the gradient's length (half, nine tenths, all); the mean squared
        length of what the generator reads in a cell

What it said: docs/d2cam/replay.jsonl (lines without `length` are of the same script before it told that).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from matlabel_bench import registry
from matlabel_bench.profiles import load_profile
from matlabel_bench.score import Tallies
from matlabel_bench.splits import usable
from matlabel_bench.stats import miou
from matlabel_bench.tally import tally_maps
from matlabel_cams.backbones import channel_constants, make
from matlabel_cams.d2network import D2Network
from matlabel_cams.scales import at_scales
from matlabel_cams.trained import scaled

SCALES = (0.5, 1.0)
FIRST = 8
PROFILE = "light"
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "gamma2 1.75, gamma3 0": {"gamma2": 1.75, "gamma3": 0.0},
    "m 0.05": {"area": "margin", "m": 0.05},
    "m 0.1": {"area": "margin", "m": 0.1},
}
"""Profile `light`'s, and those under which a class was lost (reports/light-voc12-animals/tableS4, figureS1)."""
CURES: dict[str, dict[str, Any]] = {
    "none": {},
    "rate / 2": {"generator_multiple": 2.5},
    "rate / 5": {"generator_multiple": 1.0},
    "momentum 0": {"momentum": 0.0},
    "clip 1": {"clip": 1.0},
    "clip 0.1": {"clip": 0.1},
    "centred": {"centred": True},
    "centred, rate x 3": {"centred": True, "generator_multiple": 15.0},
    "gradient never under 0.05": {"leak": 0.05},
    "standard": {"centred": True, "standard": True, "generator_multiple": 2.5},
    "standard, rate x 3": {"centred": True, "standard": True, "generator_multiple": 7.5},
    "centred, hinge 10": {"centred": True, "hinge": 10.0},
    "centred, lam 0": {"centred": True, "lam": 0.0},
    "centred, plain, hinge 10": {"centred": True, "hinge": 10.0, "area": "plain"},
    "centred, plain, hinge 10, gamma2 1": {"centred": True, "hinge": 10.0, "area": "plain", "gamma2": 1.0},
    "centred, beta 2": {"centred": True, "beta": 2.0},
    "beta 2": {"beta": 2.0},
    "rate / 2, beta 2": {"generator_multiple": 2.5, "beta": 2.0},
    "centred, level 0.15": {"centred": True, "level": 0.15},
    "centred, level 0.35": {"centred": True, "level": 0.35},
    "centred, gamma1 1": {"centred": True, "gamma1": 1.0},
    "centred, gamma2 1": {"centred": True, "gamma2": 1.0},
    "centred, gamma2 4": {"centred": True, "gamma2": 4.0},
}
"""Of the part's fields; `clip`: length to which the generator's gradient is cut; `centred`: the generator reads
features less their mean over the first batches; `leak`: what the sigmoid's slope, at most 0.25, never falls below."""


class Leaky(torch.autograd.Function):
    """A sigmoid whose slope does not vanish."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, least: float) -> torch.Tensor:
        found = logits.sigmoid()
        ctx.save_for_backward(found)
        ctx.least = least
        return found

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        (found,) = ctx.saved_tensors
        return gradient * (found * (1 - found)).clamp(min=ctx.least), None


def part(root: str, **fields: Any) -> tuple[Any, Any, Any]:
    """D2CAM of profile `light` with other fields, the photographs, and the registry."""
    parts, _ = registry.start()
    data = parts.make("dataset", "voc12-animals", root=root)
    return parts.make("cam", "d2cam", **dict(load_profile(PROFILE).parts["d2cam"]) | fields), data


def record(fit: Path, out: Path, root: str, weights: str, seed: int) -> None:
    """Train as the part does, and keep what the generator sees; then the features of the images that are scored."""
    made, data = part(root, weights=weights)
    out.mkdir(parents=True)
    count, within = 0, D2Network._map_losses

    def watched(self: D2Network, still: Any, maps: Any, seen: Any, owners: Any, classes: Any, images: int) -> Any:
        nonlocal count
        if not count:
            save_file({k: v.detach().contiguous() for k, v in self.generator.state_dict().items()}, out / "generator")
        state = {k: v for k, v in self.classifier.state_dict().items() if k.startswith(("upper.", "head."))}
        tensors = {"still": still, "owners": owners, "classes": classes, "images": torch.tensor(images)} | state
        save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, out / f"{count:04d}")
        count += 1
        return within(self, still, maps, seen, owners, classes, images)

    D2Network._map_losses = watched  # type: ignore[method-assign]
    try:
        made.fit(usable(data, "train_aug"), out / "fit", seed, stem=fit)
    finally:
        D2Network._map_losses = within  # type: ignore[method-assign]
    network = blank(made, data)
    network.load_state_dict(load_file(out / "fit" / "weights.safetensors"))
    for index, sample in enumerate(scored(data)):
        views: dict[str, torch.Tensor] = {}

        def keep(batch: torch.Tensor, views: dict[str, torch.Tensor] = views) -> torch.Tensor:
            views[str(len(views))] = found = network._seen(batch)
            return network._drawn(found)

        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            of_scales(sample.read(), keep)
        save_file({k: v.bfloat16().clone().contiguous() for k, v in views.items()}, out / f"view{index:04d}")


def blank(made: Any, data: Any) -> D2Network:
    """The network before it has weights."""
    return made._network(make(made.backbone, made.stride), len(usable(data, "train").classes)).eval()


def scored(data: Any) -> list[Any]:
    return [sample for sample in usable(data, "train:1/2").samples if sample.tags]


def of_scales(image: Any, forward: Any) -> torch.Tensor:
    mean, std = channel_constants(make("mobilenet_v2", 16))
    return at_scales(image, forward, stride=16, cell=8, scales=SCALES, flip=False, mean=mean, std=std)


def learn(folder: Path, made: Any, data: Any, cure: dict[str, Any]) -> tuple[D2Network, dict[str, Any]]:
    """Train the generator on the record; each class's greatest map value and area, each step."""
    network = blank(made, data)
    network.generator.load_state_dict(load_file(folder / "generator"))
    network.requires_grad_(False)
    network.generator.requires_grad_(True)
    steps = sorted(folder.glob("[0-9]" * 4))
    middle, spread = torch.zeros(()), torch.ones(())
    if cure.get("centred"):
        looked = torch.cat([_seen(network, load_file(step))[1].float() for step in steps[:16]])
        middle = looked.mean((0, 2, 3))[None, :, None, None]
        spread = looked.std((0, 2, 3))[None, :, None, None].clamp(min=0.05) if cure.get("standard") else spread
        with torch.no_grad():
            network.generator.bias += (network.generator.weight * middle[0]).sum((1, 2, 3))
            network.generator.weight *= spread
    rate = made.lr * made.generator_multiple
    descent = torch.optim.SGD(
        network.generator.parameters(), lr=rate, momentum=made.momentum, weight_decay=made.weight_decay
    )
    peaks = np.full((len(steps), network.generator.out_channels), np.nan)
    lengths = np.zeros(len(steps))
    areas, pulls = peaks.copy(), []
    for at, step in enumerate(steps):
        with torch.autocast("cpu", torch.bfloat16):
            batch, seen = _seen(network, load_file(step))
            logits = network.generator((seen - middle) / spread).float()
            drawn = Leaky.apply(logits, cure["leak"]) if "leak" in cure else logits.sigmoid()
            owners, classes, images = batch["owners"], batch["classes"], int(batch["images"])
            maps = drawn[owners, classes]
            told = network._map_losses(batch["still"], maps, seen, owners, classes, images)
            loss = sum(value for name, value in told.items() if name.startswith("loss"))
        lengths[at] = ((seen - middle) / spread).float().square().sum(1).mean()
        descent.zero_grad()
        (min(1.0, (at + 1) / max(1, made.ramp)) * loss).backward()
        pulls.append(float(torch.nn.utils.clip_grad_norm_(network.generator.parameters(), cure.get("clip", np.inf))))
        for group in descent.param_groups:
            group["lr"] = rate * (1 - at / (len(steps) + 1)) ** made.power
        descent.step()
        for each in classes.unique().tolist():
            own = maps[classes == each].detach()
            peaks[at, each], areas[at, each] = own.amax((1, 2)).mean(), own.mean()
    if cure.get("centred"):
        with torch.no_grad():
            network.generator.weight /= spread
            network.generator.bias -= (network.generator.weight * middle[0]).sum((1, 2, 3))
    last = slice(len(steps) // 2, None)
    return network, {
        "peak": np.nanmean(peaks[last], 0).round(3).tolist(),
        "area": np.nanmean(areas[last], 0).round(3).tolist(),
        "first": [plane[np.isfinite(plane)][:FIRST].round(2).tolist() for plane in peaks.T],
        "pull": [round(np.percentile(pulls, q), 3) for q in (50, 90, 100)],
        "length": round(float(lengths.mean())),
    }


def _seen(network: D2Network, batch: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The step's layers into the network; the batch, and what the generator reads."""
    state = {k: v for k, v in batch.items() if k.startswith(("upper.", "head."))}
    network.classifier.load_state_dict(state, strict=False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return batch, network._above(batch["still"])[1]


def score(folder: Path, network: D2Network, data: Any) -> dict[str, Any]:
    tallies, masks, samples = [], data.masks("train"), scored(data)
    for index, sample in enumerate(samples):
        tags, views = sample.tag_array(), list(load_file(folder / f"view{index:04d}").values())
        chosen = torch.from_numpy(tags.astype(np.int64) - 1)

        def draw(batch: torch.Tensor, views: Any = views, chosen: Any = chosen) -> torch.Tensor:
            return network._drawn(views.pop(0).float())[:, chosen]

        with torch.inference_mode():
            maps = torch.from_numpy(scaled(of_scales(sample.read(), draw).numpy()))
        mask = np.ascontiguousarray(masks(sample.id)[::2, ::2])
        maps = functional.interpolate(maps[None], size=mask.shape, mode="bilinear")[0]
        tallies.append(tally_maps(maps.numpy(), tags, mask))
    all_of = Tallies.of([s.id for s in samples], tallies, len(data.class_names()) + 1)
    each = miou(all_of.confusion(all_of.oracle()))[1]
    return {"best": round(float(all_of.curve().max()), 2), "iou": np.round(each, 1).tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    doing = parser.add_subparsers(dest="do", required=True)
    one = doing.add_parser("record")
    one.add_argument("fit", type=Path)
    one.add_argument("record", type=Path)
    one.add_argument("--weights", required=True, help="of ImageNet, as in `bench run`")
    one.add_argument("--seed", type=int, default=0)
    two = doing.add_parser("try")
    two.add_argument("records", nargs="+", type=Path)
    two.add_argument("--out", type=Path, required=True)
    two.add_argument("--setting", nargs="+", default=list(SETTINGS))
    two.add_argument("--cure", nargs="+", default=list(CURES))
    for each in (one, two):
        each.add_argument("--data-root", required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.do == "record":
        record(options.fit, options.record, options.data_root, options.weights, options.seed)
        return
    for cure in options.cure:
        for setting in options.setting:
            for folder in options.records:
                told = attempt(folder, options.data_root, SETTINGS[setting], CURES[cure])
                with options.out.open("a") as file:
                    file.write(json.dumps({"record": folder.name, "setting": setting, "cure": cure} | told) + "\n")


def attempt(folder: Path, root: str, setting: dict[str, Any], cure: dict[str, Any]) -> dict[str, Any]:
    fields = {k: v for k, v in (setting | cure).items() if k not in ("clip", "centred", "standard", "leak")}
    made, data = part(root, **fields)
    network, told = learn(folder, made, data, cure)
    return score(folder, network, data) | told


if __name__ == "__main__":
    main()
