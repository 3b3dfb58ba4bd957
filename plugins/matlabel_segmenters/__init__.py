"""Built-in segmenters."""

from __future__ import annotations

from matlabel_bench.registry import Registry
from matlabel_bench.spec import hookimpl


@hookimpl
def matlabel_register(registry: Registry) -> None:
    """Register the segmenters of this package."""
