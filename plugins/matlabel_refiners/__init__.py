"""Built-in refiners: the dense CRF, IRN, saliency."""

from __future__ import annotations

from matlabel_bench.registry import Registry
from matlabel_bench.spec import hookimpl
from matlabel_refiners.crf import Crf
from matlabel_refiners.irn import Irn
from matlabel_refiners.saliency import Saliency


@hookimpl
def matlabel_register(registry: Registry) -> None:
    """Register the refiners of this package."""
    registry.add("refiner", "crf", Crf)
    registry.add("refiner", "irn", Irn)
    registry.add("refiner", "saliency", Saliency)
