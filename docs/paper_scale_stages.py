"""The stages that `paper_scale.py memory` measures, each on one synthetic image with two tags."""

from __future__ import annotations

import importlib
import os
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from matlabel_bench.types import Cams, Label, Sample, Split

SIZES = {"voc": (375, 500), "voc2": (375, 500), "coco": (480, 640)}
"""Id of an image -> h, w."""
TAGS = (3, 7)
CELL = 8
LIBRARIES = {
    "network": ("torch", "matlabel_bench.train", "matlabel_cams.classifier"),
    "pymatting": ("pymatting",),
    "crf": ("pydensecrf.densecrf",),
    "matteformer": ("torch", "matlabel_bench.train", "matlabel_mattings.matteformer.inference"),
    "irn": ("torch", "matlabel_bench.train", "matlabel_refiners.irn_fit", "pydensecrf.densecrf", "scipy.sparse"),
    "deeplab": ("torch", "matlabel_bench.train", "matlabel_segmenters.network", "pydensecrf.densecrf"),
    "": (),
}
"""What is loaded before a stage is measured."""


@dataclass(frozen=True)
class Case:
    """A stage with a part at its settings; `libraries` says what is loaded first."""

    stage: str
    part: str
    setting: str
    libraries: str
    work: Callable[[Path], object] = field(repr=False)


@dataclass(frozen=True)
class Truth:
    """Stands for a data set whose masks a score may see."""

    def masks(self, split: str) -> Callable[[str], Label]:
        return blob_label


