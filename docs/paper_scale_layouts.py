"""Data sets as large as the real ones, for `paper_scale.py disk`: real numbers of images, of classes an image and of
pixels; a few noise images behind thousands of hard links, so that they take no room and are read from memory.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from matlabel_bench.images import write_label
from matlabel_datasets.coco14 import CATEGORIES
from matlabel_datasets.voc12 import CLASSES

VOC = {"train": 1464, "val": 1449, "test": 1456}
TRAIN_AUG = 10582
"""With SBD's annotations, train among them."""
COCO = {"train2014": 82783, "val2014": 40504}
TAGS = (0.63, 0.28, 0.08, 0.01)
"""Shares of VOC images with 1, 2, 3 and 4 classes: 1.47 in the mean."""
COCO_TAGS = 2.9
SOURCES = 16
"""Files behind the links: a file of ext4 can have 65,000 names."""


def voc(root: Path) -> Path:
    """VOC 2012 in its official layout, with SBD's masks: all four lists, masks but for test, tags as a table."""
    rng = np.random.default_rng(0)
    lists = {name: [f"{name}_{i:06d}" for i in range(count)] for name, count in VOC.items()}
    lists["train_aug"] = lists["train"] + [f"aug_{i:06d}" for i in range(TRAIN_AUG - VOC["train"])]
    everything = [*lists["train_aug"], *lists["val"], *lists["test"]]
    photographs = _photographs(root / "sources", (375, 500), rng)
    _links(photographs, (root / "JPEGImages" / f"{image}.jpg" for image in everything))
    masked = (("SegmentationClassAug", "train_aug"), ("SegmentationClass", "val"))
    for name, chosen in masked:
        _links([_mask(root / "sources")], (root / name / f"{image}.png" for image in lists[chosen]))
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True)
    for name, ids in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    with (root / "image_labels.csv").open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        for image in everything:
            count = rng.choice(len(TAGS), p=TAGS) + 1
            table.writerow([image, " ".join(rng.choice(CLASSES, count, replace=False))])
    return root


def coco(root: Path) -> Path:
    """COCO 2014 in its official layout, with one quadrilateral for each class of an image."""
    rng = np.random.default_rng(0)
    photographs, first = _photographs(root / "sources", (480, 640), rng), 1
    for folder, count in COCO.items():
        numbers = range(first, first + count)
        first += count
        names = [f"COCO_{folder}_{number:012d}.jpg" for number in numbers]
        _links(photographs, (root / folder / name for name in names))
        images = [
            {"id": i, "file_name": name, "height": 480, "width": 640} for i, name in zip(numbers, names, strict=True)
        ]
        _write(root / "annotations" / f"instances_{folder}.json", images, _objects(numbers, rng))
    return root


def _objects(numbers: Iterable[int], rng: np.random.Generator) -> list[dict[str, object]]:
    ids, out = list(CATEGORIES), []
    for number in numbers:
        count = min(1 + int(rng.poisson(COCO_TAGS - 1)), len(ids))
        for category in rng.choice(ids, count, replace=False).tolist():
            x, y, w, h = (int(v) for v in rng.integers((0, 0, 40, 40), (400, 300, 240, 180)))
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            out.append({"image_id": number, "category_id": category, "iscrowd": 0, "segmentation": [corners]})
    return [{"id": i} | one for i, one in enumerate(out, 1)]


def _write(path: Path, images: Sequence[object], annotations: Sequence[object]) -> None:
    path.parent.mkdir(exist_ok=True)
    categories = [{"id": i, "name": name} for i, name in CATEGORIES.items()]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(whole), encoding="utf-8")


def _photographs(folder: Path, size: tuple[int, int], rng: np.random.Generator) -> list[Path]:
    """JPEG files of blurred noise."""
    folder.mkdir(parents=True)
    paths = [folder / f"{i}.jpg" for i in range(SOURCES)]
    for path in paths:
        coarse = rng.integers(0, 256, (size[0] // 5, size[1] // 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(path, quality=92)
    return paths


def _mask(folder: Path) -> Path:
    mask = np.zeros((375, 500), np.uint8)
    mask[100:300, 150:350] = 1
    write_label(folder / "mask.png", mask)
    return folder / "mask.png"


def _links(sources: Sequence[Path], targets: Iterable[Path]) -> None:
    made: set[Path] = set()
    for number, target in enumerate(targets):
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        os.link(sources[number % len(sources)], target)
