"""A data set of the kind `folder`, a few pixels large, for tests of plans and stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

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
