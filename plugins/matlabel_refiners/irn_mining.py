"""Labels that IRN learns from: certain foreground, certain background, and 255 between them.

Compared with jiwoon-ahn/irn at a2ece00 (MIT), step/cam_to_ir_label.py: maps against a high and a low background plane,
a dense CRF on either label (`crf.py`, whose defaults are IRN's). A pixel is of a class where the high plane says so,
background where neither plane says otherwise, and ignored elsewhere. An image without tags is all background: there is
nothing for a CRF to decide.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from matlabel_bench.errors import DataError
from matlabel_bench.handover import output
from matlabel_bench.images import write_label
from matlabel_bench.label import make_label, make_scores
from matlabel_bench.progress import Progress, report
from matlabel_bench.recipe import ranks
from matlabel_bench.types import IGNORE, Cams, Image, Label, Sample, Scores, Split, Tags
from matlabel_bench.workers import Workers
from matlabel_refiners.crf import Crf

Refine = Callable[[Image, Tags, Scores], Scores]


def mine(image: Image, tags: Tags, maps: Cams, high: float, low: float, crf: Refine) -> Label:
    """The label of one image, uint8 h w of 0, the tags and 255.

    Args:
        maps: float32 k h w in [0, 1].
        high, low: values of the background plane for certain foreground and certain background.

    Raises:
        ContractError: maps of another shape, type or range.
    """
    if not len(tags):
        return np.zeros(image.shape[:2], np.uint8)
    high_label, low_label = (make_label(crf(image, tags, make_scores(maps, conf)), tags) for conf in (high, low))
    label: Label = np.where(high_label > 0, high_label, np.where(low_label == 0, 0, IGNORE)).astype(np.uint8)
    return label


def label_file(folder: Path, image: str) -> Path:
    """Where the mined label of an image lies; ids may hold any character."""
    return output("label", folder, image)


def mine_split(train: Split, maps: Mapping[str, Cams], folder: Path, high: float, low: float, out: Path) -> None:
    """Mine the labels of all images that have none yet in `folder`, over as many processes as threads are given.

    Progress goes to `out`. Processes of torch's launcher begin at different images and leave out what others wrote.

    Raises:
        DataError: an image or its maps are missing.
        UsageError: pydensecrf is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rank, world = ranks()
    first = len(train) * rank // world
    order = train.samples[first:] + train.samples[:first]
    missing = [sample for sample in order if not label_file(folder, sample.id).is_file()]
    done, total = len(train) - len(missing), len(train)
    work = partial(_mine_chunk, maps, folder, high, low)
    for count in Workers(int(os.environ.get("OMP_NUM_THREADS", "1"))).map(work, missing):
        done += count
        if rank == 0:
            report(out, Progress(done, total, "image", "labels to learn from"))


def _mine_chunk(maps: Mapping[str, Cams], folder: Path, high: float, low: float, samples: Sequence[Sample]) -> int:
    crf = _crf()
    for sample in samples:
        path = label_file(folder, sample.id)
        if not path.is_file():
            image, tags = sample.read(), sample.tag_array()
            write_label(path, mine(image, tags, _maps_of(maps, sample), high, low, crf))
    return len(samples)


def _maps_of(maps: Mapping[str, Cams], sample: Sample) -> Cams:
    try:
        return maps[sample.id]
    except KeyError as err:
        raise DataError(
            f"the maps of image {sample.id}", "none", "give the maps of every image of the split to fit"
        ) from err


@lru_cache(maxsize=1)
def _crf() -> Refine:
    return Crf().open(None)
