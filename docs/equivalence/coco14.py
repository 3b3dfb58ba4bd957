"""Masks of COCO beside those of ReCAM: one Markdown row a split.

    git clone https://github.com/zhaozhengChen/ReCAM && git -C ReCAM checkout 2bdbcd2
    python docs/equivalence/coco14.py --reference ReCAM --root COCO

COCO: the folder with annotations/instances_*2014.json and the images. The reference's function is imported as it is;
the imageio that it writes with is stood in for by Pillow.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image

from matlabel_datasets.coco14 import Coco14

SOURCE = "zhaozhengChen/ReCAM@2bdbcd2, mscoco/annToMask.py"


def reference(folder: Path) -> ModuleType:
    """The reference's module, imported from a checkout."""
    pictures: Any = ModuleType("imageio")
    pictures.imsave = lambda path, array: PIL.Image.fromarray(array).save(path)
    sys.modules["imageio"] = pictures
    sys.path.insert(0, str(folder / "mscoco"))
    import annToMask

    return annToMask  # type: ignore[no-any-return]


def compare(theirs: ModuleType, root: Path, name: str, out: Path) -> str:
    """Paint every image of a split in both ways; a row of the table."""
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(root / "annotations" / f"instances_{name}2014.json"))
        theirs.work(0, [list(coco.imgs)], coco, str(out))
    read = Coco14(root=str(root)).masks(name)
    if read is None:
        raise SystemExit(f"no masks for {name} in {root}")
    apart = 0
    for number, image in coco.imgs.items():
        with PIL.Image.open(out / f"{number}.png") as picture:
            wanted = np.array(picture)
        apart += int((read(Path(image["file_name"]).stem) != wanted).sum())
    return f"| coco14 | {SOURCE} | masks of {len(coco.imgs)} {name} images | {apart} pixels |"


def main() -> None:
    """Print the rows."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--reference", type=Path, required=True)
    options.add_argument("--root", type=Path, required=True)
    given = options.parse_args()
    theirs = reference(given.reference)
    for name in ("train", "val"):
        with tempfile.TemporaryDirectory() as out:
            print(compare(theirs, given.root, name, Path(out)))


if __name__ == "__main__":
    main()