def prepare(folder: Path) -> None:
    """The images, their maps, and labels, as earlier stages would have left them."""
    from PIL import Image

    from matlabel_bench.handover import output, write_maps
    from matlabel_bench.images import write_label

    rng = np.random.default_rng(0)
    (folder / "labels").mkdir()
    for image, (height, width) in SIZES.items():
        colours = Image.fromarray(rng.integers(0, 256, (height // 25, width // 25, 3), dtype=np.uint8))
        pixels = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC), np.int64)
        pixels = np.clip(pixels + rng.integers(-6, 7, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{image}.png")
        grid = -(-height // CELL), -(-width // CELL)
        write_maps(output("maps", folder / "blobs", image), (height, width), cams=blobs(*grid))
        write_label(output("refine", folder / "labels", image), blob_label(image))


def blobs(height: int, width: int) -> Cams:
    """Two maps with one hill each."""
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    far = [np.hypot(y - cy, x - cx) for cy, cx in ((0.4, 0.3), (0.6, 0.7))]
    return np.stack([np.exp(-((f / 0.2) ** 2)) for f in far]).astype(np.float32)


def blob_label(image: str) -> Label:
    """What the two maps stand for."""
    maps = blobs(*SIZES[image])
    found: Label = np.where(maps.max(0) > 0.5, np.asarray(TAGS, np.uint8)[maps.argmax(0)], 0).astype(np.uint8)
    return found


def measure(case: Case, folder: Path) -> tuple[int, int, int]:
    """Peak resident megabytes of this process, what the stage added to the loaded libraries, and seconds of a core."""
    from matlabel_bench import registry

    importlib.import_module("matlabel_bench.stages")
    registry.start()
    for name in LIBRARIES[case.libraries]:
        importlib.import_module(name)
    if "torch" in LIBRARIES[case.libraries]:
        importlib.import_module("torch").set_num_threads(1)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    started = time.process_time()
    case.work(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return round(peak / 1e6), round((peak - before) / 1e6), round(time.process_time() - started)


def split(folder: Path, images: Iterable[str], classes: int = 20) -> Split:
    names = tuple(f"class {n}" for n in range(classes))
    return Split("synthetic", "train", names, tuple(Sample(i, folder / f"{i}.png", TAGS) for i in images))


def part(kind: str, name: str, **fields: Any) -> Any:
    """A part as the paper profile has it."""
    from matlabel_bench import registry
    from matlabel_bench.profiles import load_profile

    return registry.start()[0].make(kind, name, **{**load_profile("paper").parts.get(name, {}), **fields})


def train(kind: str, name: str, **fields: Any) -> Callable[[Path], None]:
    """One step of a training on two images, from random weights; what it leaves, later stages open."""

    def work(folder: Path) -> None:
        from matlabel_bench.handover import Given, Inputs, load_label, load_values

        images, out = split(folder, ("voc", "voc2")), folder / "fit" / name
        given: list[Any] = []
        if kind == "refiner":
            given = [Given(images, Inputs(maps=folder / "blobs"), load_values)]
        if kind == "segmenter":
            given = [Given(images, Inputs(labels=folder / "labels"), load_label)]
        with mock.patch("matlabel_segmenters.weights.initialise", return_value="random weights"):
            part(kind, name, **fields).fit(images, *given, out, 0)

    return work


def matteformer(folder: Path) -> None:
    """One step on two composites of the embedded data set."""
    from matlabel_bench import registry

    drawn = registry.start()[0].make("dataset", "shapes", root=str(folder / "shapes")).folders()["composites"]
    train("matting", "matteformer", weights="none", composites=str(drawn), steps=1, batch=2, warmup=0.0)(folder)


def stage(name: str, kind: str, of: str, image: str = "voc", inputs: str = "", **fields: Any) -> Callable[[Path], None]:
    """The core's stage on one image. `inputs`: those of its inputs that an earlier case left in a folder."""

    def work(folder: Path) -> None:
        from matlabel_bench.handover import Inputs
        from matlabel_bench.stages import Task, run_chunk

        known = {word.partition("=")[0]: folder / word.partition("=")[2] for word in inputs.split()}
        fit = folder / "fit" / of
        threshold = 0.5 if name == "refine" else None
        given = Inputs(**known, fit=fit if of and fit.is_dir() else None, threshold=threshold)
        out = folder / name / of
        out.mkdir(parents=True, exist_ok=True)
        dataset = Truth() if name == "score" else None
        task = Task(name, of, _made(kind, of, fields), given, out, dataset, "train", 20)
        (done,) = run_chunk(task, split(folder, [image]).samples)
        if done.error is not None:
            raise RuntimeError(f"{name} {of}: {done.error}")

    return work


def _made(kind: str, name: str, fields: dict[str, Any]) -> Any:
    from matlabel_bench.trimap import TrimapRule
    from matlabel_bench.uncertainty import UncertaintyRule

    rules: dict[str, Callable[[], Any]] = {"thresholds": TrimapRule, "uncertainty": UncertaintyRule, "": lambda: None}
    return part(kind, name, **fields) if kind else rules[name]()


VOC, COCO = "375x500", "480x640"
FOUR = f"{VOC}; scales 0.5, 1, 1.5, 2 and mirrored"
ONE_STEP = "one step, batch 2 of crops {}"
MATTINGS = ("knn", "closed_form", "lbdm", "random_walk")
KNOWN = "maps=blobs trimap=trimap/{}"
CASES = (
    Case("fit", "cam", ONE_STEP.format(512), "network", train("cam", "cam", weights="none", epochs=1, batch=2)),
    Case("fit", "recam", f"{ONE_STEP.format(512)}, both stages", "network",
         train("cam", "recam", weights="none", epochs=1, recam_epochs=1, batch=2)),
    Case("fit", "d2cam", ONE_STEP.format(512), "network", train("cam", "d2cam", weights="none", epochs=1, batch=2)),
    Case("maps", "cam", f"ResNet-50, stride 16, {FOUR}", "network", stage("maps", "cam", "cam")),
    Case("maps", "recam", f"ResNet-50, stride 16, {FOUR}", "network", stage("maps", "cam", "recam")),
    Case("maps", "d2cam", f"ResNet-50, stride 8, {FOUR}", "network", stage("maps", "cam", "d2cam")),
    Case("views", "cam", f"six views, the largest 469x625; {FOUR}", "network", stage("views", "cam", "cam")),
    Case("trimap", "thresholds", VOC, "", stage("trimap", "", "thresholds", inputs="maps=blobs")),
    Case("trimap", "uncertainty", VOC, "", stage("trimap", "", "uncertainty", inputs="views=views/cam")),
    *(Case("alpha", name, VOC, "pymatting", stage("alpha", "matting", name, inputs=KNOWN.format("thresholds")))
      for name in MATTINGS),
    Case("fit", "matteformer", f"Swin-T, {ONE_STEP.format(512)}", "matteformer", matteformer),
    Case("alpha", "matteformer", f"Swin-T, {VOC}", "matteformer",
         stage("alpha", "matting", "matteformer", inputs=KNOWN.format("thresholds"))),
    Case("refine", "crf", VOC, "crf", stage("refine", "refiner", "crf", inputs="maps=blobs")),
    Case("fit", "irn", f"labels mined, {ONE_STEP.format(512)}", "irn",
         train("refiner", "irn", weights="none", epochs=1, batch=2)),
    Case("refine", "irn", f"{VOC}, filled up to 512x512", "irn",
         stage("refine", "refiner", "irn", inputs="maps=blobs")),
    Case("refine", "irn", f"{COCO}, filled up to 512x640", "irn",
         stage("refine", "refiner", "irn", "coco", inputs="maps=blobs")),
    Case("fit", "deeplab_v2", f"ResNet-101, scales 1, 0.5, 0.75, {ONE_STEP.format(321)}", "deeplab",
         train("segmenter", "deeplab_v2", steps=1, batch=2, accumulate=1)),
    Case("segment", "deeplab_v2", f"ResNet-101, {VOC}, without CRF", "deeplab",
         stage("segment", "segmenter", "deeplab_v2", crf=False)),
    Case("segment", "deeplab_v2", f"ResNet-101, {VOC}, CRF of 21 classes", "deeplab",
         stage("segment", "segmenter", "deeplab_v2", crf=True)),
    Case("score", "", f"{VOC}, alphas at all thresholds", "",
         stage("score", "", "", inputs="maps=blobs alpha=alpha/knn")),
)  # fmt: skip
