"""From cells to tables a person can read: one pandas frame, then CSV, Markdown, LaTeX and HTML from it."""

from __future__ import annotations

from matlabel_bench.report.model import (
    Chosen,
    ClassScores,
    Curve,
    Extras,
    Gallery,
    Repairs,
    RowDifference,
    StageScore,
    TableInfo,
)
from matlabel_bench.report.write import index, write

__all__ = [
    "Chosen",
    "ClassScores",
    "Curve",
    "Extras",
    "Gallery",
    "Repairs",
    "RowDifference",
    "StageScore",
    "TableInfo",
    "index",
    "write",
]
