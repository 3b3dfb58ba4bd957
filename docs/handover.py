"""What handing an image from stage to stage costs: a Markdown row for each kind of file, and one for the store itself.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python docs/handover.py --images DIR

Photographs at 375 x 500 with blobs of two classes like class activation maps, cut and solved by random_walk. CPU time,
the median of `--repeat` calls on each photograph, mean over photographs; sizes of files, mean; beside them those of
PNGs by zlib's default strategy, where only runs are compressed otherwise. Maps have 8 pixels a cell. The last line is
what `Store.claim` and `Store.finish` take for a key with a file of each kind for each of `--copies` images, an image:
the lock, the record, the digest of every file, done.json.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np

from matlabel_bench import images, registry, workers
from matlabel_bench.handover import Inputs, load_maps, output, write_maps
from matlabel_bench.images import read_label, write_label
from matlabel_bench.label import make_label, make_scores
from matlabel_bench.perf.clock import seconds_of
from matlabel_bench.perf.plan import Bench, PerfOptions
from matlabel_bench.perf.scenes import Scene
from matlabel_bench.planes import read_planes, write_planes
from matlabel_bench.store import Store
from matlabel_bench.types import Sample

SIZE, CELL, CLASSES, THRESHOLD = (375, 500), 8, 2, 0.5


def median(call: Callable[[], object], repeat: int) -> float:
    """Milliseconds of CPU time."""
    return 1000 * float(np.median([seconds_of(call)[0] for _ in range(repeat)]))


def hand_over(scene: Scene, alpha: np.ndarray, folder: Path, repeat: int) -> dict[str, list[float]]:
    """By kind of file: milliseconds to write and to read, and KiB; milliseconds to write and KiB by zlib's default."""
    trimap, cams = scene.trimap, scene.maps  # made anew whenever they are asked for
    label = make_label(make_scores(alpha, THRESHOLD, cams), np.asarray(scene.tags))
    eight = np.round(alpha * 255).astype(np.uint8)
    small = cams[:, CELL // 2 :: CELL, CELL // 2 :: CELL]
    maps = Sample("maps", folder / "image.jpg", scene.tags)
    ways: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
        "maps": (lambda p: write_maps(p, SIZE, cams=small), lambda _: load_maps(Inputs(maps=folder), maps)),
        "trimap": (lambda p: write_planes(p, trimap, SIZE, {}), read_planes),
        "alpha": (lambda p: write_planes(p, eight, SIZE, {}), read_planes),
        "label": (lambda p: write_label(p, label), lambda p: read_label(p, max(scene.tags))),
    }
    told = {}
    for kind, (write, read) in ways.items():
        path, costs = output(kind, folder, kind), []
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_RLE):  # what is kept last
            with patch.object(images, "RUNS", strategy):
                costs += [median(lambda: write(path), repeat), path.stat().st_size / 1024]  # noqa: B023 - called here
        default, default_size, runs, size = costs
        told[kind] = [runs, default, median(lambda: read(path), repeat), size, default_size]  # noqa: B023 - called here
    return told


def store_cost(folder: Path, copies: int) -> float:
    """Milliseconds an image, of a key that holds the folder's files `copies` times."""
    store = Store(folder / "store")
    slot = store.slot("alpha", "0" * 32)
    start = time.process_time()
    with store.claim(slot, {"stage": "alpha"}, print):
        copied = time.process_time()
        for number in range(copies):
            for path in (p for p in folder.iterdir() if p.is_file()):
                shutil.copy(path, slot.files / f"{number}-{path.name}")
        copied = time.process_time() - copied
        store.finish(slot, 0.0, {})
    return 1000 * (time.process_time() - start - copied) / copies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of photographs; the first five are taken")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--copies", type=int, default=200)
    given = parser.parse_args()
    workers.pin_threads()
    solve = registry.start()[0].make("matting", "random_walk").open(None)
    rows: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = Bench(PerfOptions(images=given.images), folder)
        for turn in range(len(bench.photos)):
            scene = bench.scene(turn, SIZE, CLASSES)
            told = hand_over(scene, solve(scene.image, scene.trimap), folder, given.repeat)
            for kind, numbers in told.items():
                rows.setdefault(kind, []).append(numbers)
        print("| file | ms to write | by default | ms to read | KiB | by default |\n|---|---:|---:|---:|---:|---:|")
        for kind, found in rows.items():
            print(f"| {kind} | {' | '.join(f'{number:.1f}' for number in np.mean(found, axis=0))} |")
        print(f"\nthe store itself, a file of each kind: {store_cost(folder, given.copies):.2f} ms an image")


if __name__ == "__main__":
    main()
