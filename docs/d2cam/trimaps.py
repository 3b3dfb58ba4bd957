"""Which trimaps and priors suit a map: KNN matting of stored maps in many ways, at half size.

Every second image of train:1/2, images and maps made half as large, so that a way takes a minute or two. The maps are
those that `bench run` left in its store for the split train:1/2 (`bench plan TABLE` says under which key). Prints mIoU
at the best threshold on these masks, at 0.5, and at Otsu's.

    python docs/d2cam/trimaps.py STORE/maps/KEY/files --data-root DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from matlabel_bench import registry
from matlabel_bench.errors import MattingFailed
from matlabel_bench.handover import Inputs, load_maps
from matlabel_bench.images import resize_image
from matlabel_bench.score import Tallies, tally_maps
from matlabel_bench.splits import usable
from matlabel_bench.trimap import TrimapRule, make_trimap
from matlabel_bench.types import Cams, Image
from matlabel_mattings.knn import Knn
from matlabel_mattings.prior_knn import PriorKnn

TRIMAPS = ((0.75, 0.2), (0.6, 0.1), (0.5, 0.2), (0.4, 0.15))
PRIORS = (
    *((level, 2.0, 0.01) for level in (0.2, 0.3, 0.4, 0.5)),
    *((0.4, power, 0.01) for power in (1.0, 4.0)),
    *((0.4, 2.0, weight) for weight in (0.003, 0.03)),
)
"""Level, power and weight."""


def ways(image: Image, maps: Cams) -> Iterator[tuple[str, Cams]]:
    """The map itself, and alphas by each trimap and each prior."""
    yield "map", maps
    for fg, bg in TRIMAPS:
        trimap, _ = make_trimap(maps, TrimapRule(fg=fg, bg=bg))
        try:
            alphas = Knn().open(None)(image, trimap)
        except MattingFailed:
            alphas = maps
        yield f"trimap {fg} / {bg}", alphas
    for level, sharp, weight in PRIORS:
        alphas = PriorKnn(level=level, sharp=sharp, weight=weight).open(None)(image, maps)
        yield f"prior, level {level}, power {sharp:g}, weight {weight}", alphas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=Path)
    parser.add_argument("--data-root", required=True)
    options = parser.parse_args()
    parts, _ = registry.start()
    data = parts.make("dataset", "voc12-animals", root=options.data_root)
    samples = [s for s in usable(data, "train:1/2").samples[::2] if s.tags]
    masks, inputs = data.masks("train"), Inputs(maps=options.maps)
    found: dict[str, dict[str, object]] = {}
    for sample in samples:
        maps, tags = _halved(load_maps(inputs, sample)), sample.tag_array()
        image = resize_image(sample.read(), maps.shape[1:])
        mask = masks(sample.id)[: 2 * maps.shape[1] : 2, : 2 * maps.shape[2] : 2]
        for name, alphas in ways(image, maps):
            tally = tally_maps(np.ascontiguousarray(alphas, np.float32), tags, mask, maps)
            found.setdefault(name, {})[sample.id] = tally
    print(f"{len(samples)} images\n\n| way | best | at | 0.5 | Otsu's |\n|---|---:|---:|---:|---:|")
    for name, tallies in found.items():
        all_of = Tallies.of(list(tallies), tallies.values(), len(data.class_names()) + 1)  # type: ignore[arg-type]
        curve = all_of.curve()
        free = curve[round(all_of.mask_free() * 100)]
        print(f"| {name} | {curve.max():.1f} | {all_of.oracle():.2f} | {curve[50]:.1f} | {free:.1f} |")


def _halved(maps: Cams) -> Cams:
    height, width = maps.shape[1] // 2, maps.shape[2] // 2
    return maps[:, : 2 * height, : 2 * width].reshape(len(maps), height, 2, width, 2).mean((2, 4), dtype=np.float32)


if __name__ == "__main__":
    main()
