"""Built-in generators of class activation maps."""

from __future__ import annotations

from matlabel_bench.registry import Registry
from matlabel_bench.spec import hookimpl
from matlabel_cams.cam import Cam
from matlabel_cams.d2cam import D2Cam
from matlabel_cams.eq_d2cam import EqD2Cam
from matlabel_cams.imported import Imported
from matlabel_cams.recam import ReCam


@hookimpl
def matlabel_register(registry: Registry) -> None:
    """Register the generators of this package."""
    registry.add("cam", "cam", Cam)
    registry.add("cam", "d2cam", D2Cam)
    registry.add("cam", "eq_d2cam", EqD2Cam)
    registry.add("cam", "recam", ReCam)
    registry.add("cam", "imported", Imported)
