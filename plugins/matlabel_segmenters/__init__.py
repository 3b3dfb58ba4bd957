"""Built-in segmenters."""

from __future__ import annotations

from matlabel_bench.registry import Registry
from matlabel_bench.spec import hookimpl
from matlabel_segmenters.deeplab_v2 import DeepLabV2


@hookimpl
def matlabel_register(registry: Registry) -> None:
    """Register the segmenters of this package."""
    registry.add("segmenter", "deeplab_v2", DeepLabV2)
