"""What the paper's settings cost: memory, one stage and image at a time, and disk, for data sets of the real sizes.

    python docs/paper_scale.py memory       peak resident memory; five minutes on an idle core
    python docs/paper_scale.py disk         what `bench plan --profile paper` forecasts; minutes, most of them COCO's

Either prints a Markdown table and writes it, as CSV, into reports/paper-scale, with a record of the machine. `memory`
runs each stage in a process of its own, on one thread, with what bench's workers tell the C library about memory.
Weights are random: nothing is downloaded, and no stage's memory depends on them. Maps, where a stage starts from some,
are two blobs, because random networks give none worth matting.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import paper_scale_layouts as layouts
import paper_scale_stages as stages

from matlabel_bench.record import environment
from matlabel_bench.workers import pin_threads

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "reports" / "paper-scale"
PATIENCE = 240
"""Seconds after which a stage is given up, and named."""
PLANS = {
    "voc12": (("table1",), ("all",)),
    "coco14": (("table3",), ("table1", "table2", "table3")),
}
"""Table 3 is the paper's only table of COCO; the others are planned there, too, because the benchmark can."""
ROW = (
    r"^\s*(?P<stage>\w+).*\s(?P<images>\d+) (?:to do|begun|done)\s+(?P<seconds>[\d.]+)\s+(?P<megabytes>[\d.]+) \w{12}$"
)


def memory(only: str) -> int:
    """Every stage in a process of its own, one after the other."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        _child(["prepare", folder])
        for number, case in enumerate(stages.CASES):
            if only in f"{case.stage} {case.part} {case.setting}":
                started = time.monotonic()
                peak, added, *rest = _child(["one", folder, str(number)])
                took = f"{time.monotonic() - started:.0f} s, {' '.join(rest)} s of a core"
                print(f"{case.stage} {case.part}, {case.setting}: {peak} {added}; {took}", file=sys.stderr)
                rows.append([case.stage, case.part, case.setting, peak, added])
    heads = ["stage", "part", "setting", "peak MB", "of which after imports"]
    print(markdown(heads, rows))
    if not only:
        write("memory", [h.replace(" ", "_") for h in heads], rows)
    return 0


def _child(words: Sequence[str]) -> list[str]:
    """What a process of this script prints, as words; dashes where it fails or takes too long."""
    command = [sys.executable, __file__, *words]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return ["—", "—"]
    lines = done.stdout.splitlines()  # libraries print, too: the last line is ours
    return lines[-1].split() if done.returncode == 0 and lines else ["—", "—"]


def markdown(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, texts to the left and numbers to the right."""
    cells = [[str(v) for v in row] for row in rows]
    right = [all(row[at].replace(".", "").isdigit() for row in cells) for at in range(len(heads))]
    lines = [" | ".join(heads), "|".join("---:" if r else "---" for r in right), *(" | ".join(row) for row in cells)]
    return "\n".join(f"|{line}|" if "---" in line else f"| {line} |" for line in lines)


def write(name: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """reports/paper-scale/NAME.csv, and what it was made with in record.json."""
    REPORT.mkdir(parents=True, exist_ok=True)
    with (REPORT / f"{name}.csv").open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([heads, *rows])
    path = REPORT / "record.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    record[f"{name}.csv"] = {"command": f"python docs/paper_scale.py {name}", "environment": environment()}
    path.write_text(json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def disk(folder: Path) -> int:
    """What plans over data sets of the real sizes forecast, summed by stage. What `folder` holds is taken as it is."""
    rows = []
    for dataset, plans in PLANS.items():
        make = {"voc12": layouts.voc, "coco14": layouts.coco}[dataset]
        root = folder / make.__name__
        if not root.is_dir():
            make(root)
        for tables in plans:
            started = time.monotonic()
            rows += [[dataset, " ".join(tables), *row] for row in _sums(_plan(tables, dataset, root, folder))]
            took = time.monotonic() - started
            print(f"{dataset}, {' '.join(tables)}: planned in {took:.0f} s", file=sys.stderr)
    heads = ["data set", "tables", "stage", "jobs", "images", "GB", "hours of a core"]
    print(markdown(heads, rows), flush=True)
    write("disk", [h.replace(" ", "_") for h in heads], rows)
    return 0


def _plan(tables: Sequence[str], dataset: str, root: Path, folder: Path) -> str:
    """What `bench plan` prints."""
    words = ["--profile", "paper", "--dataset", dataset, "--data-root", str(root), "--store", str(folder / "store")]
    command = [sys.executable, "-m", "matlabel_bench", "plan", *tables, *words]
    own = os.environ | {"MATLABEL_BENCH_CACHE": str(folder / "cache")}
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=own).stdout


def _sums(text: str) -> list[list[object]]:
    """Jobs, images, gigabytes and hours of each stage in the order they come, and of all."""
    sums: dict[str, list[float]] = {}
    for line in text.splitlines():
        if found := re.match(ROW, line):
            one = [1, int(found["images"]), float(found["megabytes"]) / 1000, float(found["seconds"]) / 3600]
            for name in (found["stage"], "all"):
                sums[name] = [a + b for a, b in zip(sums.get(name, [0.0] * 4), one, strict=True)]
    whole = sums.pop("all")
    rows = [*sums.items(), ("all", whole)]
    return [[name, int(jobs), int(images), f"{gb:.1f}", f"{hours:.0f}"] for name, (jobs, images, gb, hours) in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("memory").add_argument("--only", default="", help="cases with this text; writes no report")
    kept = "folder to leave the data sets in, for another call; else they are removed, which takes minutes"
    commands.add_parser("disk").add_argument("--folder", type=Path, help=kept)
    commands.add_parser("prepare").add_argument("folder", type=Path)
    one = commands.add_parser("one")
    one.add_argument("folder", type=Path)
    one.add_argument("number", type=int)
    args = parser.parse_args()
    pin_threads()
    if args.command == "memory":
        return memory(args.only)
    if args.command == "disk":
        if args.folder:
            return disk(args.folder.absolute())
        with tempfile.TemporaryDirectory() as folder:
            return disk(Path(folder))
    if args.command == "prepare":
        stages.prepare(args.folder)
    else:
        print(*stages.measure(stages.CASES[args.number], args.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
