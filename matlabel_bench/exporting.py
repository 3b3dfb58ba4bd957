"""Masks of a split without masks of its own, laid out as the PASCAL VOC test server wants them.

    OUT/TABLE/test-server/ROW/COLUMN/SEED/results/VOC2012/Segmentation/comp6_test_cls/ID.png

`comp6`: trained on anything but the test images, which holds for networks that began with ImageNet's weights. Pack the
folder `results` with tar and upload it. Values are class ids in a palette PNG; 255 never occurs.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from matlabel_bench.handover import output
from matlabel_bench.plan import CellPlan, Plan

INSIDE = Path("results/VOC2012/Segmentation/comp6_test_cls")


def test_server(plan: Plan, cell: CellPlan, folder: Path) -> list[Path]:
    """Write the files of a cell that only a test server can score; the folders written, one a seed."""
    if cell.scores or not cell.files:
        return []
    row = _folders([r.name for r in cell.table.rows])[cell.row.name]
    column = _folders([c.name for c in cell.table.columns])[cell.column.name]
    written = []
    for job in cell.files:
        if not plan.slot(job).done:
            continue
        target = folder / "test-server" / row / column / f"{job.inputs['fit'].seed}"
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        (part / INSIDE).mkdir(parents=True)
        for sample in job.split:
            source = output("segment", plan.slot(job).files, sample.id)
            shutil.copyfile(source, part / INSIDE / source.name)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        written.append(target)
    return written


def _folders(names: Sequence[str]) -> dict[str, str]:
    """A folder's name for each row or column; where several would have one name, the later ones get a number."""
    words = [re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "unnamed" for name in names]
    return {n: w if words.index(w) == i else f"{w}-{i + 1}" for i, (n, w) in enumerate(zip(names, words, strict=True))}
