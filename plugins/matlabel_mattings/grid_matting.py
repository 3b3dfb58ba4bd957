"""What the mattings with a native grid solver share before it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matlabel_bench.errors import UsageError
from matlabel_mattings import through_pymatting


def check_radius(part: str, backend: str, radius: int) -> None:
    """Raises UsageError where the native solver is asked for windows other than 3 x 3."""
    if backend == "native" and radius != 1:
        raise UsageError(f"{part}.radius=1 with {part}.backend=native", str(radius), "set backend=pymatting")


def load(name: str) -> Callable[..., Any]:
    """A function of grid_native, ready to be called. The first use on a machine compiles, which is said on stderr.

    Raises:
        UsageError: there is no folder to keep what was compiled.
    """
    with through_pymatting.compiling(f"{name} matting"):
        from matlabel_mattings import grid_native

        grid_native.warm(name)
    function: Callable[..., Any] = getattr(grid_native, name)
    return function
