"""Maps drawn in bfloat16 beside those in float32: CPU seconds an image, and how many pixels get another label.

    bench run TABLE ... --store DIR
    OMP_NUM_THREADS=1 python docs/half_maps.py TABLE --profile light --dataset voc12-animals --data-root DIR \\
        --weights FILE --store DIR --images 24

Takes the trained generators of the table's first seed from a store. Both arithmetics have each image in turn; the sums
over scales are in float32. Labels are those of maps at a threshold of 0.3 and of 0.5. One Markdown row a generator.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from matlabel_bench import config, plan
from matlabel_bench.images import enlarge
from matlabel_bench.label import make_label, make_scores
from matlabel_cams import scales

THRESHOLDS = (0.3, 0.5)


class Half:
    """Stands in for `scales.at_scales`, and draws in bfloat16 while it is on."""

    def __init__(self) -> None:
        self.draw, self.on = scales.at_scales, False

    def __call__(self, image: Any, maps: Callable[[torch.Tensor], torch.Tensor], **settings: Any) -> torch.Tensor:
        def drawn(batch: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.on):
                return maps(batch).float()

        return self.draw(image, drawn, **settings)


def compared(job: Any, folder: Path, half: Half, count: int) -> str:
    """A row: seconds in float32 and bfloat16, and of pixels with another label the share at each threshold."""
    live = job.part.open(folder)
    seconds, apart, other = np.zeros(2), [], []
    for sample in [s for s in job.split if s.tags][:count]:
        image, tags, found = sample.read(), sample.tag_array(), []
        for half.on in (False, True):
            start = time.process_time()
            maps = live(image, tags)
            seconds[int(half.on)] += time.process_time() - start
            found.append(enlarge(maps, image.shape[:2]))
        apart.append(np.abs(found[0] - found[1]).max())
        labels = [[make_label(make_scores(maps, threshold), tags) for maps in found] for threshold in THRESHOLDS]
        other.append([(first != second).mean() for first, second in labels])
    shares = " | ".join(f"{100 * share:.2f} %" for share in np.mean(other, axis=0))
    each = seconds / len(apart)
    return f"| {job.name} | {each[0]:.2f} | {each[1]:.2f} | {shares} | {np.median(apart):.3f} ({max(apart):.3f}) |"


def main() -> None:
    """Print a row for each generator of the table that is in the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--profile", required=True)
    parser.add_argument("--dataset")
    parser.add_argument("--data-root")
    parser.add_argument("--weights")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--images", type=int, default=24)
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = config.Options(
        profile=given.profile, dataset=given.dataset, data_root=given.data_root, weights=given.weights,
        store=given.store, seeds=(0,),
    )  # fmt: skip
    planned, half = plan.make(config.resolve([given.table], options)), Half()
    scales.at_scales = half  # type: ignore[assignment]
    for job in planned.jobs.values():
        if job.stage == "maps" and planned.slot(job.inputs["fit"]).done:
            print(compared(job, planned.slot(job.inputs["fit"]).files, half, given.images), flush=True)


if __name__ == "__main__":
    main()
