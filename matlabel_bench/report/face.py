"""What most measured cells of a table share: the lines on its face, its warning, and what a cell does otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from matlabel_bench.cells import Cell
from matlabel_bench.report.model import TableInfo

SECONDS = "seconds"
"""The metric of a cell that holds a time; every other is a share in per cent."""
_T = TypeVar("_T", int, str)


class Usual:
    """A table's face. A cell that departs from it says so in a footnote; times have images and classes of their own."""

    def __init__(self, info: TableInfo, cells: Sequence[Cell]) -> None:
        self.info = info
        self.measured = [c for c in cells if c.status == "measured"]
        self.metrics = {c.metric for c in cells if c.status == "measured" or c.published is not None} or {"mIoU"}
        scored = [c for c in self.measured if c.metric != SECONDS]
        self.scored = bool(scored)
        self.images, self.classes, self.seeds = (
            _most((int(getattr(c, name)) for c in scored), 0) for name in ("images", "classes", "seeds")
        )
        self.split = _most((c.split for c in scored if c.split), info.split)

    def face(self) -> list[tuple[str, str]]:
        """Name and text of each line."""
        info = self.info
        used = dict.fromkeys(s for c in self.measured for s in c.supervision.split("+") if s)
        lines = [("dataset", info.dataset), ("split", self.split), ("profile", info.profile)]
        if self.scored:
            lines[2:2] = [("images", str(self.images)), ("classes", f"{self.classes}, background included")]
            lines += [("seeds", str(self.seeds)), ("supervision", ", ".join(used) or "not recorded")]
        return [*lines, ("numbers", "; ".join(self._numbers()))]

    def _numbers(self) -> list[str]:
        shares = sorted(self.metrics - {SECONDS})
        said = [f"{', '.join(shares)} in %, mean over seeds [95 % interval over images]"] if shares else []
        if SECONDS in self.metrics:
            said.append("seconds for the seed of one image of 512 x 512 pixels [least, most of the repeats]")
        return said

    def warning(self) -> str:
        """Why measured and published numbers must not be compared; empty where they may."""
        info = self.info
        if info.synthetic:
            return "SYNTHETIC DATA: not comparable with published numbers"
        if self.scored and info.published_classes and self.classes != info.published_classes:
            return f"class subset ({self.classes} of {info.published_classes} classes): not comparable with published"
        for what, ours, published in (
            ("dataset", info.dataset, info.published_dataset),
            ("split", self.split, info.published_split),
        ):
            if published and ours != published:
                return f"{what} other than published ({published}): not comparable with published numbers"
        return ""

    def oddities(self, cell: Cell) -> list[str]:
        """How a measured cell departs from the face, one text for each way."""
        usual = {"dataset": self.info.dataset, "split": self.split, "profile": self.info.profile}
        if cell.metric == SECONDS:
            del usual["split"]
        out = [f"{what} {getattr(cell, what)}" for what, text in usual.items() if getattr(cell, what) not in ("", text)]
        if cell.metric == SECONDS:
            return out
        if cell.images != self.images:
            out.append(f"over {cell.images} images")
        if cell.classes != self.classes:
            out.append(f"mean over {cell.classes} classes, not {self.classes}: not comparable with the other cells")
        if cell.seeds != self.seeds:
            out.append(f"{cell.seeds} seed{'' if cell.seeds == 1 else 's'}")
        return out


def _most(values: Iterable[_T], otherwise: _T) -> _T:
    """The most frequent value; of several, the one that is `otherwise`, else the largest."""
    counts = Counter(values)
    return max(counts, key=lambda v: (counts[v], v == otherwise, v)) if counts else otherwise
