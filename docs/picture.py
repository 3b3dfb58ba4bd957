"""Draws docs/picture.png from the store of a finished `bench run table1`: `python docs/picture.py [STORE]`.

Three images, not picked by hand: those whose Mat-Label pseudo-label (after the CRF, threshold without masks) stands at
the quartiles of pixel accuracy over the split. Of each, the first tag's class is drawn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from matlabel_bench import config, handover, plan, planes
from matlabel_bench.images import enlarge, read_label
from matlabel_bench.measure import tallies
from matlabel_bench.report import pictures
from matlabel_bench.types import Sample

OUT = Path(__file__).resolve().parent / "picture.png"
ROW, COLUMN, PLAIN = "Mat-Label (ours)", "w/ CRF (mask-free)", "CAM"
TITLES = ("image", "CAM", "D2CAM", "trimap", "alpha", "pseudo-label", "mask")


def main(store: str) -> None:
    experiment = config.resolve(["table1"], config.Options(store=Path(store)))
    planned = plan.make(experiment)
    cell = next(c for c in planned.cells if (c.row.name, c.column.name) == (ROW, COLUMN))
    plain = next(c for c in planned.cells if c.row.name == PLAIN)
    jobs = {j.stage: j for j in cell.scores[0].upstream()}
    files = {stage: planned.slot(job).files for stage, job in jobs.items()}
    plain_maps = next(planned.slot(j).files for j in plain.scores[0].upstream() if j.stage == "maps")
    confusions = tallies(planned, cell.scores[0]).confusions()
    accuracy = np.trace(confusions, axis1=1, axis2=2) / confusions.sum(axis=(1, 2))
    order = np.argsort(accuracy, kind="stable")
    split = jobs["maps"].split
    masks = experiment.dataset.masks(split.name)
    lines = []
    for share in (0.75, 0.5, 0.25):
        at = int(order[int(share * (len(order) - 1))])
        sample = split.samples[at]
        labels = [read_label(handover.output("refine", files["refine"], sample.id), 254), masks(sample.id)]
        line = pictures.stages(
            sample.read(),
            _map(files["maps"], sample),
            planes.read_planes(handover.output("trimap", files["trimap"], sample.id))[0][0],
            planes.read_planes(handover.output("alpha", files["alpha"], sample.id))[0][0] / 255,
            labels,
            f"{sample.id}, pixel accuracy {100 * accuracy[at]:.0f} % (quantile {share:g})",
        )
        cam = pictures.heat(_map(plain_maps, sample), sample.read())
        lines.append(pictures.Line((line.panels[0], cam, *line.panels[1:]), line.caption))
    pictures.grid(lines, TITLES, OUT)


def _map(folder: Path, sample: Sample) -> np.ndarray:
    with np.load(handover.output("maps", folder, sample.id), allow_pickle=False) as data:
        return enlarge(data["cams"].astype(np.float32), tuple(data["size"]))[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", default="bench-store")
    main(parser.parse_args().store)
