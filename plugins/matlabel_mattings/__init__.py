"""Built-in mattings: those of the supplement's Table 1, four hand-crafted and a learned one; one without a trimap."""

from __future__ import annotations

from matlabel_bench.registry import Registry
from matlabel_bench.spec import hookimpl
from matlabel_mattings.closed_form import ClosedForm
from matlabel_mattings.knn import Knn
from matlabel_mattings.lbdm import Lbdm
from matlabel_mattings.matteformer import MatteFormer
from matlabel_mattings.prior_knn import PriorKnn
from matlabel_mattings.random_walk import RandomWalk


@hookimpl
def matlabel_register(registry: Registry) -> None:
    """Register the mattings of this package."""
    for name, cls in (("knn", Knn), ("closed_form", ClosedForm), ("lbdm", Lbdm), ("random_walk", RandomWalk)):
        registry.add("matting", name, cls)
    registry.add("matting", "matteformer", MatteFormer)
    registry.add("matting", "prior_knn", PriorKnn)
