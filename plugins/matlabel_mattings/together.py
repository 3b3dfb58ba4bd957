"""A live matting that solves several images at once, and so one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matlabel_bench.errors import MattingFailed
from matlabel_bench.types import Alpha, Image

AT_ONCE = 16
"""Images: on an H200 eight of 512 x 512 pixels take twice as long as one (docs/speed.md)."""


@dataclass(frozen=True, slots=True)
class Together:
    """The live function with its attribute `many` (matlabel_bench/spec.py)."""

    many: Callable[[Sequence[Image], Sequence[Any]], list[Alpha | MattingFailed]]

    def __call__(self, image: Image, given: Any) -> Alpha:
        """Alpha of a trimap, or of maps; raises MattingFailed."""
        (alpha,) = self.many([image], [given])
        if isinstance(alpha, MattingFailed):
            raise alpha
        return alpha
