"""What a report is made of, besides its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from matlabel_bench.cells import ThresholdRule


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table as it is to be printed, and the data its measured numbers come from."""

    name: str
    title: str
    source: str
    """Where the published numbers were printed."""
    dataset: str
    split: str
    profile: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    synthetic: bool = False
    published_note: str = ""
    """On what the published numbers were measured, e.g. `VOC 2012 train, 21 classes`."""
    published_dataset: str = ""
    """Name of that data set here, e.g. `voc12`; empty where unknown."""
    published_split: str = ""
    published_classes: int = 0
    """Background included; 0 where unknown."""
    extensions: tuple[str, ...] = ()
    """Rows that the paper does not have."""
    row_label: str = "method"
    form: str = "table"
    """What is drawn besides: `line` (first column over rows), `grid` (rows by columns), or `pictures`."""


@dataclass(frozen=True, slots=True)
class Repairs:
    """What the matting of a row met: trimaps (one an image and class; none where it takes maps), how many of them had
    to be repaired, and how often the solver gave up and the map stood in for its alpha."""

    trimaps: int
    repaired: int
    fallbacks: int

    def __str__(self) -> str:
        return f"{f'{self.repaired} of {self.trimaps}' if self.trimaps else 'none'} / {self.fallbacks}"


@dataclass(frozen=True, slots=True)
class StageScore:
    """mIoU of a row after one of its stages (per cent)."""

    row: str
    stage: str
    value: float
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    threshold_rule: ThresholdRule = "none"


@dataclass(frozen=True, slots=True)
class Curve:
    """mIoU of a row's seed at the thresholds 0.00, 0.01, ... (per cent), and the thresholds that rules chose."""

    row: str
    values: tuple[float, ...]
    chosen: Mapping[ThresholdRule, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClassScores:
    """IoU of each class in one cell (per cent), background first; nan where the class does not occur."""

    row: str
    column: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RowDifference:
    """`row_a` minus `row_b` in one column: paired over images, with its 95 % interval."""

    row_a: str
    row_b: str
    column: str
    difference: float
    low: float
    high: float
    classes: int = 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """An image that a rule chose, with its own mIoU (per cent) in the two rows that the rule compares."""

    id: str
    before: float
    after: float
    shown: str = ""
    """The class whose maps, trimap and alpha are drawn; empty for an image without one."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures that were drawn, and how their images were chosen."""

    before: str
    after: str
    rule: str
    """A sentence."""
    chosen: tuple[Chosen, ...]
    file: str = "figure.png"
    """Its name in the table's folder."""


@dataclass(frozen=True, slots=True)
class Extras:
    """What a report tells beyond its table. Everything may be absent."""

    differences: tuple[RowDifference, ...] = ()
    stages: tuple[StageScore, ...] = ()
    curves: tuple[Curve, ...] = ()
    class_names: tuple[str, ...] = ()
    """Background first."""
    classes: tuple[ClassScores, ...] = ()
    repairs: Mapping[str, Repairs] = field(default_factory=dict)
    """By row; rows without matting are absent."""
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By row: what its parts have to say, printed as footnotes of the row."""
    gallery: Gallery | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    """Written as record.json: JSON values only."""
