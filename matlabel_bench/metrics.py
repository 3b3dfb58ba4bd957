"""What a training said at each of its steps, as a CSV file that can be read while it runs."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from matlabel_bench.files import write_text

if TYPE_CHECKING:
    import pandas as pd

NAME = "metrics.csv"
HEADER = ("step", "metric", "value")


class Metrics:
    """Appends lines of step, metric and value to `folder`/metrics.csv.

    A step is a batch here, counted from 1; where a recipe accumulates, several make one of the optimizer's.

    Args:
        done: batches that an earlier call has finished; what was written of later ones is dropped, because they will
            come again.
    """

    def __init__(self, folder: Path, done: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        lines = self.path.read_text(encoding="utf-8").splitlines() if done and self.path.is_file() else []
        kept = [line for line in lines[1:] if (step := line.partition(",")[0]).isdigit() and int(step) <= done]
        write_text(self.path, "\n".join([",".join(HEADER), *kept]) + "\n")

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One batch's values, at once on the disk."""
        with self.path.open("a", encoding="utf-8", newline="") as handle:
            csv.writer(handle, lineterminator="\n").writerows((step, name, f"{v:.6g}") for name, v in values.items())


def read(folder: Path) -> pd.DataFrame:
    """The metrics in a folder: a line a step, a column a metric; empty where there are none. nan: not said then."""
    import pandas as pd

    try:
        lines = pd.read_csv(folder / NAME)
    except FileNotFoundError:
        return pd.DataFrame()
    return lines.pivot_table(index="step", columns="metric", values="value", aggfunc="last")
