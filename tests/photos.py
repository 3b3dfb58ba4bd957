"""A data set of the kind `folder`, a few pixels large, for tests of plans and stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from matlabel_bench.config import Experiment, Options, resolve

IDS = ("a", "b b", "ç")


def write(root: Path) -> Path:
    """Three images of 20 x 24 pixels with tags and masks; one image has two tags. Returns `root`."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    mask = np.zeros((20, 24), np.uint8)
    mask[4:12, 4:12], mask[14:, 14:] = 1, 2
    for name in IDS:
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(root / f"images/{name}.png")
        Image.fromarray(mask).save(root / f"masks/{name}.png")
    (root / "tags.csv").write_text("a,cat\nb b,cat dog\nç,dog\n", encoding="utf-8")
    return root


def write_splits(root: Path, **lists: str) -> Path:
    """`write`, two images without masks, and splits: names of images between commas. Returns `root`.

    Without `lists`: train `a, b b`, val `b b, ç` and test `d, e`, which has no masks.
    """
    write(root)
    rng = np.random.default_rng(1)
    for name in "de":
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(root / f"images/{name}.png")
    with (root / "tags.csv").open("a", encoding="utf-8") as out:
        out.write("d,cat\ne,dog\n")
    (root / "splits").mkdir()
    for name, ids in (lists or {"train": "a,b b", "val": "b b,ç", "test": "d,e"}).items():
        (root / f"splits/{name}.txt").write_text("\n".join(ids.split(",")), encoding="utf-8")
    return root


def experiment(table: str, profile: str = "", **options: object) -> Experiment:
    """The experiment of a table in the working folder, whose data set lies in its folder `photos`."""
    Path("p.toml").write_text(profile or PROFILE)
    Path("t.toml").write_text(table)
    given = {"profile": "p.toml", "data_root": "photos", "store": Path("store").absolute()} | options
    return resolve(["t.toml"], Options(**given))


TABLE = """
[[columns]]
name = "Seed"
[[columns]]
name = "Seed (fixed)"
threshold = "fixed"
[[columns]]
name = "Seed (oracle)"
threshold = "oracle"
[[columns]]
name = "shifted"
refine = ["stub-shift"]
threshold = "mask-free"
[[rows]]
name = "cam"
cam = "stub-cam"
[[rows]]
name = "matting"
cam = "stub-cam"
matting = "stub-matting"
[[rows]]
name = "trained"
cam = "stub-trained"
matting = "stub-matting"
[[rows]]
name = "known"
published = { "Seed" = 50.0 }
"""
PROFILE = """
name = "photos"
[run]
dataset = "folder"
fit_split = "train"
split = "train"
"""
SPLITS = """
name = "splits"
[run]
dataset = "stub-photos"
fit_split = "train"
split = "val"
seeds = [5]
"""
"""A profile for what `write_splits` writes."""
