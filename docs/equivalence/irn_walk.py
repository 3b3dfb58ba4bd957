"""Time and memory of IRN's random walk, dense as the reference computes it and sparse as we do, side by side.

    git clone https://github.com/jiwoon-ahn/irn && git -C irn checkout a2ece00
    python docs/equivalence/irn_walk.py --reference irn

Each way runs in a process of its own, on one thread, the dense one in single precision. Time is that of computing,
which other work on the machine does not lengthen; memory is the largest resident set during the walk, less what was
held before (Linux). The reference squares its matrix eight times. Where that would take long, --share says for how much
of the rows of one squaring it is carried out; the row says so, and the time of all is reckoned.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"375x500": (94, 125), "640x640": (160, 160)}
"""Images, and their grids of a quarter."""
CLASSES, RADIUS, BETA, SQUARINGS = 2, 5, 10, 8


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Boundaries, few of them strong, and maps; the same in every process."""
    rng = np.random.default_rng(0)
    boundary = (rng.random((height, width)) ** 4).astype(np.float32)
    return boundary, rng.random((CLASSES, height, width)).astype(np.float32)


def sparse(size: tuple[int, int], out: Path) -> dict[str, float]:
    """Our walk."""
    from scipy import sparse as _loaded  # noqa: F401 - its import is no part of the walk

    from matlabel_refiners.irn_walk import walk

    boundary, maps = scene(*size)
    told: dict[str, float] = {}
    with watched(told):
        walked = walk(boundary, maps, RADIUS, BETA, 2**SQUARINGS)
    np.save(out, walked)
    return told


def dense(size: tuple[int, int], out: Path, share: float, checkout: Path) -> dict[str, float]:
    """The reference's walk, with its own functions; from part of a squaring the seconds of all eight are reckoned."""
    import torch
    from irn_reference import reference

    torch.set_num_threads(1)
    indexing: Any = reference(checkout).indexing
    boundary, maps = (torch.from_numpy(v) for v in scene(*size))
    multiply, squaring = torch.matmul, 0.0

    def first_rows(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        nonlocal squaring
        if len(one) == len(maps):
            return multiply(one, other)
        product, rows = torch.ones_like(other), round(share * len(one))
        begin = time.process_time()
        product[:rows] = multiply(one[:rows], other)
        squaring = time.process_time() - begin
        return product

    if share < 1:
        indexing.torch.matmul = first_rows
    told: dict[str, float] = {}
    with watched(told):
        times = SQUARINGS if share == 1 else 1
        walked = indexing.propagate_to_edge(maps, boundary[None], radius=RADIUS, beta=BETA, exp_times=times)
    np.save(out, walked[:, 0].numpy())
    return told | {"seconds": told["seconds"] + (SQUARINGS / share - 1) * squaring}


def resident(which: str) -> int:
    """Bytes that this process holds in memory (VmRSS), or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(which))


@contextlib.contextmanager
def watched(told: dict[str, float]) -> Iterator[None]:
    """Seconds of computing and peak of memory of what is done inside."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start = resident("VmRSS"), time.process_time()
    yield
    told |= {"seconds": time.process_time() - start, "bytes": resident("VmHWM") - before}


def measured(way: str, name: str, out: Path, share: float, checkout: Path) -> dict[str, float]:
    """One way in a process of its own."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-W", "ignore", __file__, "--reference", str(checkout), "--share", str(share)]
    done = subprocess.run(
        [*command, "--only", way, name, str(out)],
        env=os.environ | threads,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def row(name: str, share: float, checkout: Path, folder: Path) -> str:
    """Both ways for one size of image, as a row of a table."""
    files = folder / f"{name}-dense.npy", folder / f"{name}-sparse.npy"
    theirs, ours = (
        measured(way, name, file, share, checkout) for way, file in zip(("dense", "sparse"), files, strict=True)
    )
    apart = "not compared"
    if share == 1:
        wanted, found = (np.load(file) for file in files)
        apart = f"{np.abs(found - wanted).max() / wanted.max():.1e}"
    note = "" if share == 1 else f" (reckoned from {share:.0%} of one of {SQUARINGS} squarings)"
    cells = SIZES[name][0] * SIZES[name][1]
    return (
        f"| {name} | {cells:,} | {theirs['seconds']:,.0f} s{note} | {theirs['bytes'] / 2**30:.2f} GiB "
        f"| {ours['seconds']:.2f} s | {ours['bytes'] / 2**20:.0f} MiB | {apart} |"
    )


def main() -> None:
    """Print the table, or, in a process of its own, one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of irn at a2ece00")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--share", type=float, default=1.0, help="of one squaring; 1 carries out all eight")
    parser.add_argument("--only", nargs=3, metavar=("WAY", "SIZE", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        way, name, file = given.only
        size, out = SIZES[name], Path(file)
        told = sparse(size, out) if way == "sparse" else dense(size, out, given.share, given.reference)
        print(json.dumps(told))
        return
    print("| image | cells | dense: time | dense: memory | sparse: time | sparse: memory | largest difference |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.sizes:
            print(row(name, given.share, given.reference, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
