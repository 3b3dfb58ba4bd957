"""Learning rates of DeepLab-v2 compared on train alone: true masks of two thirds to learn from, the others to score.

    python docs/segmenter_rate.py tiny 0.01 0.02 0.03 0.05
    python docs/segmenter_rate.py light 0.0005 0.001 --dataset voc12-animals --data-root DIR --weights FILE

Everything but the rate is the profile's. One line a rate: mIoU in per cent.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from matlabel_bench import registry
from matlabel_bench.profiles import load_profile
from matlabel_bench.score import Tallies, evaluate, tally_label
from matlabel_bench.spec import MaskReader
from matlabel_bench.types import Label


class Masks(Mapping[str, Label]):
    """True masks by image id, read when asked for."""

    def __init__(self, ids: tuple[str, ...], read: MaskReader) -> None:
        self.ids, self.read = ids, read

    def __getitem__(self, image: str) -> Label:
        return self.read(image)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def main() -> None:
    """Train once a rate, and print what the rest of the split says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile")
    parser.add_argument("rates", nargs="+", type=float)
    parser.add_argument("--dataset", default="", help="as the profile's, if empty")
    parser.add_argument("--data-root", default="")
    parser.add_argument("--weights", default="none")
    given = parser.parse_args()
    torch.set_num_threads(1)
    profile, parts = load_profile(given.profile), registry.start()[0]
    root = {"root": given.data_root} if given.data_root else {}
    dataset = parts.make("dataset", given.dataset or profile.dataset, **root)
    split, masks = dataset.split(profile.split), dataset.masks(profile.split)
    if masks is None:
        parser.error(f"split {profile.split!r} has no masks")
    cut = len(split) * 2 // 3
    learned, held = (replace(split, samples=part) for part in (split.samples[:cut], split.samples[cut:]))
    labels = Masks(tuple(s.id for s in learned), masks)
    fields = {"weights": given.weights} | dict(profile.parts["deeplab_v2"])
    for rate in given.rates:
        part = parts.make("segmenter", "deeplab_v2", **(fields | {"lr": rate}))
        with tempfile.TemporaryDirectory() as folder:
            part.fit(learned, labels, Path(folder), 0)
            live = part.open(Path(folder))
            tallies = [tally_label(live(sample.read()), masks(sample.id)) for sample in held]
        counts = Tallies.of([sample.id for sample in held], tallies, len(split.classes) + 1).at()
        print(f"lr {rate:g}: mIoU {evaluate([counts]).value:.1f} on {len(held)} images", flush=True)


if __name__ == "__main__":
    main()
