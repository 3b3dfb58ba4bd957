"""How the trainings behind a table went: what each said at its steps, as one CSV file and one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matlabel_bench import metrics
from matlabel_bench.errors import DataError
from matlabel_bench.jobs import Job
from matlabel_bench.plan import Plan
from matlabel_bench.recipe import LOG

if TYPE_CHECKING:
    import pandas as pd

WIDTH, HEIGHT, COLUMNS = 4.2, 2.6, 3
"""Of a panel, inches; panels side by side."""
SMOOTH = 50
"""A line is the running mean over this part of the steps."""


def trainings(plan: Plan, table: str) -> dict[str, Job]:
    """The trainings behind a table's cells by a name: the first row that needs it, the part, the seed."""
    found: dict[str, Job] = {}
    seen: set[str] = set()
    for cell in plan.cells:
        for job in (j for last in cell.jobs for j in last.upstream() if cell.table.name == table):
            if job.stage == "fit" and job.key not in seen:
                seen.add(job.key)
                found[f"{cell.row.name}: {job.name}, seed {job.seed}"] = job
    return found


def gather(plan: Plan, table: str) -> pd.DataFrame:
    """training, step, metric, value of all trainings of a table, also of those under way.

    Raises:
        DataError: none of them has said anything yet.
    """
    import pandas as pd

    frames = []
    for name, job in trainings(plan, table).items():
        for folder in (plan.slot(job).files / LOG, *sorted(plan.slot(job).files.glob(f"*/{LOG}"))):
            told = metrics.read(folder).reset_index()
            if len(told):
                stage = "" if folder.parent == plan.slot(job).files else f" ({folder.parent.name})"
                lines = told.melt("step", var_name="metric", value_name="value").dropna()
                frames.append(lines.assign(training=name + stage))
    if not frames:
        raise DataError(
            f"metrics of the trainings of {table}", "none in the store", "run the table first, with the same options"
        )
    return pd.concat(frames)[["training", "step", "metric", "value"]]


def draw(lines: pd.DataFrame, path: Path) -> None:
    """A panel a metric, a line a training, smoothed over a fiftieth of its steps; PNG."""
    from matplotlib.figure import Figure

    names = sorted(lines["metric"].unique(), key=lambda n: (not n.startswith("loss"), n))
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(WIDTH * COLUMNS, HEIGHT * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    # of each training in all panels, also in those that others have no line in
    colours = {training: f"C{i % 10}" for i, training in enumerate(lines["training"].unique())}
    for at, name in zip(axes, names, strict=False):
        for training, one in lines[lines["metric"] == name].groupby("training", sort=False):
            one = one.sort_values("step")
            mean = one["value"].rolling(max(1, len(one) // SMOOTH), min_periods=1).mean()
            at.plot(one["step"], mean, linewidth=1, label=training, color=colours[training])
        at.set_title(name, fontsize=9)
        at.tick_params(labelsize=7)
    for spare in axes[len(names) :]:
        spare.set_visible(False)
    handles = {label: handle for at in axes for handle, label in zip(*at.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower left", ncols=COLUMNS, fontsize=7)
    figure.savefig(path, dpi=100)
