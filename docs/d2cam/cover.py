"""How much of an image maps cover: `python docs/d2cam/cover.py STORE/maps/KEY/files ...`, keys of `bench plan`.

A line a folder: the mean share of cells that have at least a quarter of their map's greatest value, over all maps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np


def cover(folder: Path) -> tuple[int, float]:
    """Maps, and their mean share."""
    shares = []
    for file in sorted(folder.glob("*.npz")):
        with np.load(file, allow_pickle=False) as data:
            shares += [(plane >= 0.25 * plane.max()).mean() for plane in data["cams"].astype(np.float32) if plane.any()]
    return len(shares), float(np.mean(shares))


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    for folder in parser.parse_args().folders:
        print("{}: {} maps, {:.3f}".format(folder, *cover(folder)))


if __name__ == "__main__":
    main()
