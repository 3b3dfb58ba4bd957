"""Built-in data sets: embedded scenes, PASCAL VOC 2012, and a folder of one's own images."""

from __future__ import annotations

from matlabel_bench.registry import Registry
from matlabel_bench.spec import hookimpl
from matlabel_datasets.shapes import Shapes


@hookimpl
def matlabel_register(registry: Registry) -> None:
    """Register the data sets of this package."""
    registry.add("dataset", "shapes", Shapes)
