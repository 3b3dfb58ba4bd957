"""How near the native mattings are to what a core of this machine can do: a Markdown row for each stage of a solve.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python docs/bounds.py --images DIR --out reports/bounds

Photographs at 512 x 512, the trimap of one class that `bench perf` cuts. Seconds are CPU time, the least of five calls
on each photograph, summed over photographs; the work is counted from what is solved. The core's own rates are those of
a product of two float32 matrices of 1024 x 1024 (BLAS), and of copying 256 MB (bytes read and bytes written).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from matlabel_bench import record
from matlabel_bench.perf.plan import Bench, PerfOptions
from matlabel_bench.types import FOREGROUND, UNKNOWN
from matlabel_mattings import grid_native, grid_stencils, grid_system, kdtree, knn_graph, knn_native, neighbours
from matlabel_mattings.dissection import dissect
from matlabel_mattings.multifrontal import factorise

SIZE, CALLS = (512, 512), 5
COUNTS, SPREADS = (20, 10), (2.0, 0.1)


class Book:
    """Seconds and work of each stage, over photographs."""

    def __init__(self) -> None:
        self.seconds, self.work = defaultdict[str, float](float), defaultdict[str, float](float)
        self.unit: dict[str, str] = {}

    def time(self, name: str, unit: str, call: Callable[[], Any], work: Callable[[Any], float]) -> Any:
        """The result of a stage, whose work is in `unit`."""
        least = np.inf
        for _ in range(CALLS):
            start = time.process_time()
            result = call()
            least = min(least, time.process_time() - start)
        self.seconds[name] += least
        self.work[name] += work(result)
        self.unit[name] = unit
        return result


def rates() -> dict[str, float]:
    """What the core does: flops and bytes a second."""
    book, rng = Book(), np.random.default_rng(0)
    a, b = rng.random((2, 1024, 1024), np.float32)
    source = rng.random(32 << 20)
    target = np.empty_like(source)
    book.time("flop", "flop", lambda: a @ b, lambda _: 2.0 * 1024**3)
    book.time("byte", "byte", lambda: np.copyto(target, source), lambda _: 2.0 * source.nbytes)
    return {name: book.work[name] / book.seconds[name] for name in book.work}


def flops(tree: Any) -> float:
    """Of a factorisation: (n - j)^2 for column j of a front with n rows, a multiplication and an addition each half."""
    total = 0.0
    for own, below in zip(np.diff(tree.starts), np.diff(tree.ends), strict=True):
        total += float((np.arange(below + 1, own + below + 1, dtype=np.float64) ** 2).sum())
    return total


def closed_form(book: Book, image: np.ndarray, plane: np.ndarray) -> None:
    """Stages of closed-form matting."""
    unknown, f = plane == UNKNOWN, (plane == FOREGROUND).astype(np.float64)
    windows = (SIZE[0] - 2) * (SIZE[1] - 2)
    # Of a window: 9 x 3 differences, 6 sums of 9 products, some 40 for the inverse, 9 x 3 x 5, and 45 pairs times 9.
    each = 27 * 2 + 6 * 18 + 40 + 135 + 405
    book.time(
        "closed_form: windows", "flop", lambda: grid_stencils.closed_form(image, 1e-7), lambda _: float(windows * each)
    )
    stencil = grid_stencils.closed_form(image, 1e-7, stable=True)  # of every photograph a matrix that has a factor
    system = grid_system.reduce(stencil, f, np.zeros_like(f), unknown)
    tree = book.time("closed_form: order", "pixel", lambda: dissect(system.inside, 2), lambda t: float(len(t.pixels)))
    held = system.held.ravel()
    factor = book.time(
        "closed_form: factor, float32", "flop",
        lambda: factorise(tree, stencil.flat, stencil.steps, held, np.float32), lambda _: flops(tree),
    )  # fmt: skip
    target = system.target.ravel()[tree.pixels].astype(np.float32)
    used = 4.0 * float(factor.at[-1])
    book.time("closed_form: one solve with it", "byte", lambda: factor.solve(target), lambda _: 2 * used)


def knn(book: Book, image: np.ndarray, plane: np.ndarray) -> None:
    """Stages of KNN matting."""
    for k, spread in zip(COUNTS, SPREADS, strict=True):
        points = knn_graph.features(image, spread)
        name = f"knn: k = {k}, "
        book.time(name + "tree", "point", lambda p=points: kdtree.grow(p), lambda t: float(len(t.order)))
        book.time(
            name + "tree and search",
            "point",
            lambda p=points, k=k: neighbours.neighbours(p, k),
            lambda r: float(len(r[1])),
        )
    graph = book.time(
        "knn: searches and graph",
        "link",
        lambda: knn_graph.build(image, COUNTS, SPREADS),
        lambda g: float(len(g.links)),
    )
    f = (plane == FOREGROUND).astype(np.float32).ravel()[graph.order]
    known = (plane != UNKNOWN).ravel()[graph.order]
    s = book.time(
        "knn: reduce",
        "link",
        lambda: knn_graph.reduce(graph, known, f, 100.0),
        lambda s: float(np.count_nonzero(s.weights)),
    )
    p, q = np.ones_like(s.target), np.empty_like(s.target)
    read = 5.0 * len(s.links) + 4 * 4.0 * len(p)  # links and weights, those of weight 0 too; diagonal, p twice, q
    book.time(
        "knn: one product of an iteration", "byte",
        lambda: knn_native._multiply(s.starts, s.links, s.weights, s.diagonal, p, q), lambda _: read,
    )  # fmt: skip
    steps = knn_native.solver(s, 10000)
    tolerance = 1e-8 * 100 * float(np.sqrt(np.count_nonzero(f)))
    book.time("knn: all iterations", "row", lambda: steps(s.target, tolerance), lambda x: float(len(x)))


def main() -> None:
    """Measure; print the table; write bounds.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=Path, required=True, help="folder of photographs, the first five of which count"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for bounds.json")
    given = parser.parse_args()
    bench = Bench(PerfOptions(images=given.images, repeat=5), given.out)
    grid_native.warm("closed_form")
    knn_native.warm()
    peak, book = rates(), Book()
    scenes = [bench.scene(turn, SIZE, 1) for turn in range(5)]
    for scene in scenes:
        for method in (closed_form, knn):
            method(book, scene.image / 255.0, scene.trimap[0])
    rows = {}
    for name, seconds in book.seconds.items():
        rate, unit = book.work[name] / seconds, book.unit[name]
        rows[name] = {
            "seconds": seconds / len(scenes),
            "unit": unit,
            "work": book.work[name] / len(scenes),
            "rate": rate,
        }
        share = f"{100 * rate / peak[unit]:.0f} %" if unit in peak else ""
        print(f"| {name} | {1e3 * seconds / len(scenes):.1f} | {rate / 1e9:.3g} G{unit}/s | {share} |")
    given.out.mkdir(parents=True, exist_ok=True)
    told = {
        "command": "python docs/bounds.py --images DIR --out DIR",
        "core": peak,
        "stages": rows,
        "environment": record.environment(),
    }
    (given.out / "bounds.json").write_text(json.dumps(told, indent=1) + "\n")
    print({name: f"{rate / 1e9:.3g} G/s" for name, rate in peak.items()}, file=sys.stderr)


if __name__ == "__main__":
    main()
