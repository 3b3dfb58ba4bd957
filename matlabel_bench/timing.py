"""How long the seed of one image takes: column "Time (s)" of the supplement's Table 6."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from matlabel_bench import fields
from matlabel_bench.errors import MattingFailed
from matlabel_bench.handover import Inputs
from matlabel_bench.images import enlarge, resize_image
from matlabel_bench.spec import runs_on, takes_maps
from matlabel_bench.trimap import make_trimap
from matlabel_bench.types import Sample

SIDE = 512
"""Pixels of the square image the paper times."""
REPEATS = 3
"""Times that it is gone through for the record, after once for warming up."""


@dataclass(frozen=True)
class Pipeline:
    """What is timed together: a generator of maps and, where there is a matting, the trimap and the alpha."""

    cam: Any
    trimap: Any
    matting: Any | None
    size: int = SIDE

    @property
    def runs_on(self) -> str:
        """A device of its parts other than the processor, where there is one."""
        return runs_on(self.cam, self.matting)

    def key(self) -> dict[str, Any]:
        """The fields of its parts, for the cache key."""
        parts = {"cam": self.cam, "trimap": self.trimap, "matting": self.matting}
        known = {n: (getattr(p, "version", 1), fields.key_fields(p)) for n, p in parts.items() if p is not None}
        return {n: {"version": v, "fields": f} for n, (v, f) in known.items()} | {"size": self.size}


def seed_seconds(pipeline: Pipeline, inputs: Inputs, sample: Sample) -> dict[str, Any]:
    """Seconds from the image, resized to size x size, to its maps at that size, or to its alphas: one a repeat."""
    tags = sample.tag_array()
    image = resize_image(sample.read(), (pipeline.size, pipeline.size))
    cam = pipeline.cam.open(inputs.fit)
    matting = pipeline.matting.open(inputs.matting) if pipeline.matting else None
    more = [sample.id] if getattr(pipeline.cam, "wants_id", False) else []

    def once() -> float:
        start = time.perf_counter()
        maps = enlarge(cam(image, tags, *more), image.shape[:2])
        if matting is not None:
            with suppress(MattingFailed):  # the map stands in for the alpha; the time was spent all the same
                soft = takes_maps(pipeline.matting)
                matting(image, maps if soft else make_trimap(maps, pipeline.trimap)[0])
        return time.perf_counter() - start

    once()
    return {"seconds": [once() for _ in range(REPEATS)], "classes": len(tags), "image": sample.id}
