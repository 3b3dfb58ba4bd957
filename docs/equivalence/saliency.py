"""The rule of `saliency` beside NSROM's script: one Markdown row.

    git clone https://github.com/NUST-Machine-Intelligence-Laboratory/nsrom && git -C nsrom checkout fa05286
    python docs/equivalence/saliency.py --reference nsrom

The reference is a script that works on files below the current folder. It is run as it is, in a temporary folder, on
random attention and saliency maps; the attention of its two rounds is the same. It needs OpenCV and pydensecrf.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image

from matlabel_refiners.saliency import Saliency

SOURCE = "NUST-Machine-Intelligence-Laboratory/nsrom@fa05286, classification/gen_label.py"
COUNT = 200


def smooth(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A random map of some blobs, in 0..1, that may be flat at either end."""
    y, x = np.mgrid[: size[0], : size[1]]
    total = 0.05 * rng.random(size)
    for _ in range(int(rng.integers(1, 4))):
        cy, cx, wide = rng.random() * size[0], rng.random() * size[1], rng.uniform(1, 14)
        total += rng.uniform(0.3, 1.3) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * wide**2))
    return np.clip(total, 0, 1)


def scene(rng: np.random.Generator) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Saliency and the attention of some classes 1..20, 8 bit."""
    size = (int(rng.integers(20, 60)), int(rng.integers(20, 60)))
    classes = sorted(int(c) for c in rng.choice(20, int(rng.integers(1, 4)), replace=False) + 1)
    maps = {c: smooth(rng, size) for c in classes}
    saliency = np.max([rng.random() * m for m in maps.values()], axis=0) + 0.3 * smooth(rng, size)
    grey = {c: np.round(m * 255).astype(np.uint8) for c, m in maps.items()}
    return np.round(np.clip(saliency, 0, 1) * 255).astype(np.uint8), grey


def lay_out(folder: Path, scenes: list[tuple[np.ndarray, dict[int, np.ndarray]]]) -> None:
    """The files that the reference reads; it numbers classes from 0."""
    for name in ("data/saliency_aug", "runs/exp1/attention", "runs/exp2/attention"):
        (folder / name).mkdir(parents=True)
    lines = []
    for number, (saliency, maps) in enumerate(scenes):
        PIL.Image.fromarray(saliency).save(folder / f"data/saliency_aug/{number}.png")
        for run in ("exp1", "exp2"):
            for kind, plane in maps.items():
                PIL.Image.fromarray(plane).save(folder / f"runs/{run}/attention/{number}_{kind - 1}.png")
        lines.append(" ".join([str(number), *(str(kind - 1) for kind in maps)]) + "\n")
    (folder / "data/train_cls.txt").write_text("".join(lines))


def main() -> None:
    """Print the row."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--reference", type=Path, required=True)
    script = options.parse_args().reference.resolve() / "classification" / "gen_label.py"
    rng = np.random.default_rng(0)
    scenes = [scene(rng) for _ in range(COUNT)]
    apart, pixels, values = 0, 0, np.zeros(256, np.int64)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder, scenes)
        subprocess.run([sys.executable, "-W", "ignore", str(script)], cwd=folder, check=True)
        for number, (saliency, maps) in enumerate(scenes):
            with PIL.Image.open(folder / f"pseudo_labels/{number}.png") as picture:
                wanted = np.array(picture)
            planes = np.stack(list(maps.values())).astype(np.float32) / 255
            label = Saliency().rule(saliency, planes, np.array(list(maps), np.uint8))
            apart, pixels = apart + int((label != wanted).sum()), pixels + label.size
            values += np.bincount(wanted.ravel(), minlength=256)
    kinds = f"background {values[0] / pixels:.0%}, ignored {values[255] / pixels:.0%} of {pixels:,} pixels"
    print(f"| saliency | {SOURCE} | labels of {COUNT} random scenes ({kinds}) | {apart} pixels |")


if __name__ == "__main__":
    main()
